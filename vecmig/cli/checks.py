"""Checks as a page and as JSON: those of a gate, and those of the trust in a tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecmig.check import Check, Required
from vecmig.cli import render
from vecmig.text import percent, percent_up


def check_json(check: Check) -> dict[str, Any]:
    """Return a check as the documented JSON."""
    return {
        "name": check.name,
        "passed": check.passed,
        "value": check.value,
        "required": None if check.required is None else check.required.value,
        "detail": check.detail,
    }


def show_checks(checks: Sequence[Check]) -> None:
    """Print checks, one a line."""
    rows = []
    for check in checks:
        word, required = {True: "ok", False: "NO", None: "?"}[check.passed], check.required
        threshold = "-" if required is None else _value(required.value, required)
        if required is not None and required.bound != "=":
            threshold = f"{required.bound} {threshold}"
        rows.append((f"  {word}", check.name, _value(check.value, required), threshold, check.detail))
    render.columns(rows, heads=("", "check", "value", "required", ""))


def _value(value: float | str | None, required: Required | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and required is not None and required.share:
        return percent_up(value) if required.bound == "≤" else percent(value)
    if isinstance(value, str):
        return value
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
