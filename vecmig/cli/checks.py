"""Checks as a page and as JSON: those of a gate, and those of the trust in a tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecmig.check import Check
from vecmig.cli import render
from vecmig.wording.checks import asked, found


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
        word = {True: "ok", False: "NO", None: "?"}[check.passed]
        rows.append((f"  {word}", check.name, found(check), asked(check), check.detail))
    render.columns(rows, heads=("", "check", "value", "required", ""))
