"""How figures, names and nouns are written for people, wherever vecmig says something. One way each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Final

#: What a share is written in: hundredths of a percent.
_HUNDREDTH: Final = Decimal("0.01")
_UNITS: Final = (("GB", 2**30), ("MB", 2**20), ("kB", 2**10))


def count(number: float) -> str:
    """Write a number with its thousands apart: 7,596."""
    return f"{number:,}"


def counted(number: float, one: str, many: str | None = None) -> str:
    """Write a number with its noun: 1 record, 7,596 records, 0.5 days."""
    return f"{count(number)} {noun(number, one, many)}"


def noun(number: float, one: str, many: str | None = None) -> str:
    """Return a noun as it stands after a number."""
    return one if number == 1 else many or f"{one}s"


def percent_of(part: int, total: int) -> str:
    """Write how much of a total a part is, never more than it is: 57 of 100 is 57 %, and 100 % means all of it."""
    if not total:
        return "100 %"
    return _percent(Decimal(part * 10_000 // total) / 100, more=part > 0)


def percent(share: float) -> str:
    """Write a share from 0 to 1 as a percentage, never more than it is: 0.99996 is 99.99 %.

    The share is taken for the shortest number that stands for it. That of two counts below 10^11 is therefore written
    exactly, and 0.57 is 57 %, although its binary form lies below.
    """
    exact = _exact(share)
    return _percent(exact.quantize(_HUNDREDTH, ROUND_FLOOR), more=exact > 0)


def percent_up(share: float) -> str:
    """Write a share that must stay small as a percentage, never less than it is: 0.00001 is 0.01 %."""
    return _percent(_exact(share).quantize(_HUNDREDTH, ROUND_CEILING))


def _exact(share: float) -> Decimal:
    return Decimal(repr(float(share))) * 100


def _percent(hundredths: Decimal, *, more: bool = False) -> str:
    if more and not hundredths:
        return "<0.01 %"
    return f"{hundredths.normalize():f} %"


def duration(seconds: float) -> str:
    """Write a duration: 6.2 ms, 31 ms, 0.2 s, 12 s, 3 min 20 s, 1 h 5 min, 2 d 3 h."""
    if 0 < seconds < 0.0995:
        return f"{_short(seconds * 1000)} ms"
    if seconds < 59.5:
        return f"{_short(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _pair(minutes, "min", rest, "s")
    hours, rest = divmod(round(seconds / 60), 60)
    if hours < 48:
        return _pair(hours, "h", rest, "min")
    days, rest = divmod(round(seconds / 3_600), 24)
    return _pair(days, "d", rest, "h")


def _short(value: float) -> str:
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.{2 if value < 0.995 else 1}f}".rstrip("0").rstrip(".")


def _pair(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large:,} {unit} {small} {smaller}" if small else f"{large:,} {unit}"


def data_size(number: float) -> str:
    """Write a number of bytes as PostgreSQL counts them: 512 kB, 1,234.5 MB, 2.1 GB."""
    unit, each = next(((unit, each) for unit, each in _UNITS if number >= each), _UNITS[-1])
    return f"{number / each:,.1f}".removesuffix(".0") + f" {unit}"


def money(usd: float) -> str:
    """Write an amount of US dollars that is not below 0: $0.0126, $0.50, $1,234.00.

    Below a dollar it has up to four places, and as many more as keep it from looking like nothing.
    """
    if 0 < usd < 0.0001:
        return f"${usd:.{1 - math.floor(math.log10(usd))}f}"
    if usd >= 1:
        return f"${usd:,.2f}"
    cents, rest = f"${usd:.4f}"[:-2], f"{usd:.4f}"[-2:].rstrip("0")
    return cents + rest


def one_line(text: str | None, most: int = 300) -> str | None:
    """Return what a person wrote as one line of at most so many characters; None where that is nothing."""
    parts = (part.strip(" \t") for part in (text or "").replace("\r\n", "\n").split("\n"))
    line = " ".join(filter(None, parts))
    return (line if len(line) <= most else f"{line[: most - 1]}…") or None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` was probably meant to be, or an empty text."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is not a known ``what``, with the nearest known name, else with all of them."""
    names = list(known)
    close = nearest(name, names)
    return f"unknown {what} {name!r}; " + (f"did you mean {close}?" if close else f"known: {', '.join(names)}")


def shown(path: Path) -> str:
    """Write a path the way the user would: relative to the working directory where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join names with commas, and say how many more there are after ``limit`` of them."""
    known = list(names)
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more
