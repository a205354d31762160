"""What an audit asks of rights and places: how they differ from what vecmig would make today. It reads only."""

from __future__ import annotations

from collections.abc import Sequence

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


def cannot_search(connection: Connection, source: Source) -> list[str | None]:
    """Name the roles that may read all of the source, and may not call the search function; None is PUBLIC."""
    values = {
        "search": source.search.as_string(None),
        "source": source.relation.as_string(None),
        "schema": source.vectors_schema,
    }
    return [row[0] for row in connection.execute(statement("inventory/protection", "cannot_search"), values)]


def foreign_operators(connection: Connection, source: Source) -> list[str]:
    """Name the operators in the live view that are somebody else's: they run as whoever reads it."""
    schemas = [column.equal_schema for column in source.key]
    values = {"live": source.live.as_string(None), "schemas": schemas, "where": source.collection.where or ""}
    return [row[0] for row in connection.execute(statement("inventory/protection", "foreign_operators"), values)]


def own_grants(connection: Connection, schema: str, roles: Sequence[str]) -> list[tuple[str, str | None, list[str]]]:
    """Return who beside ``roles`` may do more with vecmig's own tables than a reader needs: table, role, what."""
    values = {"schema": schema, "migrators": list(roles)}
    return connection.execute(statement("inventory/protection", "own_grants"), values).fetchall()
