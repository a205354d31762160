"""See what is on order at a provider's Batch API, and give it up."""

from __future__ import annotations

from collections.abc import Sequence

from vecmig.config import Config
from vecmig.events import Listener, ignore
from vecmig.ledger.batch_orders import BatchOrder, batch_orders, forget_orders
from vecmig.runner.at_work import at_work
from vecmig.runner.project import Project


def batches(config: Config, collections: Sequence[str] = ()) -> list[BatchOrder]:
    """List what backfills have ordered and not collected, the oldest first; of some collections, or of all."""
    return _batches(Project(config), collections)


def forget_batches(config: Config, collections: Sequence[str] = (), *, listener: Listener = ignore) -> list[BatchOrder]:
    """Give up what is on order, whose texts are pending then; nothing is sent to the provider.

    What was entered as spent for it stays so: whatever it has answered is charged.

    Args:
        config: the project.
        collections: which ones; empty for all.
        listener: told of what happens.

    Raises:
        LockHeld: a run is at work on one of them.
    """
    project = Project(config, listener)
    names = sorted({order.collection for order in _batches(project, collections)})
    with at_work(project, names, "batches") as holding:
        orders = _batches(holding, names) if names else []
        with holding.context.transaction() as ledger:
            for name in names:
                given_up = [order for order in orders if order.collection == name]
                forget_orders(ledger.connection, ledger.schema, name)
                figures = {"batches": [order.batch for order in given_up], "texts": sum(o.texts for o in given_up)}
                ledger.record_event("forget_batches", collection=name, data=figures)
    return orders


def _batches(project: Project, collections: Sequence[str]) -> list[BatchOrder]:
    with project.database.session() as connection:
        orders = batch_orders(connection, project.database.schema)
    # one that left collections.yaml may have some still
    for name in set(collections).difference(order.collection for order in orders):
        project.collections.collection(name)
    return [order for order in orders if not collections or order.collection in collections]
