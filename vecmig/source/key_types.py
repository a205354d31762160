"""Whether a key's type became wider, and what PostgreSQL does to follow it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vecmig.source.keys import KeyColumn

_INTEGERS: Final = ("smallint", "integer", "bigint")
#: Types of which a larger modifier, or none, takes all values of a smaller one, each as it is.
_MODIFIED: Final = re.compile(r"(?P<name>[a-z ]+?)\((?P<size>\d+)(?:,(?P<scale>\d+))?\)(?P<rest>[a-z ]*)")
_TEXTS: Final = ("text", "character varying")


def is_wider(then: str, now: str) -> bool:
    """Whether a type takes all values of another one, and writes each as that did: keys travel as text."""
    if then == now:
        return True
    if then in _INTEGERS and now in _INTEGERS:
        return _INTEGERS.index(then) < _INTEGERS.index(now)
    name, size, scale = _parts(then)
    new_name, new_size, new_scale = _parts(now)
    if name in _TEXTS and new_name in _TEXTS:
        return new_size is None or (size is not None and size <= new_size)
    if name not in ("character varying", "numeric", "bit varying") or name != new_name or size is None:
        return False
    return new_size is None or (size <= new_size and scale == new_scale)


def _parts(type_name: str) -> tuple[str, int | None, int]:
    found = _MODIFIED.fullmatch(type_name)
    if found is None:
        return type_name, None, 0
    return found["name"] + found["rest"], int(found["size"]), int(found["scale"] or 0)


def rewrites(then: Sequence[str], now: Sequence[KeyColumn]) -> bool:
    """Whether PostgreSQL writes the vectors again for it: texts and numbers lie as they did, integers do not."""
    return any(old != column.type and old in _INTEGERS for old, column in zip(then, now, strict=True))
