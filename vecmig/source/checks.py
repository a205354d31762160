"""What must hold of a source before the first change: privileges, and keys that name one record."""

from __future__ import annotations

from vecmig.errors import ConfigError, DatabaseError
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


def check_privileges(connection: Connection, source: Source) -> None:
    """Make sure, before the first change, that this role may do all that an upgrade needs.

    Raises:
        DatabaseError: it may not; the message says what is missing.
    """
    values = {"name": source.relation.as_string(None), "tracked": source.tracked, "vectors": source.vectors_schema}
    row = connection.execute(statement("source/catalog", "missing_privileges"), values).fetchone()
    if row and row[0]:
        tracking = " Or set change_tracking: scan, which needs no triggers." if source.tracked else ""
        raise DatabaseError(
            f"The role {connection.info.user} lacks {', '.join(row[0])} for {source.schema}.{source.table}.",
            state="Nothing was changed.",
            hint=f"Have its owner grant it, or connect as the owner.{tracking}",
        )


def without_key(connection: Connection, source: Source) -> int:
    """Count the rows that belong to the collection and have NULL in their key: they are left out."""
    null = source.no_key
    if null is None:
        return 0
    query = statement("source/catalog", "without_key", source=source.relation, condition=source.condition, null=null)
    row = connection.execute(query, {}).fetchone()
    return int(row[0]) if row else 0


def check_keys(connection: Connection, source: Source) -> None:
    """Make sure that a key names one record: by a unique index, or else by looking at every row.

    Raises:
        ConfigError: two records share a key, or one has none where nothing promises that the others are unique.
    """
    if source.unique:
        return
    name = source.collection.name
    if without_key(connection, source):
        raise ConfigError(
            f"Collection {name}: a record of {source.schema}.{source.table} has NULL in its key.",
            hint="Name NOT NULL columns in key:, or leave such records out with where:",
        )
    parts = {"records": source.records, "keys": source.alias_list("s"), "key_json": source.key_json("s")}
    row = connection.execute(statement("source/catalog", "duplicate_key", **parts), {}).fetchone()
    if row is not None:
        raise ConfigError(
            f"Collection {name}: {row[1]} records of {source.schema}.{source.table} share the key {row[0]}.",
            state="Nothing was changed.",
            hint="Name the columns of a primary key or unique index in key:",
        )
