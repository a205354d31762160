"""What a request to an OpenAI-compatible server says beside the texts: other fields of its body, and headers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import openai

from vecmig.embedders.base import VARIABLE, expanded
from vecmig.embedders.embedder import Kind
from vecmig.errors import RecipeError
from vecmig.model.recipe import Recipe

#: Headers that the SDK makes of OPENAI_ORG_ID and OPENAI_PROJECT_ID.
_FOR_OPENAI: Final = ("OpenAI-Organization", "OpenAI-Project")


def body(recipe: Recipe, kind: Kind, *, at_openai: bool) -> dict[str, Any]:
    """Return the fields of a request's body without ``input``."""
    encoding = recipe.service.encoding_format or ("base64" if at_openai else "float")
    own: dict[str, Any] = {"model": recipe.service.request_model or recipe.model, "encoding_format": encoding}
    if recipe.model.startswith("text-embedding-3"):
        own["dimensions"] = recipe.dims
    added = dict(recipe.request or {})
    if kind == "query":
        added |= recipe.query_request or {}
    return added | own


def headers(recipe: Recipe, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the recipe's headers with their variables replaced.

    Raises:
        RecipeError: a variable is not set, or holds what no header can carry.
    """
    return {name: _value(name, text, environ) for name, text in (recipe.service.headers or {}).items()}


def _value(name: str, text: str, environ: Mapping[str, str]) -> str:
    # a variable that was read from a file often ends with its line break
    value = expanded(text, environ, f"The header {name}").strip()
    variables = " and ".join(VARIABLE.findall(text))
    if not value:
        raise RecipeError(f"The header {name} would be empty.", hint=f"Check the variable {variables}")
    if not (value.isascii() and value.isprintable()):
        raise RecipeError(
            f"The header {name} would hold a line break or another character that no header can carry.",
            hint=f"Check the variable {variables}",
        )
    return value


def without_ambient() -> Mapping[str, Any]:
    """Return what keeps the SDK from sending to another server what the environment has for OpenAI."""
    written = os.environ.get("OPENAI_CUSTOM_HEADERS", "")
    named = (line.partition(":")[0].strip() for line in written.split("\n") if ":" in line)
    return dict.fromkeys([*_FOR_OPENAI, *named], openai.omit)


def secrets(recipe: Recipe, environ: Mapping[str, str]) -> list[str]:
    """Return what the recipe's headers take from the environment."""
    written = (recipe.service.headers or {}).values()
    return [environ.get(variable, "") for text in written for variable in VARIABLE.findall(text)]
