"""Create the vectors table of a collection, which has the stamps of all its tags. Every statement is safe to repeat."""

from __future__ import annotations

import re
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.ledger.access import close_table, ensure_schema, ledger_comment, mirror_access
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists
from vecmig.source.source import Source

#: The comment on a vectors table says which ledger knows of it.
_LEDGER: Final = re.compile(r'vecmig \(ledger in schema "((?:[^"]|"")*)"\)')


def create_vectors_table(connection: Connection, source: Source, schema: str) -> None:
    """Create the partitioned table of a collection, readable by whoever may read the source, and no further.

    One that is there already is brought up to date. ``schema`` is the ledger's: two ledgers never share a table.

    Raises:
        DatabaseError: a table of that name belongs to somebody else, or to another ledger.
    """
    if exists(connection, source.vectors):
        _require_ours(connection, source, schema)
        _update(connection, source)
    else:
        ensure_schema(connection, schema, source.vectors_schema)
        _create(connection, source)
    comment = sql.Literal(f"{ledger_comment(schema)}: the vectors of {source.collection.name}, one partition per tag")
    if _comment_is_old(connection, source):
        connection.execute(statement("homes/table", "comment_table", vectors=source.vectors, comment=comment))
    mirror_access(connection, source, schema)


def _create(connection: Connection, source: Source) -> None:
    columns = sql.SQL(", ").join(
        # in the source's collation, so that the index serves what is compared with it
        sql.SQL("{} {}{} NOT NULL").format(
            sql.Identifier(column.stored),
            sql.SQL(column.type),
            sql.SQL(f" COLLATE {column.collation}" if column.collation else ""),
        )
        for column in source.key
    )
    writer = statement("homes/table", "writer")
    parts = {"vectors": source.vectors, "key_columns": columns, "keys": source.stored_list(), "writer": writer}
    table_type = source.pgvector.type(source.collection.storage)
    # it has no storage of its own, and PostgreSQL refuses to be told that it lies where all lies by default
    connection.execute("SET default_tablespace TO ''")
    connection.execute(statement("homes/table", "create_table", type=table_type, **parts))
    connection.execute("SET default_tablespace TO DEFAULT")
    close_table(connection, source, source.vectors)


def _update(connection: Connection, source: Source) -> None:
    """Give a table that an earlier vecmig made the columns it lacks."""
    if not _has(connection, "has_chunks", source.vectors):
        connection.execute(statement("homes/table", "add_chunks", vectors=source.vectors))
    if not notes_writers(connection, source):
        connection.execute(
            statement("homes/table", "add_writers", vectors=source.vectors, writer=statement("homes/table", "writer"))
        )


def _comment(connection: Connection, source: Source) -> str | None:
    values = {"name": source.vectors.as_string(connection)}
    row = connection.execute(statement("homes/table", "comment"), values).fetchone()
    return row[0] if row else None


def _comment_is_old(connection: Connection, source: Source) -> bool:
    """Whether the table's comment is missing or names no ledger yet; what a team wrote itself stays."""
    comment = _comment(connection, source)
    return comment is None or comment.startswith("vecmig: ")


def _require_ours(connection: Connection, source: Source, schema: str) -> None:
    name = source.vectors.as_string(connection)
    if not _has(connection, "is_ours", source.vectors):
        raise DatabaseError(
            f"{name} is there already, and it is not vecmig's.",
            state="Nothing was changed.",
            hint="Rename it, or give the collection another name in collections.yaml.",
        )
    found = _LEDGER.match(_comment(connection, source) or "")
    ledger = schema if found is None else found[1].replace('""', '"')
    if ledger != schema:
        raise DatabaseError(
            f"The vectors in {name} belong to the ledger in schema {ledger}; this project's is in {schema}.",
            state="Nothing was changed.",
            hint=f"Set schema = {ledger} in vecmig.ini, or give the collection another name in collections.yaml.",
        )


def notes_writers(connection: Connection, source: Source) -> bool:
    """Whether the vectors table notes who inserts past vecmig; one of an earlier version does not yet."""
    return _has(connection, "has_writers", source.vectors)


def _has(connection: Connection, name: str, relation: sql.Identifier) -> bool:
    row = connection.execute(statement("homes/table", name), {"name": relation.as_string(connection)}).fetchone()
    return bool(row and row[0])
