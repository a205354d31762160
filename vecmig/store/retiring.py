"""Remove a tag's vectors while reads go on, in steps of which each may be the last; and the clock of trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal
from uuid import UUID

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.store.connect import Connection, Database
from vecmig.store.ledger import Ledger
from vecmig.store.locks import with_lock_retries
from vecmig.store.schema import installed_version
from vecmig.store.space import Space
from vecmig.store.statements import statement

#: Where a tag's partition is: part of the vectors table, on its way out of it, beside it, or nowhere.
State = Literal["attached", "pending", "detached", "gone"]
#: The version of vecmig's schema that keeps what evals and shadow reads have shown.
_EVIDENCE_SINCE: Final = 3
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Partition:
    """The relation that holds a tag's vectors."""

    state: State
    #: With its indexes, and what is stored out of line.
    bytes: int


def partition(connection: Connection, space: Space) -> Partition:
    """Look up where a tag's partition is, and what it takes on disk."""
    relations = {"partition": space.relation, "vectors": space.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("retiring", "partition"), values).fetchone()
    return Partition(*row) if row else Partition("gone", 0)


# The trust clock ---------------------------------------------------------------------------------------------------


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
    query = statement("retiring", "clock", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": collection, "revision": revision}).fetchone()
    assert row is not None, "the caller has found the revision by the route"
    return Clock(*row)


def shadow_errors(connection: Connection, space: Space, *, moved: datetime, days: float) -> tuple[int, int]:
    """Count the shadow reads of a tag in the days before it went live that failed, and all of them.

    While it is live it is not asked beside itself, so none come later.

    Args:
        connection: a connection of vecmig's.
        space: the tag.
        moved: when reads moved to it last.
        days: how long before that a shadow read counts.
    """
    if installed_version(connection, space.schema) < _EVIDENCE_SINCE:
        return 0, 0
    query = statement("retiring", "shadow_errors", schema=sql.Identifier(space.schema))
    row = connection.execute(query, space.values | {"moved": moved, "seconds": days * _DAY}).fetchone()
    return row or (0, 0)


def eval_pairs(
    connection: Connection, schema: str, collection: str, tags: tuple[str, str], *, since: datetime, coverage: float
) -> dict[date, dict[str, tuple[UUID, UUID]]]:
    """Give, by day (UTC, oldest first) and suite, the last runs of the old and the new tag on the same questions.

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
        statement("retiring", "eval_pairs", schema=sql.Identifier(schema)), values
    ):
        found.setdefault(day, {})[suite] = (pair[0], pair[1])
    return found


def retired_at(connection: Connection, space: Space) -> datetime | None:
    """Give when a tag was retired last, by the history."""
    row = connection.execute(_of(space, "retired_at"), space.values).fetchone()
    return row[0] if row else None


# The steps ---------------------------------------------------------------------------------------------------------


def begin(connection: Connection, ledger: Ledger, space: Space, figures: Mapping[str, Any]) -> None:
    """Enter, in the caller's transaction, that a tag's vectors go: from now on nothing reads, fills or goes back to it.

    Raises:
        DatabaseError: reads use the tag, or it is on its way to be used.
    """
    collection = space.source.collection.name
    if connection.execute(_of(space, "leave_route"), space.values).rowcount != 1:
        raise DatabaseError(
            f"Reads of {collection} have moved meanwhile, and {space.tag} is needed.",
            state="Nothing was changed.",
            hint="Look at: vecmig status",
        )
    connection.execute(_of(space, "retire_revisions"), space.values)
    ledger.set_tag_state(collection, space.tag, "retired")
    ledger.forget_rejected(collection, space.tag)
    ledger.record_event("retire", collection=collection, tag=space.tag, data=figures)
    ledger.announce(collection)


def detach(database: Database, space: Space, *, wait: float, on_wait: Callable[[str], None]) -> None:
    """Take a tag's partition out of the vectors table while reads and writes go on; finish what was cut short.

    PostgreSQL waits for the transactions that have touched the vectors table. Nobody waits for that in turn.

    Args:
        database: where; it cannot be done in a transaction.
        space: the tag.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time.
    """

    def step(connection: Connection) -> None:
        state = partition(connection, space).state
        if state in ("attached", "pending"):
            name = "detach" if state == "attached" else "finalize"
            parts = {"vectors": space.source.vectors, "partition": space.relation}
            connection.execute(statement("retiring", name, **parts))

    with_lock_retries(database, step, wait=wait, on_wait=on_wait, in_transaction=False)


def drop(connection: Connection, ledger: Ledger, space: Space) -> int:
    """Drop a partition that is detached, and enter it, in the caller's transaction; give the bytes that it took."""
    found = partition(connection, space)
    if found.state == "gone":
        return 0
    connection.execute(statement("retiring", "drop", partition=space.relation))
    ledger.record_event(
        "retired", collection=space.source.collection.name, tag=space.tag, data={"bytes_freed": found.bytes}
    )
    return found.bytes


def _of(space: Space, name: str) -> sql.Composed:
    return statement("retiring", name, schema=sql.Identifier(space.schema))
