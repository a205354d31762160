"""The demo: the full story of a migration, on real input, without a key or a network."""

__all__ = ["home", "story"]
