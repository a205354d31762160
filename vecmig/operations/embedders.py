"""Open the embedder of a recorded tag: to fill the tag, or to ask it something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from vecmig.backfill import BatchOptions, CostAccount, Needs, RayOptions, RunOptions, asking, open_backfill_embedder
from vecmig.embedders import Embedder
from vecmig.errors import UsageError
from vecmig.freshness.coverage import has_vectors
from vecmig.freshness.stamps import Stamps
from vecmig.gate import cut_canary, new_canary, require_same_model, require_same_space
from vecmig.homes import home_over
from vecmig.ledger.batch_orders import on_order
from vecmig.ledger.control import What
from vecmig.model.recipe import Recipe
from vecmig.operations.context import Context
from vecmig.operations.recipes import recipe_of
from vecmig.postgres.throttle import Throttle


@contextmanager
def embedder_to_fill(context: Context, collection: str, tag: str, *, what: What, revision: str) -> Iterator[Embedder]:
    """Yield the embedder of a recorded tag to fill it: within the recipe's limits and budget, with patience.

    Args:
        context: the context.
        collection: the collection.
        tag: one of its tags.
        what: what is being done.
        revision: whose cost it is.
    """
    recipe = _recorded(context, collection, tag)
    with open_backfill_embedder(
        context.database,
        tag,
        recipe,
        account=_account(context, recipe, what, revision),
        reconnect_wait=context.config.reconnect_wait,
        provider_wait=context.config.provider_wait,
        on_wait=context.wait,
    ) as embedder:
        yield embedder


@contextmanager
def embedder_to_ask(context: Context, collection: str, tag: str) -> Iterator[Embedder]:
    """Yield the embedder of a recorded tag to ask it something; it gives up on a provider that stays away.

    What it costs counts as the backfill of the tag's revision until that is live, and as its sync from then on.
    """
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        recipe = recipe_of(context, ledger, collection, tag)
        row = ledger.revisions.row_leading_to(collection, tag)
    revision = row.id if row is not None else ""
    what: What = "backfill" if row is not None and row.in_progress else "sync"
    account, options = _account(context, recipe, what, revision), run_options(context, what)
    with asking(
        context.database, collection, tag, recipe, account=account, options=options, listener=context.listener
    ) as embedder:
        yield embedder


def ray_options(context: Context, collection: str, tag: str, *, revision: str) -> RayOptions | None:
    """Return what fills a tag in place of this process; None where this process does."""
    if context.config.engine == "local":
        return None
    recipe = _recorded(context, collection, tag)
    service = recipe.service

    def check() -> Callable[[Embedder], None]:
        canary = _canary(context, collection, tag)
        assert canary is not None, "what prepare_tag() returns has made sure of it"
        return partial(require_same_model, tag=tag, canary=canary)

    return RayOptions(
        address=service.ray_address,
        needs=Needs(service.num_cpus, service.num_gpus),
        workers=context.config.workers,
        account=_account(context, recipe, "backfill", revision),
        check=check,
    )


def batch_options(context: Context, collection: str, tag: str, *, revision: str) -> BatchOptions | None:
    """Return how the texts of a tag are ordered through its provider's Batch API; None where they are asked for.

    What is on order is collected, whatever the recipe says by now.
    """
    recipe = _recorded(context, collection, tag)
    with context.database.session() as connection:
        if not recipe.service.batch and tag not in on_order(connection, context.database.schema, collection):
            return None
    account = _account(context, recipe, "backfill", revision)
    return BatchOptions(revision, account, wait=context.config.wait_for_batches)


def run_options(context: Context, what: What) -> RunOptions:
    """Return what a run has to heed."""
    config = context.config
    throttled = config.throttle_query is not None or config.max_replica_lag is not None
    return RunOptions(
        what,
        config.reconnect_wait,
        config.provider_wait,
        supervised=True,
        throttle=Throttle(query=config.throttle_query, max_replica_lag=config.max_replica_lag) if throttled else None,
        still_alone=context.locks.ensure,
    )


def prepare_tag(context: Context, embedder: Embedder, stamps: Stamps) -> Callable[[], None]:
    """Prepare to add vectors to a tag: the recipe's service is written down for the readers.

    Returns:
        What must be called before the first of them: it keeps the canary, or raises TerminalEmbedderError where the
        embedder is not the one that made the tag's vectors. No session is kept for later from then on.
    """
    name = stamps.source.collection.name
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        ledger.tags.refresh_recipe(name, stamps.tag, embedder.recipe)
        missing = ledger.tags.get(name, stamps.tag).canary is None
        base = None if stamps.base is None else ledger.tags.get(name, stamps.base.tag).canary
        if missing and base is not None:
            ledger.tags.set_canary(name, stamps.tag, cut_canary(base, stamps.dims))
            missing = False
        # nothing may be embedded for a tag that derives from another one, before which it would be kept
        lost = missing and (stamps.base is not None or (stamps.adopted is None and has_vectors(connection, stamps)))
    keep = partial(_keep_canary, context, embedder, stamps)
    if lost:
        keep()

    def begin() -> None:
        keep()
        # for hours nobody may need them
        context.database.close_idle()

    return begin


def _keep_canary(context: Context, embedder: Embedder, stamps: Stamps) -> None:
    """Keep a new tag's canary, or compare it; no session is open while the embedder is asked, or waited for.

    Of a tag that has adopted vectors the first canary is kept once these are seen to be the same model's.
    """
    name, tag = stamps.source.collection.name, stamps.tag
    canary = _canary(context, name, tag)
    if canary is not None:
        require_same_model(embedder, tag, canary)
        return
    if stamps.adopted is not None:
        with context.database.session() as connection:
            require_same_space(embedder, home_over(connection, stamps))
    made = new_canary(embedder)

    def keep() -> None:
        with context.database.session() as connection:
            context.ledger(connection).tags.set_canary(name, tag, made)

    context.reconnecting(keep)


def _canary(context: Context, collection: str, tag: str) -> Mapping[str, Any] | None:
    def read() -> Mapping[str, Any] | None:
        with context.database.session() as connection:
            return context.ledger(connection).tags.get(collection, tag).canary

    return context.reconnecting(read)


def _recorded(context: Context, collection: str, tag: str) -> Recipe:
    with context.database.session() as connection:
        return recipe_of(context, context.ledger(connection), collection, tag)


def _account(context: Context, recipe: Recipe, what: What, revision: str) -> CostAccount | None:
    """Count against the budget: of the revision in a backfill, of the run in a sync, which never ends.

    Raises:
        UsageError: the cost is limited, and the recipe has no price.
    """
    most, service = context.config.max_cost, recipe.service
    if most is not None and not service.price_per_million_tokens:
        raise UsageError(
            f"--max-cost needs a price, and the recipe of {recipe.model} has none.",
            hint="Add price_per_million_tokens to it in collections.yaml, or leave --max-cost out.",
        )
    if not service.price_per_million_tokens > 0:
        return None
    budget = most if context.run_budget is None else None
    if what == "backfill" and budget is None:
        budget = service.budget_usd
    return CostAccount(revision, what, budget, context.run_budget)
