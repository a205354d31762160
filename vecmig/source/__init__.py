"""The user's table: what its catalog says, its keys, and the expressions over it.

Other packages use these modules; the rest is for themselves.
"""

__all__ = ["catalog", "checks", "facts", "key_types", "keys", "relations", "resolving", "source"]
