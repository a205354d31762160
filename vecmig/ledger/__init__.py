"""Vecmig's own tables: revisions, tags, routes, events, and what runs and readers note.

Other packages use these modules; the rest is for themselves.
"""

__all__ = [
    "access",
    "belongings",
    "control",
    "evals",
    "identity",
    "learned_limits",
    "ledger",
    "recipe_check",
    "recorded",
    "rows",
    "schema",
    "shadows",
    "spend",
    "trust_clock",
    "trusted_recipes",
]
