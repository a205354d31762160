"""What the gate says to one condition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of the gate."""

    name: str
    #: None where it was not looked at.
    passed: bool | None
    value: float | str | None
    required: float | str | None
    #: What was found, in figures.
    detail: str
    #: What to run or change when it failed.
    remedy: str = ""
