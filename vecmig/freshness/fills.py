"""The vectors that vecmig itself has put into a column of the source: they go where their records go, or out of it."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists

#: Rows in one transaction: each may go into an index again, and an application that changes one of them waits for it.
_BATCH: Final = 20


def pass_by_triggers(connection: Connection) -> None:
    """Let the trigger that tells of vectors pass by what vecmig writes itself, in the caller's transaction."""
    connection.execute(statement("freshness/fills", "filling"))


def settle_fills(connection: Connection, stamps: Stamps) -> None:
    """Give those whose records have other keys now their stamps there. What an application holds is left.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
    """
    if not stamps.fills or not exists(connection, stamps.relation):
        return
    settle = _statement(stamps, "settle")
    while True:
        row = connection.execute(settle, stamps.values | {"size": _BATCH}).fetchone()
        if row is None or not row[0]:
            break
    connection.execute(_statement(stamps, "forget_gone"), stamps.values)


def sweep_fills(connection: Connection, stamps: Stamps, *, untold: bool) -> None:
    """Take out of the column those of records that have no text any more. What an application holds is left.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        untold: whether to look for those as well of which the outbox does not tell.
    """
    if not stamps.fills:
        return
    found = connection.execute(_statement(stamps, "idle" if untold else "idle_told"), stamps.values).fetchall()
    places = [place for (place,) in found]
    for first in range(0, len(places), _BATCH):
        with connection.transaction():
            pass_by_triggers(connection)
            connection.execute(_statement(stamps, "sweep"), {"places": places[first : first + _BATCH]})


def _statement(stamps: Stamps, name: str) -> sql.Composed:
    source, adopted = stamps.source, stamps.adopted
    assert adopted is not None, "it is asked of a tag that fills"
    return stamps.statement(
        "freshness/fills",
        name,
        source=source.relation,
        rows=source.rows,
        column=sql.Identifier(adopted.column or ""),
        type=source.pgvector.type(source.collection.storage),
        equals=source.pgvector.equals,
        stored=source.stored_list(),
        key_columns=source.key_list("t"),
        match_parked=source.match_parked("t", "f"),
        match_stamp=source.match_source("t", "v"),
        in_column=stamps.digest(sql.Identifier("t", "vector")),
    )
