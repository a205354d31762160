"""The ``m`` of a revision script: what it can do, and what does it."""

from vecmig.operations.migration import Migration

__all__ = [
    "Migration",
    "adopt",
    "context",
    "embedders",
    "following",
    "indexing",
    "judging",
    "leaving",
    "missing",
    "placing",
    "recipes",
    "rollback_gate",
    "run_locks",
    "script",
]
