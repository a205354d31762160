"""The locks of a run, as whoever works under them sees them."""

from __future__ import annotations

from typing import Final, Protocol


class Locks(Protocol):
    """The locks of a run: one runner per collection."""

    def ensure(self) -> None:
        """Make sure that they are still held.

        Raises:
            LockHeld: another runner took over.
        """


class NoLocks:
    """What a command holds that needs no lock of its own."""

    def ensure(self) -> None:
        """Take it that no other runner can be at work."""


NO_LOCKS: Final = NoLocks()
