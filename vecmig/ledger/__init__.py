"""Vecmig's own tables: revisions, tags, routes, events, and what runs and readers note.

Other packages use these modules; the rest is for themselves.
"""

__all__ = [
    "access",
    "batch_orders",
    "belongings",
    "control",
    "evals",
    "failures",
    "history",
    "identity",
    "install",
    "keeping",
    "learned_limits",
    "ledger",
    "part",
    "phases",
    "recipe_check",
    "recorded",
    "revisions",
    "rows",
    "schema",
    "shadows",
    "spend",
    "trust_clock",
    "trusted_recipes",
]
