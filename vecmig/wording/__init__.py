"""What is said of events, checks, tags and runs, in the same words wherever a person reads it."""

__all__ = ["checks", "events", "names", "standing"]
