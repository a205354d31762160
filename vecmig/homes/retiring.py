"""Remove a tag's vectors while reads go on, in steps of which each may be the last; and the clock of trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Space
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database

#: Where a tag's partition is: part of the vectors table, on its way out of it, beside it, or nowhere.
State = Literal["attached", "pending", "detached", "gone"]


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
    row = connection.execute(statement("homes/retiring", "partition"), values).fetchone()
    return Partition(*row) if row else Partition("gone", 0)


def retired_at(connection: Connection, space: Space) -> datetime | None:
    """Give when a tag was retired last, by the history."""
    row = connection.execute(_of(space, "retired_at"), space.values).fetchone()
    return row[0] if row else None


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
            hint="Run: vecmig status",
        )
    connection.execute(_of(space, "retire_revisions"), space.values)
    ledger.tags.set_state(collection, space.tag, "retired")
    ledger.rejections.forget(collection, space.tag)
    ledger.record_event("retire", collection=collection, tag=space.tag, data=figures)
    ledger.routes.announce(collection)


def detach(database: Database, space: Space, *, wait: float, on_wait: Callable[[str], None]) -> None:
    """Take a tag's partition out of the vectors table while reads and writes go on; finish what was cut short.

    PostgreSQL waits for the transactions that have touched the vectors table. No session waits for that in turn.

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
            connection.execute(statement("homes/retiring", name, **parts))

    with_lock_retries(database, step, wait=wait, on_wait=on_wait, in_transaction=False)


def drop(connection: Connection, ledger: Ledger, space: Space) -> int:
    """Drop a partition that is detached, and enter it, in the caller's transaction; give the bytes that it took."""
    found = partition(connection, space)
    if found.state == "gone":
        return 0
    connection.execute(statement("homes/retiring", "drop", partition=space.relation))
    ledger.record_event(
        "retired", collection=space.source.collection.name, tag=space.tag, data={"bytes_freed": found.bytes}
    )
    return found.bytes


def _of(space: Space, name: str) -> sql.Composed:
    return statement("homes/retiring", name, schema=sql.Identifier(space.schema))
