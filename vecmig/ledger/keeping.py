"""Forget what was noted for a while only, in small batches, where a command is at work anyway."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal

from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Database

#: What is noted for a while only.
Noted = Literal["shadows", "syncs"]

#: Rows that go in one transaction, and at most so many such transactions in one command: the next one goes on.
_BATCH: Final = 1_000
_BATCHES: Final = 100


def forget(database: Database, what: Noted, collection: str, keep: timedelta, *, batch: int = _BATCH) -> int:
    """Delete what was noted of a collection and is older than ``keep``; return how many rows.

    Of shadow reads, those on which gate and trust rest are kept: of the live tag and the candidate the days count from
    the last one. Of the events of syncs, the last one of each kind and tag is kept: it says how the last sync ended.

    Args:
        database: where.
        what: shadow reads, or events of syncs.
        collection: the collection.
        keep: how long they are kept.
        batch: how many go in one transaction.
    """
    query = statement("ledger/keeping", f"forget_{what}", schema=sql.Identifier(database.schema))
    values = {"collection": collection, "keep": keep, "batch": batch}
    gone = 0
    for _ in range(_BATCHES):
        with database.transaction() as connection:
            now = connection.execute(query, values).rowcount
        gone += now
        if now < batch:
            break
    return gone
