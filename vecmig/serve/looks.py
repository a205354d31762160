"""Look at a project now and then, however many ask and however often: what is shown says how old it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")

#: Seconds between two looks that count records.
EVERY: Final = 30.0
#: Seconds for which whoever asks waits for a newer look where there is an older one.
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What was seen last."""

    #: None before the first look that came to its end.
    seen: T | None
    #: Why the last look came to nothing; None where it did not.
    error: Exception | None
    #: Seconds since what is shown was measured.
    age: float

    def of(self, part: Callable[[T], S]) -> Look[S]:
        """Return a part of what was seen."""
        return Look(None if self.seen is None else part(self.seen), self.error, self.age)


class Looks(Generic[T]):
    """Shares one look among all who ask. Safe for several threads."""

    def __init__(self, look: Callable[[], T], *, every: float = EVERY) -> None:
        """Look at nothing yet.

        Args:
            look: what is shared.
            every: seconds from the end of one look to the beginning of the next, at least.
        """
        self._look = look
        self._every = every
        self._lock = threading.Lock()
        self._looking: threading.Event | None = None
        self._seen: T | None = None
        self._error: Exception | None = None
        self._seen_at = self._ended_at = -float("inf")

    def latest(self) -> Look[T]:
        """Return what was seen last, and look again if that is too long ago.

        Whoever comes meanwhile waits for the same look: for the first one until it has ended, for another one for some
        seconds, after which the older one is returned.
        """
        with self._lock:
            if self._looking is None and time.monotonic() - self._ended_at >= self._every:
                self._looking = threading.Event()
                threading.Thread(target=self._again, args=[self._looking], name="vecmig-look", daemon=True).start()
            looking, patience = self._looking, None if self._ended_at < 0 else _PATIENCE
        if looking is not None:
            looking.wait(patience)
        with self._lock:
            return Look(self._seen, self._error, time.monotonic() - self._seen_at)

    def _again(self, ended: threading.Event) -> None:
        began = time.monotonic()
        try:
            seen, error = self._look(), None
        except Exception as caught:  # noqa: BLE001  # who asks is told of it
            seen, error = None, caught
        with self._lock:
            if error is None:
                self._seen, self._seen_at = seen, began
            self._error, self._ended_at, self._looking = error, time.monotonic(), None
        ended.set()
