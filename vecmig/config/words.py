"""Small helpers for messages about configuration: file names, near misses, counts."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


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
