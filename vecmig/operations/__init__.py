"""The ``m`` of a revision script: what it can do, and what does it."""

from vecmig.operations.interface import Migration

__all__ = ["Migration"]
