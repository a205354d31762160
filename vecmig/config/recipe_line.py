"""Write a recipe as collections.yaml has it."""

from __future__ import annotations

from typing import Any, Final

import yaml

from vecmig.config.redaction import address, is_keyless_header
from vecmig.model.recipe import Recipe

#: What a recipe has where nothing is written.
_USUAL: Final = Recipe("", "", 0).to_mapping()


def recipe_line(tag: str, recipe: Recipe) -> str:
    """Return ``tag: {…}`` without what need not be said, and without what may be a key."""
    if recipe.derive is not None:
        fields: dict[str, Any] = {"derive": {"from": recipe.derive, "dims": recipe.dims}}
        return yaml.safe_dump({tag: fields}, default_flow_style=True, width=10_000, sort_keys=False).strip()[1:-1]
    fields = {name: value for name, value in recipe.to_mapping().items() if value != _USUAL.get(name)}
    if url := fields.get("base_url"):
        fields["base_url"] = address(url, url)
    if headers := fields.get("headers"):
        fields["headers"] = {
            name: value if is_keyless_header(name, value) else "***" for name, value in headers.items()
        }
    return yaml.safe_dump({tag: fields}, default_flow_style=True, width=10_000, sort_keys=False).strip()[1:-1]
