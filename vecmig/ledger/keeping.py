"""Forget what was noted for a while only, in small batches, where a command is at work anyway."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Database

#: Rows that go in one transaction, and at most so many such transactions in one command: the next one goes on.
_BATCH: Final = 1_000
_BATCHES: Final = 100


def forget_shadows(database: Database, collection: str, keep: timedelta, *, batch: int = _BATCH) -> int:
    """Delete the shadow reads of a collection that are older than ``keep``; return how many.

    Those on which gate and trust rest are kept: of the live tag and the candidate it counts from the last one.

    Args:
        database: where.
        collection: the collection.
        keep: how long they are kept.
        batch: how many go in one transaction.
    """
    return _forget(database, "forget_shadows", collection, keep, batch)


def forget_syncs(database: Database, collection: str, keep: timedelta, *, batch: int = _BATCH) -> int:
    """Delete the events of a collection's syncs that are older than ``keep``; return how many.

    The last one of each kind and tag is kept: it says how the last sync ended.

    Args:
        database: where.
        collection: the collection.
        keep: how long they are kept.
        batch: how many go in one transaction.
    """
    return _forget(database, "forget_syncs", collection, keep, batch)


def _forget(database: Database, name: str, collection: str, keep: timedelta, batch: int) -> int:
    query = statement("ledger/keeping", name, schema=sql.Identifier(database.schema))
    values = {"collection": collection, "keep": keep, "batch": batch}
    gone = 0
    for _ in range(_BATCHES):
        with database.transaction() as connection:
            now = connection.execute(query, values).rowcount
        gone += now
        if now < batch:
            break
    return gone
