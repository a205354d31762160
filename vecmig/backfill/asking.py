"""Open an embedder to ask it something: within the limits, the budget and the pause that hold for a backfill too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vecmig.backfill.backfill_embedder import open_backfill_embedder
from vecmig.backfill.budget import CostAccount
from vecmig.backfill.run_options import RunOptions
from vecmig.backfill.supervisor import Supervisor
from vecmig.embedders import Abandoned, Embedder
from vecmig.events import Listener, Waiting
from vecmig.model.recipe import Recipe
from vecmig.postgres.sessions import Database

#: How often a request is tried: whoever asks wants an answer, and can ask again.
_ATTEMPTS: Final = 6


@contextmanager
def asking(
    database: Database,
    collection: str,
    tag: str,
    recipe: Recipe,
    *,
    account: CostAccount | None,
    options: RunOptions,
    listener: Listener,
) -> Iterator[Embedder]:
    """Open an embedder that gives up on a provider that stays away, and asks it nothing while a pause holds.

    Args:
        database: where the cost is counted, and a pause is written.
        collection: whose pause and limits to heed.
        tag: the tag, for messages.
        recipe: what makes its vectors.
        account: where the cost goes; None where nothing has a price.
        options: what to heed beside the recipe.
        listener: told of what is waited for.

    Raises:
        LockHeld: another runner took over meanwhile.
    """
    with open_backfill_embedder(
        database,
        tag,
        recipe,
        account=account,
        reconnect_wait=options.reconnect_wait,
        provider_wait=0,
        on_wait=lambda reason, seconds: listener(Waiting(reason.removesuffix("."), seconds)),
        attempts=_ATTEMPTS,
        remember=False,
    ) as embedder:
        supervisor = Supervisor(
            database,
            options,
            embedder.limiter,
            concurrency=recipe.service.concurrency,
            collection=collection,
            listener=listener,
        )
        with supervisor:
            try:
                yield embedder
            except Abandoned:
                assert supervisor.failure is not None, "only the supervisor ends it"
                raise supervisor.failure from None
