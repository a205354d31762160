"""Checks in words: those of a gate, and those of the trust in a tag."""

from __future__ import annotations

from vecmig.check import Check, Required
from vecmig.text import percent, percent_up


def found(check: Check) -> str:
    """Write what a check has found: 98.2 %, 3, valid; - where it was not measured."""
    return _value(check.value, check.required)


def asked(check: Check) -> str:
    """Write what a check asks for: ≥ 99.5 %, 0, valid; - where there is nothing to measure."""
    required = check.required
    if required is None:
        return "-"
    value = _value(required.value, required)
    return value if required.bound == "=" else f"{required.bound} {value}"


def _value(value: float | str | None, required: Required | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and required is not None and required.share:
        return percent_up(value) if required.bound == "≤" else percent(value)
    if isinstance(value, str):
        return value
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
