"""What tests read of a check."""

from __future__ import annotations

from vecmig.check import Check


def said(check: Check) -> str:
    """Return what a check says is to be done; it must say something."""
    assert check.remedy is not None, check.name
    return check.remedy.text
