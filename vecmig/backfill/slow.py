"""Know which record has been on its way for long, for those who watch a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from vecmig.source.keys import Key

#: Seconds from which on something takes long, and between two times that it is told.
LONG: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Step:
    """Something that is done to one record."""

    #: Which record, and what is done to it, in words.
    what: str
    since: float


@dataclass(slots=True)
class Slow:
    """The records at work, each with what is done to it and since when. Any thread may call any method."""

    collection: str
    #: Told which record takes long, as long as it does.
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _steps: dict[int, _Step] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _told: float = float("-inf")

    @contextmanager
    def step(self, key: Key, what: str) -> Iterator[None]:
        """Take note of what is done to a record, for as long as the block takes."""
        step = _Step(f"record {', '.join(key)} of {self.collection}: {what}", self.clock())
        with self._turn:
            self._steps[id(step)] = step
        try:
            yield
        finally:
            with self._turn:
                del self._steps[id(step)]

    @property
    def reason(self) -> str | None:
        """Which record has taken longest, and over LONG seconds; None where none has."""
        with self._turn:
            step = min(self._steps.values(), key=lambda step: step.since, default=None)
        return step.what if step is not None and self.clock() - step.since >= LONG else None

    def look(self) -> None:
        """Tell, if a record takes long and nothing was told in the last LONG seconds."""
        reason = self.reason
        if reason is not None and self.clock() - self._told >= LONG:
            self._told = self.clock()
            self.tell(reason)
