"""Write an expression as PostgreSQL understands it, so that it means the same whatever search_path a session has."""

from __future__ import annotations

from typing import Literal

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import ConfigError, DatabaseError
from vecmig.model.adoption import AdoptedTag
from vecmig.postgres.called import path_hint
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.sessions import Connection, by_the_roles_path
from vecmig.source.source import Source


def resolve(connection: Connection, source: Source, fragment: str, kind: Literal["vector", "condition"]) -> str:
    """Return an expression over the source with the schema of each function and type, in the caller's transaction.

    A vector is brought to the collection's storage. Names are looked up as the role looks them up, and in the schema of
    pgvector.

    Raises:
        ConfigError: it does not work, or gives the same row another value at another time.
    """
    type_ = sql.SQL("boolean") if kind == "condition" else source.pgvector.type(source.collection.storage)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement("source/catalog", "resolve_begin", source=source.relation))
            with by_the_roles_path(connection):
                connection.execute(statement("source/catalog", "resolve_path"), {"schema": source.pgvector.schema})
                connection.execute(statement("source/catalog", "resolve", type=type_, fragment=raw(fragment)))
            row = connection.execute(statement("source/catalog", "resolved")).fetchone()
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        if isinstance(error, pg.InsufficientPrivilege):
            _require_temporary(connection)
            raise
        hint = f"Correct it. The columns of {source.schema}.{source.table} are: {', '.join(source.columns)}"
        if isinstance(error, pg.InvalidObjectDefinition):
            hint = "It may only use what gives the same row the same value each time: IMMUTABLE functions and casts."
        raise ConfigError(
            f"Collection {source.collection.name}: {fragment!r} does not work: {error.diag.message_primary}.",
            state="Nothing was taken over.",
            hint=path_hint(connection, error) or hint,
        ) from error
    assert row is not None, "the column was just added"
    return str(row[0])


def _require_temporary(connection: Connection) -> None:
    database, role, may = connection.execute(statement("source/catalog", "temporary")).fetchone() or ("", "", True)
    if not may:
        raise DatabaseError(
            f"The role {role} may create no temporary tables in {database}: in one, which is rolled back, PostgreSQL "
            "says what an expression over the source means.",
            state="Nothing was changed.",
            hint=f"Let the owner of the database run: GRANT TEMPORARY ON DATABASE {database} TO {role}",
        )


def adoption_problem(connection: Connection, source: Source, adopted: AdoptedTag) -> str:
    """Say why nothing can be adopted from a source any more; empty where it works."""
    query = sql.SQL("SELECT FROM {} s WHERE s.vector IS NOT NULL LIMIT 0").format(source.offered(adopted))
    try:
        with connection.transaction():
            connection.execute(query, {})
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        if isinstance(error, pg.InsufficientPrivilege):
            raise
        return str(error.diag.message_primary)
    return ""
