"""Know what a provider took, and when: what it then refuses is about the texts, and not about the provider."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

#: After this many texts that were refused alone, with none taken in between, one that was taken before tells whether
#: the provider still takes what it took.
_STREAK: Final = 10


class Witness:
    """Remembers the latest request that the provider took, and a text of it. Any thread may call any method."""

    def __init__(self) -> None:
        self._sent: float | None = None
        #: Whether it has taken what it had refused.
        self.fickle = False
        #: A text that was taken, as it was sent.
        self.example: str | None = None
        self._blamed = 0
        self._turn = threading.Lock()
        #: How many probes have ended, and how the last one failed if it did.
        self._probes = 0
        self._failure: Exception | None = None

    @property
    def ever(self) -> bool:
        """Whether the provider has taken anything."""
        return self._sent is not None

    def took(self, sent: float, example: str | None) -> None:
        """Note a request that the provider took, by the time at which it was sent; None for the example of a probe."""
        if self._sent is None or sent > self._sent:
            self._sent = sent
        if example is not None:
            self.example, self._blamed = example, 0

    def wait(self) -> None:
        """Wait for a probe that is under way, and raise what it raises: the next request would fare no better."""
        before = self._probes
        if self._turn.locked():
            with self._turn:
                self._raise_failure(before)

    def require(self, since: float, probe: Callable[[], object]) -> None:
        """Make sure that the provider has taken something that was sent ``since``, or takes ``probe`` now.

        One probe answers all who ask meanwhile; what it raises is raised to each of them.
        """
        before = self._probes
        if self._well(since):
            return
        with self._turn:
            self._raise_failure(before)
            if not self._well(since):
                self._run(probe)

    def blame(self, probe: Callable[[], object]) -> None:
        """Count a text that is to blame; where it is one of many, ``probe`` sends an example again first."""
        self._blamed += 1
        if self._blamed < _STREAK or self.example is None:
            return
        before = self._probes
        with self._turn:
            self._raise_failure(before)
            if self._blamed >= _STREAK:
                self._run(probe)
                self._blamed = 0

    def _run(self, probe: Callable[[], object]) -> None:
        self._failure = None
        try:
            probe()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._probes += 1

    def _raise_failure(self, before: int) -> None:
        """Raise how the last probe failed, if it ended since ``before`` were counted."""
        if self._failure is not None and self._probes > before:
            raise self._failure

    def _well(self, since: float) -> bool:
        return self._sent is not None and self._sent >= since
