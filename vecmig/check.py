"""One condition that is judged, of a gate or of the trust in a tag: a pure value that errors and reports carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Required:
    """What the value of a check must be: a number and how it is read, or words that say it all."""

    value: float | str
    #: At least, at most, or exactly this.
    bound: Literal["≥", "≤", "="] = "="
    #: Whether it and the value are shares, from 0 to 1.
    share: bool = False


class By(Enum):
    """Who does what a remedy asks for."""

    #: ``vecmig upgrade`` itself, before it comes to the gate.
    UPGRADE = "upgrade"
    #: ``vecmig sync``, which may be at work already.
    SYNC = "sync"
    #: A person.
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What makes a check hold."""

    #: What to run or change, in a sentence.
    text: str
    #: The command, where one command is all that is to be done.
    command: str | None = None
    by: By = By.PERSON

    @classmethod
    def run(cls, command: str, by: By = By.PERSON) -> Remedy:
        """Return the remedy that is one command."""
        return cls(f"Run: {command}", command, by)


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and what was found."""

    name: str
    #: None where it was not measured.
    passed: bool | None
    value: float | str | None
    #: None where there is nothing to measure.
    required: Required | None
    #: What was found, in figures.
    detail: str
    #: None where nothing is to be done.
    remedy: Remedy | None = None
