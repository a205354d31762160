"""Know whether a provider answers: what is in flight without an answer, and what has failed since the last one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from vecmig.errors import PoisonInputError, TransientEmbedderError
from vecmig.text import duration

#: Seconds without an answer from which on that is worth a word.
LONG: Final = 10.0


class Pulse:
    """Keeps the times at which requests were sent, answered and refused. Its user holds a lock.

    Time for which requests are held back does not make a provider silent: no request asks it then.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_flight: list[float] = []
        self._heard_at = self._answered_at = -math.inf
        self._failing_since: float | None = None
        self._held_at: float | None = None
        #: How the last request failed, if none was answered since.
        self.trouble: str | None = None

    @property
    def in_flight(self) -> int:
        """How many requests have no answer yet."""
        return len(self._in_flight)

    def sent(self, at: float) -> None:
        """Enter a request."""
        self._in_flight.append(at)

    def answered(self, sent_at: float) -> None:
        """Enter its answer."""
        self._lives(sent_at)
        self.trouble = None

    def failed(self, sent_at: float, error: BaseException) -> None:
        """Enter that it came to nothing, and why."""
        if isinstance(error, PoisonInputError):
            # it refuses these texts, so it reads them
            self._lives(sent_at)
            return
        self._ended(sent_at)
        if isinstance(error, TransientEmbedderError):
            self.trouble = error.message.removesuffix(".")
            if self._failing_since is None:
                self._failing_since = max(sent_at, self._answered_at)

    def _lives(self, sent_at: float) -> None:
        self._ended(sent_at)
        self._answered_at, self._failing_since = self._heard_at, None

    def _ended(self, sent_at: float) -> None:
        self._in_flight.remove(sent_at)
        self._heard_at = self._clock()

    def hold(self, *, held: bool) -> None:
        """Enter that requests are held back, or let go on."""
        if held:
            self._held_at = self._clock() if self._held_at is None else self._held_at
        elif self._held_at is not None:
            if self._failing_since is not None:
                self._failing_since += self._clock() - max(self._held_at, self._failing_since)
            self._held_at = None

    def silent_for(self) -> float:
        """Return the seconds for which no request was answered, since the first of those that failed was sent."""
        if self._failing_since is None:
            return 0.0
        until = self._clock() if self._held_at is None else self._held_at
        return max(0.0, until - self._failing_since)

    def silence(self) -> str | None:
        """Say for how long the provider has said nothing to what is in flight; None where that is not long."""
        seconds = self.unanswered_for()
        return f"the provider has not answered for {duration(round(seconds))}" if seconds >= LONG else None

    def words(self, next_try: float | None) -> str | None:
        """Say what is waited for, and how the last request failed; None where the provider answers."""
        silence, trouble = self.silence(), self.trouble
        if silence is not None:
            return silence if trouble is None else f"{silence}; before that: {trouble}"
        if trouble is None or next_try is None:
            return trouble
        return f"{trouble}; next try {f'in {duration(next_try)}' if next_try > 0 else 'now'}"

    def unanswered_for(self) -> float:
        """Return the seconds for which the provider has said nothing to what is in flight; 0 where nothing is."""
        if not self._in_flight:
            return 0.0
        return self._clock() - max(min(self._in_flight), self._heard_at)
