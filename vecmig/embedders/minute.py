"""Count what was sent within the last minute."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Sent:
    """What was sent at a moment; ``amount`` is corrected as long as it counts."""

    at: float
    amount: int
    counts: bool = True


class Minute:
    """At most so much within any minute."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._sent: deque[Sent] = deque()
        self._sum = 0

    def add(self, amount: int, now: float) -> Sent:
        """Enter what is sent now."""
        sent = Sent(now, amount, counts=self.limit is not None)
        if sent.counts:
            self._sent.append(sent)
            self._sum += amount
        return sent

    def correct(self, sent: Sent, amount: int) -> None:
        """Enter how much it was, which the answer tells."""
        if sent.counts:
            self._sum += amount - sent.amount
            sent.amount = amount

    def wait(self, amount: int, now: float) -> float:
        """Return the seconds until ``amount`` more fits; one that is above the limit by itself goes alone."""
        if self.limit is None:
            return 0.0
        while self._sent and self._sent[0].at <= now - 60:
            gone = self._sent.popleft()
            gone.counts = False
            self._sum -= gone.amount
        left, room = self._sum, self.limit - min(amount, self.limit)
        for sent in self._sent:
            if left <= room:
                break
            left -= sent.amount
            if left <= room:
                return sent.at + 60 - now
        return 0.0
