"""The clock of trust: since when a tag serves reads, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from psycopg import sql

from vecmig.ledger.schema import installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

#: The version of vecmig's schema that keeps what evals and shadow reads have shown.
_EVIDENCE_SINCE: Final = 3
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Clock:
    """The times by which the live tag of a collection is judged, all of them the database's."""

    #: When reads moved to it last.
    moved: datetime
    #: Since when it serves them without a break: that, or the end of a later candidate's ramp.
    since: datetime
    now: datetime


def clock(connection: Connection, schema: str, collection: str, revision: str) -> Clock:
    """Give the times by which the live tag of a collection is judged.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        revision: the one that led to the live tag.
    """
    query = statement("ledger/trust_clock", "clock", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": collection, "revision": revision}).fetchone()
    assert row is not None, "the caller has found the revision by the route"
    return Clock(*row)


def shadow_errors(
    connection: Connection, schema: str, collection: str, tag: str, *, moved: datetime, days: float
) -> tuple[int, int]:
    """Count the shadow reads of a tag in the days before it went live that failed, and all of them.

    While it is live it is not asked beside itself, so none come later.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        tag: the tag.
        moved: when reads moved to it last.
        days: how long before that a shadow read counts.
    """
    if installed_version(connection, schema) < _EVIDENCE_SINCE:
        return 0, 0
    query = statement("ledger/trust_clock", "shadow_errors", schema=sql.Identifier(schema))
    values = {"collection": collection, "tag": tag}
    row = connection.execute(query, values | {"moved": moved, "seconds": days * _DAY}).fetchone()
    return row or (0, 0)


def eval_pairs(
    connection: Connection, schema: str, collection: str, tags: tuple[str, str], *, since: datetime, coverage: float
) -> dict[date, dict[str, tuple[UUID, UUID]]]:
    """Give, by day (UTC, oldest first) and suite, the last runs of the old and the new tag on the same queries.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        tags: the old and the new one.
        since: when the first run that counts may have been.
        coverage: the lowest at which a run counts.
    """
    if installed_version(connection, schema) < _EVIDENCE_SINCE:
        return {}
    old, new = tags
    values = {"collection": collection, "old": old, "new": new, "since": since, "coverage": coverage}
    found: dict[date, dict[str, tuple[UUID, UUID]]] = {}
    for day, suite, *pair in connection.execute(
        statement("ledger/trust_clock", "eval_pairs", schema=sql.Identifier(schema)), values
    ):
        found.setdefault(day, {})[suite] = (pair[0], pair[1])
    return found
