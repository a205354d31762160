"""Know when a provider last took a request: what it then refuses is about that one."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Witness:
    """Remembers when the latest request was sent that the provider took. Any thread may call any method."""

    def __init__(self) -> None:
        self._sent: float | None = None
        self._turn = threading.Lock()
        #: How many probes have ended, and how the last one failed if it did.
        self._probes = 0
        self._failure: Exception | None = None

    @property
    def ever(self) -> bool:
        """Whether the provider has taken anything."""
        return self._sent is not None

    def took(self, sent: float) -> None:
        """Note a request that the provider took, by the time at which it was sent."""
        if self._sent is None or sent > self._sent:
            self._sent = sent

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
            if self._well(since):
                return
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
