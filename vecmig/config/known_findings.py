"""Findings of an audit that a team knows of: ``ignore:`` in collections.yaml, each with a reason and an end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from vecmig.config.values import Problems, Value

_FIELDS: Final = ("finding", "collection", "object", "reason", "until")
_EXAMPLE: Final = "{finding: untagged vectors, reason: it goes with release 12, until: 2027-01-31}"


@dataclass(frozen=True, slots=True)
class KnownFinding:
    """A finding that is ignored for a while, and why."""

    #: What the audit calls it.
    finding: str
    reason: str
    #: The last day on which it is ignored, by the database's clock in UTC.
    until: date
    #: Where the entry stands in collections.yaml.
    line: int
    #: Of this collection, and about this object, alone; None for any.
    collection: str | None = None
    object: str | None = None


def read_known_findings(problems: Problems, value: Value | None) -> tuple[KnownFinding, ...]:
    """Read ``ignore:``, and note what is wrong with it."""
    if value is None or value.data is None:
        return ()
    if not isinstance(value.data, list):
        problems.add(value.line, f"ignore must be a list like [{_EXAMPLE}]")
        return ()
    return tuple(_entries(problems, value.data))


def _entries(problems: Problems, entries: list[Value]) -> Iterator[KnownFinding]:
    for entry in entries:
        if not isinstance(entry.data, dict):
            problems.add(entry.line, f"ignore: {entry.plain()!r} is no entry like {_EXAMPLE}")
            continue
        before = len(problems.found)
        problems.refuse_unknown(entry.data, _FIELDS)
        texts = {
            name: _text(problems, entry, name, needed=name in ("finding", "reason"))
            for name in ("finding", "reason", "collection", "object")
        }
        until = _until(problems, entry)
        if until is not None and len(problems.found) == before:
            yield KnownFinding(
                finding=texts["finding"] or "",
                reason=texts["reason"] or "",
                until=until,
                line=entry.line,
                collection=texts["collection"],
                object=texts["object"],
            )


def _text(problems: Problems, entry: Value, name: str, *, needed: bool) -> str | None:
    value = entry.data.get(name)
    if value is None or value.data is None:
        if needed:
            problems.add(entry.line, f"ignore: {name} is missing; write {_EXAMPLE}")
        return None
    if not isinstance(value.data, str) or not value.data.strip():
        problems.add(value.line, f"ignore: {name}: {value.written!r} is not a text")
        return None
    return value.data.strip()


def _until(problems: Problems, entry: Value) -> date | None:
    value = entry.data.get("until")
    if value is None or value.data is None:
        problems.add(entry.line, f"ignore: until is missing, the last day on which it is ignored; write {_EXAMPLE}")
        return None
    if isinstance(value.data, date) and not isinstance(value.data, datetime):
        return value.data
    try:
        return date.fromisoformat(value.written)
    except ValueError:
        problems.add(value.line, f"ignore: until: {value.written!r} is not a day like 2027-01-31")
        return None
