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
    query = statement("ledger/keeping", "forget_shadows", schema=sql.Identifier(database.schema))
    values = {"collection": collection, "keep": keep, "batch": batch}
    gone = 0
    for _ in range(_BATCHES):
        with database.transaction() as connection:
            now = connection.execute(query, values).rowcount
        gone += now
        if now < batch:
            break
    return gone
