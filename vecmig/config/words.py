"""Small helpers for messages about configuration: file names, near misses, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_PASSWORD_PARAMETER = re.compile(r"((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]*)", re.IGNORECASE)
_SECRETIVE = re.compile(r"\S*(?:://|password)\S*", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: What follows the host where a port would, in a URL whose ``@host`` was forgotten.
_NOT_A_PORT = re.compile(r"^([^/?:\[]*):(?!\d*(?:[,/?]|$))[^/?]*")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` was probably meant to be, or an empty text."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is not a known ``what``, with the nearest known name, else with all of them."""
    names = list(known)
    close = nearest(name, names)
    return f"unknown {what} {name!r}; " + (f"did you mean {close}?" if close else f"known: {', '.join(names)}")


def counted(number: float, one: str, many: str | None = None) -> str:
    """Write a number with its noun: 1 record, 2 records, 0.5 days."""
    return f"{number:,} {noun(number, one, many)}"


def noun(number: float, one: str, many: str | None = None) -> str:
    """Give a noun as it stands after a number."""
    return one if number == 1 else many or f"{one}s"


def shown(path: Path) -> str:
    """Write a path the way the user would: relative to the working directory where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def without_passwords(text: str) -> str:
    """Make one line of a text that comes from elsewhere, with the words redacted that may hold a password."""
    return _SECRETIVE.sub(lambda word: redact(word[0]), " ".join(text.split()))


def redact(url: str) -> str:
    """Replace the password of a database URL or connection string by ``***``, however malformed it is."""
    scheme = _SCHEME.match(url)
    start = scheme.end() if scheme else 0
    userinfo, at, host = url[start:].rpartition("@")
    user, colon, _ = userinfo.partition(":")
    rest = f"{user}{colon and ':***'}@{host}" if at else host
    if scheme and not at:
        rest = _NOT_A_PORT.sub(r"\1:***", rest)
    return _PASSWORD_PARAMETER.sub(r"\1***", url[:start] + rest)
