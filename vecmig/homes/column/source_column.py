"""What becomes of the source's column when a tag that lived in it goes: left, emptied, dropped, or as it was found."""

from __future__ import annotations

import time
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.fills import pass_by_triggers, settle_fills
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.tracking_functions import function_names
from vecmig.homes.column.indexes import own_target
from vecmig.homes.index import index_name, index_state
from vecmig.homes.payload import column_of
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.keys import same_key
from vecmig.source.relations import exists
from vecmig.source.source import partition_name

#: Rows that are changed in one transaction.
_BATCH: Final = 100
#: Seconds for which rows are tried again that others hold, and between two tries.
_PATIENCE: Final = 30.0
_TICK: Final = 0.1


def take_out(database: Database, stamps: Stamps) -> None:
    """Take out of the column what vecmig has put there, in batches, and drop the index that it has built."""
    if stamps.adopted is None or stamps.adopted.column not in stamps.source.columns:
        return
    _in_batches(database, stamps, "take_out")
    with database.session() as connection:
        drop_index(connection, stamps)


def clear(database: Database, stamps: Stamps) -> None:
    """Empty the column in batches, if the revision says so. No row is deleted."""
    adopted = stamps.adopted
    if adopted is not None and adopted.adoption.retire == "clear":
        _in_batches(database, stamps, "clear")


def drop(connection: Connection, stamps: Stamps) -> None:
    """Drop vecmig's index, and the column if the revision says so, in the caller's transaction."""
    drop_index(connection, stamps)
    adopted = stamps.adopted
    if adopted is not None and adopted.adoption.retire == "drop" and adopted.column in stamps.source.columns:
        parts = {"source": stamps.source.relation, "column": column_of(stamps)}
        connection.execute(statement("homes/column", "drop_column", **parts))


def drop_index(connection: Connection, stamps: Stamps) -> None:
    """Drop the indexes that vecmig has built on the column; one that was there before is left.

    Where the last one serves the searches of another collection, too, it becomes that one's own, and goes with it.
    """
    target = own_target(stamps)
    tag = f"{partition_name(stamps.source.collection.name, stamps.tag)}_"
    values = {"relation": target.relation.as_string(connection), "tag": tag, "own": target.name}
    for (name,) in connection.execute(statement("homes/index", "beside"), values).fetchall():
        connection.execute(statement("homes/index", "drop_now", index=sql.Identifier(target.schema, name)))
    if not index_state(connection, target).exists:
        return
    # an index on a part of the rows serves nobody else
    heirs = (
        []
        if target.predicate is not None
        else connection.execute(stamps.statement("homes/column", "heirs"), stamps.values).fetchall()
    )
    for collection, tag in heirs:
        name = index_name(collection, tag, stamps.index)
        if not exists(connection, sql.Identifier(target.schema, name)):
            rename = statement("homes/index", "rename", index=target.identifier, name=sql.Identifier(name))
            connection.execute(rename)
            return
    connection.execute(statement("homes/index", "drop_now", index=target.identifier))


def bound_by(connection: Connection, stamps: Stamps) -> list[str]:
    """Return what else keeps the column from being dropped, if the revision says that it is."""
    adopted, source = stamps.adopted, stamps.source
    if adopted is None or adopted.adoption.retire != "drop":
        return []
    function = function_names(stamps.schema, source.collection.name)[0].as_string(connection)
    values = {"oid": source.oid, "column": adopted.column, "function": function}
    return [row[0] for row in connection.execute(statement("homes/column", "bound"), values)]


def _in_batches(database: Database, stamps: Stamps, name: str) -> None:
    """Change rows in small transactions; what an application holds is passed by for the while, and not waited for.

    Raises:
        DatabaseError: somebody holds some of them for too long.
    """
    source = stamps.source
    query = stamps.statement(
        "homes/column",
        name,
        source=source.relation,
        column=column_of(stamps),
        match_stamp=source.match_source("t", "v"),
        type=source.pgvector.type(source.collection.storage),
        equals=source.pgvector.equals,
        parked=stamps.statement("homes/column", "parked") if stamps.fills else sql.SQL("SELECT WHERE false"),
        same_stamp=sql.SQL("v.tag = b.tag AND v.chunk = b.chunk AND {}").format(
            same_key(source.key, source.stored_of("v"), source.stored_of("b"))
        ),
    )
    done, left, deadline = 1, True, time.monotonic() + _PATIENCE
    while left:
        with database.session() as connection:
            settle_fills(connection, stamps)
        with database.transaction() as connection:
            if not exists(connection, stamps.relation):
                return
            pass_by_triggers(connection)
            done, left = connection.execute(query, stamps.values | {"size": _BATCH}).fetchone() or (0, False)
        if done:
            deadline = time.monotonic() + _PATIENCE
        elif left and time.monotonic() > deadline:
            raise DatabaseError(
                f"Some records of {source.collection.name} are held by other sessions, and their vectors are still in "
                f"the column {source.schema}.{source.table}.{column_of(stamps).as_string(None)}.",
                hint="Run the same command again.",
            )
        elif left:
            time.sleep(_TICK)
