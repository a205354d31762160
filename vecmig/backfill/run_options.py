"""Under which options a backfill runs: beside whom, for how long it waits, and what makes it wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from vecmig.ledger.control import What
from vecmig.model.recipe import Recipe
from vecmig.postgres.throttle import Throttle


def no_other_runner() -> None:
    """Take it that no other runner can be at work."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run has to heed beside its recipe."""

    what: What = "backfill"
    #: Seconds for which a lost database is waited for.
    reconnect_wait: float = 0.0
    #: Seconds for which a Ray worker waits for a provider that answers none of its requests.
    provider_wait: float = math.inf
    #: Whether the run shows itself in vecmig's tables and heeds what operators write there.
    supervised: bool = False
    throttle: Throttle | None = None
    #: Processes that share what operators allow: requests in flight, and records a second.
    workers: int = 1
    #: Makes sure that no other runner took over while the connection was lost; raises LockHeld.
    still_alone: Callable[[], None] = no_other_runner


def share(amount: int, workers: int) -> int:
    """Return one worker's share of what all of them may do together; at least 1."""
    return max(1, amount // workers)


def shared_recipe(recipe: Recipe, workers: int) -> Recipe:
    """Return the recipe of one worker: what it makes is the same, and it takes its share of what the service bears."""
    service = recipe.service
    requests, tokens = service.requests_per_minute, service.tokens_per_minute
    return replace(
        recipe,
        service=replace(
            service,
            concurrency=share(service.concurrency, workers),
            requests_per_minute=None if requests is None else share(requests, workers),
            tokens_per_minute=None if tokens is None else share(tokens, workers),
        ),
    )
