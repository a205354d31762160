"""Notes that the outbox does not name all changes of a collection, so that all its records are to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import sql

from vecmig.freshness.coverage import Coverage
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.schema import FILES, installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

_SINCE_VERSION: Final = FILES.index("005_tracking") + 1


@dataclass(frozen=True, slots=True)
class FullPass:
    """One reason why a collection needs a full pass, and when it was noted first and last."""

    reason: str
    first: datetime
    last: datetime


def note_full_pass(connection: Connection, schema: str, collection: str, reason: str) -> None:
    """Note that a collection's records are all to be compared with their vectors.

    Args:
        connection: a connection of vecmig's; the note stands once its transaction is committed.
        schema: where vecmig's tables are.
        collection: its name.
        reason: why, for people; it names no record, because that is not for everybody's eyes.
    """
    values = {"collection": collection, "reason": reason}
    connection.execute(statement("freshness/full_pass", "note", schema=sql.Identifier(schema)), values)


def needed_full_pass(connection: Connection, schema: str, collection: str) -> tuple[FullPass, ...]:
    """Return the reasons why a collection needs a full pass, the oldest first; none where it needs none."""
    if installed_version(connection, schema) < _SINCE_VERSION:
        return ()
    query = statement("freshness/full_pass", "needed", schema=sql.Identifier(schema))
    return tuple(FullPass(*row) for row in connection.execute(query, {"collection": collection}))


def noted_for(connection: Connection, stamps: Stamps) -> list[int]:
    """Return the notes that a comparison from now on answers for one tag.

    To be read before the records are: what a note that is seen here stands for is committed with it.
    """
    return [row[0] for row in connection.execute(stamps.statement("freshness/full_pass", "noted"), stamps.values)]


def settle_full_pass(connection: Connection, stamps: Stamps, noted: Sequence[int], found: Coverage) -> None:
    """Enter that a tag was compared since ``noted``, and forget the notes for which all tags in use were.

    Nothing is entered where a record lacks its vector and neither the outbox nor a rejection says so.
    """
    if noted and not found.unaccounted:
        connection.execute(stamps.statement("freshness/full_pass", "passed"), stamps.values | {"ids": list(noted)})
        connection.execute(stamps.statement("freshness/full_pass", "forget"), stamps.values)
