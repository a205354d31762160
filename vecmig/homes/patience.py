"""For how long an index build waits for somebody before it gives up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from vecmig.errors import Blocked
from vecmig.postgres.blockers import Blockers

#: How things stand without an index.
NO_INDEX: Final = "The vectors are all there; the index is not."


@dataclass(slots=True)
class Patience:
    """How long a build has waited for somebody, and whether that is too long."""

    #: Seconds that it may; None for as long as it takes.
    lock_wait: float | None
    tag: str
    _wait: tuple[str, int] = ("", 0)
    _since: float = 0.0

    def wait(self, what: str, who: Blockers, *, turn: int = 0, began: float | None = None) -> None:
        """Go on waiting, or begin to.

        Args:
            what: what for.
            who: who is in the way.
            turn: the number of the transaction, where one after the other is waited for.
            began: since when there is work that is lost with giving up.

        Raises:
            Blocked: it has waited for long enough.
        """
        now = time.monotonic()
        if self._wait != (what, turn):
            self._wait, self._since = (what, turn), now
        if self.lock_wait is None:
            return
        worked = 0.0 if began is None else self._since - began
        longest = max(self.lock_wait, worked)
        if now - self._since > longest:
            raise Blocked(
                f"The index of {self.tag} is not built: it waited {longest:.3g} s for {what}. Blocked by {who.words}.",
                state=NO_INDEX,
                hint=who.hint,
            )

    def end(self) -> None:
        """Note that it waits no more."""
        self._wait = ("", 0)
