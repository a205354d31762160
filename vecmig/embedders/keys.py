"""Which key goes to which server, and what else of an address must not be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2

from vecmig.config import is_keyless, origin
from vecmig.embedders.base import VARIABLE, expanded
from vecmig.errors import RecipeError, TerminalEmbedderError
from vecmig.model.recipe import OPENAI_KEY, Recipe, is_openai

OPENAI_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Key:
    """The key of one embedder."""

    #: As OpenAI wants it, in ``Authorization: Bearer``; empty where none is sent, or a header of the recipe has it.
    value: str
    #: Whether a key is sent at all.
    sent: bool
    #: What to do when the server refuses it, or wants one.
    hint: str


def find_key(recipe: Recipe, environ: Mapping[str, str], *, url: str, service: str) -> Key:
    """Find the key for the server at ``url``: OpenAI's own goes to OpenAI alone, unless the recipe names it.

    Raises:
        TerminalEmbedderError: there is none for OpenAI, or it is none.
    """
    if (header := recipe.service.authentication) is not None:
        found = VARIABLE.findall((recipe.service.headers or {})[header])
        return Key("", sent=True, hint=f"Check the {f'variable {found[0]}' if found else f'header {header}'}")
    variable = recipe.service.api_key_env or (OPENAI_KEY if is_openai(url) else None)
    if variable is None:
        return Key("", sent=False, hint=_without_variable(environ))
    value = environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise TerminalEmbedderError(f"The variable {variable} holds characters that cannot be in a key.")
    if not value and is_openai(url):
        raise TerminalEmbedderError(
            f"{service} wants a key, and the variable {variable} is not set.", hint=f"Set it: export {variable}=…"
        )
    return Key(value, sent=bool(value), hint=f"Check the variable {variable}{'' if value else ', which is not set'}")


def _without_variable(environ: Mapping[str, str]) -> str:
    if environ.get(OPENAI_KEY):
        return (
            f"The key in {OPENAI_KEY} was not sent: it goes to api.openai.com only, unless a recipe names it. "
            f"If it is for this server, add to the recipe: api_key_env: {OPENAI_KEY}"
        )
    return "Add to the recipe the name of the variable that holds the key: api_key_env: NAME"


def base_url(recipe: Recipe, environ: Mapping[str, str]) -> str:
    """Return the address that requests go to; only its path can hold a secret.

    Raises:
        RecipeError: it is none.
    """
    written = recipe.service.base_url
    if written is None:
        return OPENAI_URL
    url = expanded(written, environ, f"base_url {origin(written)}").rstrip("/")
    try:
        parts = urlsplit(url)
        plain = "@" not in parts.netloc and not parts.query and not parts.fragment and " " not in url
        sound = parts.scheme in ("http", "https") and parts.hostname and plain and parts.port != 0 and httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        sound = False
    if not sound:
        raise RecipeError(
            f"base_url {origin(written)} is not an http or https address without a user, password and query.",
            hint="Write it like http://localhost:8080/v1",
        )
    return url


def address_secrets(written: str, url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what may be a key in an address; its host is none, and no word that was written out in its path.

    Args:
        written: The address as it stands in the recipe.
        url: The same with its variables replaced.
        environ: Where they come from.
    """
    for name in VARIABLE.findall(written):
        # a variable may hold a full address, whose beginning every message repeats
        _, scheme, rest = environ.get(name, "").rpartition("://")
        value = rest.partition("/")[2] if scheme else rest
        if value.strip("/") not in urlsplit(url).netloc:
            yield value.strip("/")
    yield from (part for part in urlsplit(url).path.split("/") if not is_keyless(f"http://host/{part}"))
