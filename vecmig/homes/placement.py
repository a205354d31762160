"""Move the vectors of a collection into another schema: by their names only, so that it takes no longer with more."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from vecmig.ledger.access import ensure_schema
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists
from vecmig.source.source import Source


def move_vectors(connection: Connection, ledger: Ledger, source: Source, schema: str) -> Source:
    """Move the vectors table and its partitions, also those that are on their way out; give the source as it is then.

    It runs in the caller's transaction, under the lock that ALTER TABLE takes. What names them in its text (the search
    function, the triggers' function) is for the caller to make again; the live view follows by itself.
    """
    moved = replace(source, vectors_schema=schema)
    ensure_schema(connection, ledger.schema, schema)
    target = sql.Identifier(schema)
    for tag in ledger.tags.of(source.collection.name):
        if exists(connection, source.partition(tag)):
            connection.execute(statement("homes/placement", "move", relation=source.partition(tag), schema=target))
    if exists(connection, source.vectors):
        connection.execute(statement("homes/placement", "move", relation=source.vectors, schema=target))
    ledger.collections.record_place(moved)
    return moved
