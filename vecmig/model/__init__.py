"""The pure values that everything is made of: tags, recipes, gates and collections.

Other packages use these modules; the rest is for themselves.
"""

__all__ = ["adoption", "collection", "gate", "index", "recipe", "recipe_fields", "request", "tag"]
