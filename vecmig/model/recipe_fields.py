"""What each field of a recipe must be, one at a time; ``tags`` says what they must be together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

#: The one that talks to a server is the first.
PROVIDERS: Final = ("openai", "wordllama", "sentence-transformers", "python")


def _one_of(*choices: str) -> Any:
    def check(value: Any) -> bool:
        return value in choices

    check.__doc__ = "one of " + ", ".join(choices)
    return check


def _text(value: Any) -> bool:
    """a text"""
    return isinstance(value, str) and bool(value.strip())


def _prompt(value: Any) -> bool:
    """a text with {text} in it"""
    return isinstance(value, str) and "{text}" in value


def is_count(value: Any) -> bool:
    """a whole number from 1"""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_amount(value: Any) -> bool:
    """a number from 0"""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _amount_above_0(value: Any) -> bool:
    """a number above 0"""
    return is_amount(value) and value > 0


def _seconds(value: Any) -> bool:
    """a number of seconds above 0"""
    return _amount_above_0(value)


def _environment_name(value: Any) -> bool:
    """the name of an environment variable (the key itself never stands in a file)"""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) is not None


def _url(value: Any) -> bool:
    """a URL without a user, password and query"""
    return isinstance(value, str) and re.fullmatch(r"(https?://[^/@?]*(/|$)|\$\{)[^?]*", value) is not None


def _callable(value: Any) -> bool:
    """of the form package.module:function"""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value) is not None


def _flag(value: Any) -> bool:
    """true or false"""
    return isinstance(value, bool)


def _chunking(value: Any) -> bool:
    """a mapping like {size: 512, unit: tokens, overlap: 64}"""
    if value is None:
        return True
    if not isinstance(value, Mapping) or not {"size"} <= set(value) <= {"size", "unit", "overlap"}:
        return False
    overlap = value.get("overlap", 0)
    whole = isinstance(overlap, int) and not isinstance(overlap, bool) and overlap >= 0
    return is_count(value["size"]) and value.get("unit", "tokens") in ("tokens", "characters") and whole


def _anything(value: Any) -> bool:  # noqa: ARG001  # the others take a value
    """checked with the rest of the recipe"""
    return True


def _derivation(value: Any) -> bool:
    """a mapping like {from: TAG, dims: 1024}"""
    return isinstance(value, str) and bool(value)


def no_version(url: object) -> str:
    """Say where Azure is reached without a version in the address; nothing where that is not what was meant."""
    azure = isinstance(url, str) and "api-version" in url
    return "; Azure's address that wants no version is https://RESOURCE.openai.azure.com/openai/v1" if azure else ""


#: Fields whose value is not repeated: a key or a password may have been pasted into the wrong place.
SECRETIVE: Final = ("base_url", "api_key_env", "request_model")
#: What each field of a recipe is checked with; the docstring says what it must be.
FIELDS: Final[dict[str, Any]] = {
    "provider": _one_of(*PROVIDERS),
    "model": _text,
    "dims": is_count,
    "chunk": _chunking,
    "document_prompt": _prompt,
    "query_prompt": _prompt,
    "normalise": _one_of("apply", "verify", "none"),
    "callable": _callable,
    "too_long": _one_of("reject", "cut"),
    "derive": _derivation,
    "request": _anything,
    "query_request": _anything,
    "base_url": _url,
    "headers": _anything,
    "request_model": _text,
    "api_key_env": _environment_name,
    "encoding_format": _one_of("base64", "float"),
    "price_per_million_tokens": is_amount,
    "batch": _flag,
    "max_batch": is_count,
    "max_batch_tokens": is_count,
    "concurrency": is_count,
    "timeout": _seconds,
    "requests_per_minute": is_count,
    "tokens_per_minute": is_count,
    "budget_usd": _amount_above_0,
    "ray_address": _text,
    "num_cpus": _amount_above_0,
    "num_gpus": is_amount,
}
