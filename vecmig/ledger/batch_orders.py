"""What backfills have ordered through a provider's Batch API, written down before the provider hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.ledger.control import What
from vecmig.ledger.schema import FILES, installed_version
from vecmig.ledger.spend import correct
from vecmig.ledger.tables import BATCH_ORDER, execute
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key

_SINCE: Final = FILES.index("018_batch_order") + 1
#: What an order may be asked for by, in that order.
_OF: Final = (BATCH_ORDER.c.collection, BATCH_ORDER.c.tag)
_WHAT: Final[What] = "backfill"


@dataclass(slots=True, eq=False)
class BatchOrder:
    """Texts that are on order."""

    id: UUID
    collection: str
    tag: str
    revision: str
    #: The provider's address, without what may be a key.
    server: str
    #: The records that were read for it: those behind ``after``, up to ``upto``.
    after: Key | None
    upto: Key
    texts: int
    #: Whether records of it have chunks whose vectors were there already.
    shared: bool
    #: What was entered as spent for it.
    tokens: int
    usd: float
    #: The provider's ids of its file and of the batch, as soon as there are some.
    file: str | None = None
    batch: str | None = None
    #: None before it is written down.
    ordered_at: datetime | None = None
    ordered_by: str = ""


@dataclass(frozen=True, slots=True)
class OnOrder:
    """How much of a tag is on order, since when and by whom."""

    batches: int
    texts: int
    since: datetime
    by: str


def batch_orders(connection: Connection, schema: str, *of: str) -> list[BatchOrder]:
    """Return what is on order, the oldest first: for a collection, or one of its tags, or for all."""
    if installed_version(connection, schema) < _SINCE:
        return []
    query = (
        select(*(column for column in BATCH_ORDER.c if column.name != "digests"))
        .where(*(column == name for column, name in zip(_OF, of, strict=False)))
        .order_by(BATCH_ORDER.c.ordered_at, BATCH_ORDER.c.id)
    )
    orders = []
    for row in execute(connection, schema, query).mappings():
        data: dict[str, Any] = dict(row)
        after, upto = data.pop("after_key"), data.pop("upto_key")
        keys = {"after": None if after is None else tuple(after), "upto": tuple(upto)}
        orders.append(BatchOrder(**data | keys | {"usd": float(data["usd"])}))
    return orders


def texts_on_order(connection: Connection, schema: str, order: UUID) -> list[str]:
    """Return the digests of an order's texts, as PostgreSQL writes a uuid."""
    row = execute(connection, schema, select(BATCH_ORDER.c.digests).where(BATCH_ORDER.c.id == order)).first()
    digests = bytes(row[0]) if row is not None else b""
    return [str(UUID(bytes=digests[at : at + 16])) for at in range(0, len(digests), 16)]


def on_order(connection: Connection, schema: str, collection: str) -> dict[str, OnOrder]:
    """Return how much is on order for the tags of a collection."""
    if installed_version(connection, schema) < _SINCE:
        return {}
    query = (
        select(
            BATCH_ORDER.c.tag,
            func.count(),
            func.sum(BATCH_ORDER.c.texts),
            func.min(BATCH_ORDER.c.ordered_at),
            func.min(BATCH_ORDER.c.ordered_by),
        )
        .where(BATCH_ORDER.c.collection == collection)
        .group_by(BATCH_ORDER.c.tag)
    )
    return {tag: OnOrder(*row) for tag, *row in execute(connection, schema, query)}


def write_order(connection: Connection, schema: str, order: BatchOrder, digests: bytes) -> None:
    """Write an order down, before anything of it is sent; ``digests`` are those of its texts, 16 bytes each."""
    named = ("id", "collection", "tag", "revision", "server", "texts", "shared", "tokens")
    values = {name: getattr(order, name) for name in named} | {"digests": digests}
    keys = {"after_key": None if order.after is None else list(order.after), "upto_key": list(order.upto)}
    entry = insert(BATCH_ORDER).values(**values, **keys, usd=Decimal(str(order.usd)))
    # a session that was lost may have written it
    execute(connection, schema, entry.on_conflict_do_nothing())


def note_ids(connection: Connection, schema: str, order: UUID, *, file: str | None, batch: str | None) -> None:
    """Keep what the provider calls an order's file, and its batch; None takes it back."""
    execute(connection, schema, update(BATCH_ORDER).where(BATCH_ORDER.c.id == order).values(file=file, batch=batch))


def close_order(connection: Connection, schema: str, order: BatchOrder, *, tokens: int, usd: float) -> None:
    """Forget an order, and enter what it came to in place of what was entered for it.

    Args:
        connection: in a transaction, so that both happen or none.
        schema: where vecmig's tables are.
        order: the order.
        tokens: what the provider charges for.
        usd: what these cost.
    """
    gone = execute(connection, schema, delete(BATCH_ORDER).where(BATCH_ORDER.c.id == order.id)).rowcount
    if gone and order.usd:
        correct(connection, schema, order.revision, _WHAT, tokens=tokens - order.tokens, usd=usd - order.usd)


def forget_orders(connection: Connection, schema: str, *of: str) -> None:
    """Forget what is on order for a collection, or one of its tags; what was entered as spent stays so."""
    wanted = (column == name for column, name in zip(_OF, of, strict=False))
    execute(connection, schema, delete(BATCH_ORDER).where(*wanted))
