"""Which of the source's columns a live view shows: each one that it shows cannot be altered or dropped under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.catalog import text_columns
from vecmig.source.source import Source


def wanted_columns(connection: Connection, source: Source, schema: str) -> tuple[str, ...]:
    """Return the columns to show, in the source's order.

    Beside the key they are what ``live_columns`` names, or else what the view of an earlier vecmig showed; and without
    either of them what text and where read, which are bound anyway.
    """
    said = source.collection.live_columns
    if said == "all":
        return source.columns
    more = _kept(connection, source, schema) if said is None else said
    wanted = {column.name for column in source.key} | set(more) | set(_read(connection, source))
    return tuple(name for name in source.columns if name in wanted)


def _read(connection: Connection, source: Source) -> Iterable[str]:
    try:
        return text_columns(connection, source) or source.columns
    except pg.InsufficientPrivilege:
        # who may create no temporary view cannot ask
        return source.columns
    except psycopg.ProgrammingError:
        # a rollback does not depend on a text that works
        return ()


def _kept(connection: Connection, source: Source, schema: str) -> Sequence[str]:
    query = statement("published/live_view", "kept_columns", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return (row and row[0]) or ()
