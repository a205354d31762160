"""Create the vectors table of a collection, which has the stamps of all its tags. Every statement is safe to repeat."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.ledger.access import close_table, ensure_schema, ledger_comment, mirror_access
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

#: The comment on a vectors table says which ledger knows of it.
_LEDGER: Final = re.compile(r'vecmig \(ledger in schema "((?:[^"]|"")*)"\)')


class _There(NamedTuple):
    """What is called like the vectors table of a collection."""

    #: NULL of what is not partitioned.
    ours: bool | None
    comment: str | None
    #: Whether it has the columns that an earlier vecmig did not make.
    chunks: bool
    writers: bool


def create_vectors_table(connection: Connection, source: Source, schema: str) -> None:
    """Create the partitioned table of a collection, readable by whoever may read the source, and no further.

    One that is there already is brought up to date. ``schema`` is the ledger's: two ledgers never share a table.

    Raises:
        DatabaseError: a table of that name belongs to somebody else, or to another ledger.
    """
    found = _there(connection, source)
    if found is not None:
        _require_ours(connection, source, schema, found)
        _update(connection, source, found)
    else:
        ensure_schema(connection, schema, source.vectors_schema)
        _create(connection, source)
    comment = sql.Literal(f"{ledger_comment(schema)}: the vectors of {source.collection.name}, one partition per tag")
    # one that names no ledger yet; what a team wrote itself stays
    if found is None or found.comment is None or found.comment.startswith("vecmig: "):
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


def _update(connection: Connection, source: Source, found: _There) -> None:
    """Give a table that an earlier vecmig made the columns it lacks."""
    if not found.chunks:
        connection.execute(statement("homes/table", "add_chunks", vectors=source.vectors))
    if not found.writers:
        connection.execute(
            statement("homes/table", "add_writers", vectors=source.vectors, writer=statement("homes/table", "writer"))
        )


def _require_ours(connection: Connection, source: Source, schema: str, found: _There) -> None:
    name = source.vectors.as_string(connection)
    if not found.ours:
        raise DatabaseError(
            f"{name} is there already, and it is not vecmig's.",
            state="Nothing was changed.",
            hint="Rename it, or give the collection another name in collections.yaml.",
        )
    named = _LEDGER.match(found.comment or "")
    ledger = schema if named is None else named[1].replace('""', '"')
    if ledger != schema:
        raise DatabaseError(
            f"The vectors in {name} belong to the ledger in schema {ledger}; this project's is in {schema}.",
            state="Nothing was changed.",
            hint=f"Set schema = {ledger} in vecmig.ini, or give the collection another name in collections.yaml.",
        )


def notes_writers(connection: Connection, source: Source) -> bool:
    """Whether the vectors table notes who inserts past vecmig; one of an earlier version does not yet."""
    found = _there(connection, source)
    return found is not None and found.writers


def _there(connection: Connection, source: Source) -> _There | None:
    """Look at what is called like the vectors table; None where nothing is."""
    values = {"name": source.vectors.as_string(connection)}
    row = connection.execute(statement("homes/table", "there"), values).fetchone()
    return _There(*row) if row else None
