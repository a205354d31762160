"""What monitoring asks of a project, and what people look at (the extra ``web``)."""

__all__ = ["looks", "metrics", "site"]
