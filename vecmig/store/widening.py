"""Follow a key whose type became wider: the vectors table's key columns are altered as the source's were."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from psycopg import sql

from vecmig.store.catalog import Source
from vecmig.store.connect import Connection
from vecmig.store.keys import KeyColumn
from vecmig.store.statements import statement

_INTEGERS: Final = ("smallint", "integer", "bigint")
#: Types of which a larger modifier, or none, takes all values of a smaller one, each as it is.
_MODIFIED: Final = re.compile(r"(?P<name>[a-z ]+?)\((?P<size>\d+)(?:,(?P<scale>\d+))?\)(?P<rest>[a-z ]*)")
_TEXTS: Final = ("text", "character varying")


def is_wider(then: str, now: str) -> bool:
    """Whether a type takes all values of another one, and writes each as that did: keys travel as text."""
    if then == now:
        return True
    if then in _INTEGERS and now in _INTEGERS:
        return _INTEGERS.index(then) < _INTEGERS.index(now)
    name, size, scale = _parts(then)
    new_name, new_size, new_scale = _parts(now)
    if name in _TEXTS and new_name in _TEXTS:
        return new_size is None or (size is not None and size <= new_size)
    if name not in ("character varying", "numeric", "bit varying") or name != new_name or size is None:
        return False
    return new_size is None or (size <= new_size and scale == new_scale)


def _parts(type_name: str) -> tuple[str, int | None, int]:
    found = _MODIFIED.fullmatch(type_name)
    if found is None:
        return type_name, None, 0
    return found["name"] + found["rest"], int(found["size"]), int(found["scale"] or 0)


def rewrites(then: Sequence[str], now: Sequence[KeyColumn]) -> bool:
    """Whether PostgreSQL writes the vectors again for it: texts and numbers lie as they did, integers do not."""
    return any(old != column.type and old in _INTEGERS for old, column in zip(then, now, strict=True))


def rewritten_bytes(connection: Connection, source: Source) -> int:
    """Return the size of all vectors of a collection with their indexes."""
    row = connection.execute(statement("widening", "size"), _named(connection, source)).fetchone()
    return int(row[0]) if row else 0


def widen_key(connection: Connection, source: Source, then: Sequence[str]) -> None:
    """Give the key columns of the vectors the types that the source's have, in the caller's transaction.

    What rests on these columns goes, and is for the caller to make again: the live view, the search function, the
    policies, and where the vectors are rewritten their vector indexes, which would be built again under its lock.
    """
    drop_policies(connection, source)
    if rewrites(then, source.key):
        for name in connection.execute(statement("widening", "vector_indexes"), _named(connection, source)).fetchall():
            connection.execute(statement("widening", "drop_index", index=sql.Identifier(*name)))
    drop_published(connection, source)
    alter = sql.SQL(", ").join(_typed(column) for column in source.key)
    connection.execute(statement("widening", "alter", vectors=source.vectors, alter=alter))


def drop_policies(connection: Connection, source: Source) -> None:
    """Drop the policies that follow the source's row-level security, which name the source and its key."""
    for name, schema, table in connection.execute(
        statement("widening", "policies"), _named(connection, source)
    ).fetchall():
        parts = {"policy": sql.Identifier(name), "table": sql.Identifier(schema, table)}
        connection.execute(statement("widening", "drop_policy", **parts))


def drop_published(connection: Connection, source: Source) -> None:
    """Drop the live view and the search function, which cannot be replaced by ones with other columns."""
    connection.execute(statement("widening", "drop_view", live=source.live))
    query_type = source.pgvector.type("vector")
    connection.execute(statement("widening", "drop_search", search=source.search, query_type=query_type))


def _typed(column: KeyColumn) -> sql.Composed:
    # without it the column would get the new type's own collation, whose order the source's index does not have
    collation = sql.SQL(f" COLLATE {column.collation}" if column.collation else "")
    parts = {"column": sql.Identifier(column.stored), "type": sql.SQL(column.type), "collation": collation}
    return statement("widening", "typed", **parts)


def _named(connection: Connection, source: Source) -> dict[str, str]:
    return {"vectors": source.vectors.as_string(connection)}
