"""What the gate says to one condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    #: How ``required`` is read: as the least that holds, as the most, or, where this is empty, as it stands.
    bound: Literal["≥", "≤", ""] = ""
    #: Whether the figures are shares, from 0 to 1.
    share: bool = False
    #: The command in the remedy, where one command is all that is to be done.
    command: str | None = None
    #: Whether ``vecmig upgrade`` itself does what the remedy says before it comes to the gate.
    upgrade_does: bool = False
