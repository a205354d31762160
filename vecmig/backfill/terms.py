"""Under which terms a backfill runs: beside whom, for how long it waits, and what makes it stand still."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vecmig.store.control import What
from vecmig.store.throttle import Throttle


def nobody_else() -> None:
    """Take it that no other runner can be at work."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run has to heed beside its recipe."""

    what: What = "backfill"
    #: Seconds for which a lost database is waited for.
    reconnect_wait: float = 0.0
    #: Seconds for which a worker of a fleet waits for a provider that answers none of its requests.
    provider_wait: float = math.inf
    #: Whether the run shows itself in vecmig's tables and heeds what operators write there.
    supervised: bool = False
    throttle: Throttle | None = None
    #: Processes that share what operators allow: requests in flight, and records a second.
    workers: int = 1
    #: Makes sure that no other runner took over while the connection was lost; raises LockHeld.
    still_alone: Callable[[], None] = nobody_else
