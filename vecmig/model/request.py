"""What a recipe adds to the requests of its provider: fields of the body, and headers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Headers by which a server knows who asks. Where a recipe has one, no other key is sent.
AUTHENTICATION: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})

#: Fields of the body that are vecmig's own, and what says the same in a recipe.
_OWN_FIELDS: Final = {
    "input": "document_prompt and query_prompt say what stands around a text",
    "model": "the tag names the model; request_model is for another name of it",
    "encoding_format": "write it beside request, as encoding_format of the recipe",
}
#: Headers that belong to the connection, or describe a body that vecmig writes and an answer that it must read.
_OWN_HEADERS: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "expect", "host"),
        *("content-length", "content-type", "content-encoding", "accept", "accept-encoding"),
    }
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_KEY_NAME: Final = re.compile(
    r"(.*[_-])?(api[_-]?key|(access|auth)[_-]?token|secret|password|credentials?|authorization)", re.IGNORECASE
)
_KEY_LIKE: Final = re.compile(r"\b(sk|pk|key)-(?=[\w-]*\d)[\w-]{16,}")
_USE_HEADERS: Final = "a body is stored with the recipe; send keys by headers"


def canonical(value: Any) -> Any:
    """Return a JSON value with one way to write each number, so that PostgreSQL gives back what it was given."""
    if isinstance(value, Mapping):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def body_problems(value: Any, *, model: str, dims: int) -> Iterator[str]:
    """Yield what is wrong with ``request`` or ``query_request`` of a recipe; never a value, which may be a key."""
    if not isinstance(value, Mapping):
        yield "a mapping of the body's fields is needed, like {input_type: document}"
        return
    for name in value:
        if name in _OWN_FIELDS:
            yield f"vecmig sets {name} by itself: {_OWN_FIELDS[name]}"
    if "dimensions" in value and model.startswith("text-embedding-3"):
        yield "vecmig sets dimensions by itself for this model; take it out"
    elif "dimensions" in value and (isinstance(value["dimensions"], bool) or value["dimensions"] != dims):
        yield f"dimensions must be {dims}, the dims of the tag"
    yield from _value_problems("", value)


def _value_problems(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _field_problems(path, name, item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _value_problems(f"{path}[{place}]", item)
    elif isinstance(value, str):
        if what := _text_problem(value):
            yield f"{path} {what}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path} is a number that JSON cannot write"
    elif value is not None and not isinstance(value, bool | int | float):
        yield f"{path} is a {type(value).__name__}, which JSON does not have; quote it"


def _field_problems(path: str, name: object, value: Any) -> Iterator[str]:
    if not isinstance(name, str):
        yield "a name in it is not a text; quote it"
    elif what := _text_problem(name):
        yield f"a name in it {what}"
    elif _KEY_NAME.fullmatch(name):
        yield f"{name} may be a key: {_USE_HEADERS}"
    else:
        yield from _value_problems(f"{path}.{name}" if path else name, value)


def _text_problem(text: str) -> str:
    if "${" in text:
        return f"holds ${{…}}, and no variable is replaced in a body: {_USE_HEADERS}"
    if _KEY_LIKE.search(text):
        return f"looks like a key: {_USE_HEADERS}"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "holds a character that PostgreSQL cannot store"
    return ""


def header_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with ``headers`` of a recipe; never a value, which may be a key."""
    if not isinstance(value, Mapping):
        yield "a mapping of names to texts is needed, like {api-key: '${AZURE_OPENAI_API_KEY}'}"
        return
    seen: set[str] = set()
    for name, text in value.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            yield "a name is not that of a header: letters, digits and - are"
            continue
        if name.lower() in _OWN_HEADERS:
            yield f"{name} belongs to the connection, or vecmig sets it by itself; take it out"
        if name.lower() in seen:
            yield f"{name} stands there twice; capitals make no difference"
        seen.add(name.lower())
        if not isinstance(text, str) or not text.strip():
            yield f"the value of {name} is not a text"
        elif not (text.isascii() and text.isprintable()):
            yield f"the value of {name} holds a line break or another character that no header can carry"
        elif "${" in VARIABLE.sub("", text):
            yield f"the value of {name} holds a variable that is not written as ${{NAME}}"
