"""Open the embedder that fills a tag: within its recipe's limits and budget, and with patience."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from vecmig.backfill.budget import Budget, CostAccount
from vecmig.config import origin
from vecmig.embedders import Deferred, Embedder, Limiter, Limits, Retry, open_embedder
from vecmig.errors import DatabaseError, VecmigError
from vecmig.ledger.learned_limits import remember_limits, remembered_limits
from vecmig.model.recipe import Recipe
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Database

#: Told what a run waits for, and how many seconds until the next try.
OnWait = Callable[[str, float], None]
#: Longest wait, in seconds, between two tries of a provider.
_LONGEST_WAIT = 60.0


def patient_retry(limiter: Limiter, provider_wait: float, on_wait: OnWait, *, attempts: int | None = None) -> Retry:
    """Return how a backfill tries its provider again.

    Args:
        limiter: lets the requests through, and ends the waiting where the run ends.
        provider_wait: seconds for which a provider that answers no request is waited for.
        on_wait: told of what is waited for.
        attempts: how often a request is tried, in place of ``provider_wait``; None for no end.
    """
    return Retry(
        attempts=attempts,
        wait=provider_wait,
        silent_for=limiter.silent_for,
        most=_LONGEST_WAIT,
        sleep=limiter.sleep,
        notify=lambda error, again: on_wait(error.message, again),
    )


@contextmanager
def open_backfill_embedder(
    database: Database,
    tag: str,
    recipe: Recipe,
    *,
    account: CostAccount | None,
    reconnect_wait: float,
    provider_wait: float,
    on_wait: OnWait,
    attempts: int | None = None,
    remember: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Embedder]:
    """Yield an embedder that waits for its provider; it is opened when it is first asked for something.

    Args:
        database: where the cost is counted.
        tag: the tag, for messages.
        recipe: what makes its vectors.
        account: where the cost goes; None where nothing has a price.
        reconnect_wait: seconds for which a lost database is waited for.
        provider_wait: seconds for which a provider that answers no request is waited for.
        on_wait: told of what is waited for.
        attempts: how often a request is tried, in place of ``provider_wait``; None for no end.
        remember: whether what refusals teach is kept for later runs.
        environ: where keys are looked up.
    """
    service = recipe.service
    with ExitStack() as stack:
        spend = None
        if account is not None:
            spend = stack.enter_context(
                Budget(
                    # the limiter, which asks the budget, ends its waiting too when the run ends
                    ReconnectingSession(
                        database,
                        wait=reconnect_wait,
                        on_wait=on_wait,
                        sleep=lambda seconds: limiter.sleep(seconds),  # noqa: PLW0108  # it is made below
                    ),
                    database.schema,
                    account,
                    price=service.price_per_million_tokens,
                )
            )
        limiter = Limiter(
            service.concurrency,
            requests_per_minute=service.requests_per_minute,
            tokens_per_minute=service.tokens_per_minute,
            spend=spend,
        )
        retry = patient_retry(limiter, provider_wait, on_wait, attempts=attempts)

        def opened() -> Embedder:
            embedder = open_embedder(tag, recipe, environ=environ, retry=retry, limiter=limiter)
            stack.callback(embedder.close)
            stack.enter_context(_learned_limits(database, embedder, remember=remember))
            return embedder

        yield Deferred(recipe, limiter, opened)


@contextmanager
def _learned_limits(database: Database, embedder: Embedder, *, remember: bool) -> Iterator[None]:
    """Heed the limits that earlier runs have learned, and keep what this one learns, if it does."""
    recipe = embedder.recipe
    name = (
        recipe.provider if recipe.service.base_url is None else f"{recipe.provider} {origin(recipe.service.base_url)}"
    )
    known = Limits()
    # a role that may not read it has to find out for itself
    with suppress(DatabaseError), database.session() as connection:
        known = Limits(*remembered_limits(connection, database.schema, name, recipe.model))
    embedder.learned.tighten(known)
    try:
        yield
    finally:
        learned = embedder.learned.limits
        if remember and learned != known:
            # a run that has lost its database, or may not write there, has more to say than this
            with suppress(VecmigError), database.session() as connection:
                remember_limits(
                    connection, database.schema, name, recipe.model, texts=learned.texts, tokens=learned.tokens
                )
