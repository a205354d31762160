"""Find a condition that tells some records from the others: those of one model from those of another. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

#: How JSON has a time; other texts have an order of the database's own.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d")
#: Longer texts are no marks of a kind.
_LONGEST: Final = 80


def condition_apart(records: Sequence[Mapping[str, Any]], chosen: Sequence[bool]) -> str:
    """Return a SQL condition that holds for the chosen records alone; empty where no column tells them apart.

    Args:
        records: the columns of each, as JSON has them.
        chosen: which of them it is about.
    """
    columns = list(records[0]) if records else []
    for told in (_by_value, _by_order):
        for column in columns:
            ours = [record.get(column) for record, mine in zip(records, chosen, strict=True) if mine]
            others = [record.get(column) for record, mine in zip(records, chosen, strict=True) if not mine]
            if found := told(_quoted(column), ours, others):
                return found
    return ""


def _by_value(column: str, ours: Sequence[Any], others: Sequence[Any]) -> str:
    """Tell by a value that all of them share and no other has, such as a model's name."""
    first = ours[0]
    if any(value != first for value in ours) or first in others:
        return ""
    if first is None:
        return f"{column} IS NULL"
    # of a single record each value is its own
    shared = len(ours) > 1 or len(set(map(str, others))) < len(others)
    return f"{column} = {_literal(first)}" if shared and isinstance(first, str | int) and _is_mark(first) else ""


def _by_order(column: str, ours: Sequence[Any], others: Sequence[Any]) -> str:
    """Tell by an order that they stand in, such as a number that grows or a time."""
    values = [*ours, *others]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    times = all(isinstance(value, str) and _TIME.match(value) for value in values)
    if not (numbers or times) or len(ours) < 2:
        return ""
    if max(ours) < min(others):
        return f"{column} < {_literal(min(others))}"
    if min(ours) > max(others):
        return f"{column} > {_literal(max(others))}"
    return ""


def _is_mark(value: Any) -> bool:
    return not isinstance(value, str) or len(value) <= _LONGEST


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _quoted(column: str) -> str:
    plain = column.isidentifier() and column == column.lower()
    return column if plain else '"' + column.replace('"', '""') + '"'
