"""Follow a key whose type became wider: the vectors table's key columns are altered as the source's were."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.key_types import rewrites
from vecmig.source.keys import KeyColumn
from vecmig.source.source import Source


def rewritten_bytes(connection: Connection, source: Source) -> int:
    """Return the size of all vectors of a collection with their indexes."""
    row = connection.execute(statement("homes/widening", "size"), _named(connection, source)).fetchone()
    return int(row[0]) if row else 0


def widen_key(connection: Connection, source: Source, then: Sequence[str]) -> None:
    """Give the key columns of the vectors the types that the source's have, in the caller's transaction.

    What rests on these columns goes, and is for the caller to make again: the live view, the search function, the
    policies, and where the vectors are rewritten their vector indexes, which would be built again under its lock.
    """
    drop_policies(connection, source)
    if rewrites(then, source.key):
        for name in connection.execute(
            statement("homes/widening", "vector_indexes"), _named(connection, source)
        ).fetchall():
            connection.execute(statement("homes/widening", "drop_index", index=sql.Identifier(*name)))
    drop_published(connection, source)
    alter = sql.SQL(", ").join(_typed(column) for column in source.key)
    connection.execute(statement("homes/widening", "alter", vectors=source.vectors, alter=alter))


def drop_policies(connection: Connection, source: Source) -> None:
    """Drop the policies that follow the source's row-level security, which name the source and its key."""
    for name, schema, table in connection.execute(
        statement("homes/widening", "policies"), _named(connection, source)
    ).fetchall():
        parts = {"policy": sql.Identifier(name), "table": sql.Identifier(schema, table)}
        connection.execute(statement("homes/widening", "drop_policy", **parts))


def drop_published(connection: Connection, source: Source) -> None:
    """Drop the live view and the search function, which cannot be replaced by ones with other columns."""
    connection.execute(statement("homes/widening", "drop_view", live=source.live))
    query_type = source.pgvector.type("vector")
    connection.execute(statement("homes/widening", "drop_search", search=source.search, query_type=query_type))


def _typed(column: KeyColumn) -> sql.Composed:
    # without it the column would get the new type's own collation, whose order the source's index does not have
    collation = sql.SQL(f" COLLATE {column.collation}" if column.collation else "")
    parts = {"column": sql.Identifier(column.stored), "type": sql.SQL(column.type), "collation": collation}
    return statement("homes/widening", "typed", **parts)


def _named(connection: Connection, source: Source) -> dict[str, str]:
    return {"vectors": source.vectors.as_string(connection)}
