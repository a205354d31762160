"""Change tracking: triggers on the source that fill an outbox and let vectors go with their record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import sql

from vecmig.store.catalog import PARTITIONED, Source, text_columns
from vecmig.store.connect import Connection
from vecmig.store.statements import statement
from vecmig.store.vectors import Space

_TRIGGERS: Final = ("track", "track_update", "track_truncate")
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits in the outbox of one collection: how many records, and when the first of them changed."""

    records: int
    oldest: datetime | None


def install_tracking(connection: Connection, source: Source, schema: str) -> None:
    """Create the trigger function and its triggers, or bring them up to date. Takes a short lock on the source."""
    function = sql.Identifier(schema, f"{source.collection.name}_track")
    parts = {"function": function, "source": source.relation}
    body = _function_body(source, schema).as_string(connection)
    connection.execute(statement("changes", "create_function", function=function, body=sql.Literal(body)))
    connection.execute(statement("changes", "revoke_function", **parts))
    for suffix in _TRIGGERS:
        trigger = sql.Identifier(_trigger_name(source, suffix))
        changed = _changed(connection, source)
        connection.execute(statement("changes", f"create_{suffix}", trigger=trigger, changed=changed, **parts))


def tracking_works(connection: Connection, source: Source) -> bool:
    """Whether all triggers are there and enabled."""
    names = [_trigger_name(source, suffix) for suffix in _TRIGGERS]
    values = {"source": source.relation.as_string(connection), "names": names}
    row = connection.execute(statement("changes", "triggers"), values).fetchone()
    return row is not None and row[0] == len(names)


def outbox(connection: Connection, source: Source, schema: str) -> Outbox:
    """Look at what waits."""
    query = statement("changes", "lag", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return Outbox(*row) if row else Outbox(0, None)


def snapshot(connection: Connection) -> str:
    """Give the database's present, for ``changed_since``."""
    row = connection.execute(statement("changes", "snapshot")).fetchone()
    assert row is not None
    return str(row[0])


def changed_since(connection: Connection, source: Source, schema: str, since: str) -> int:
    """Count the records whose change was not yet committed at a snapshot; some that just were may be among them."""
    query = statement("changes", "count_since", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name, "since": since}).fetchone()
    return int(row[0]) if row else 0


def forget_settled(connection: Connection, spaces: Sequence[Space]) -> None:
    """Clear the outbox of records that are fresh under every given tag, or have no text any more."""
    if not spaces:
        return
    first = spaces[0]
    schema = sql.Identifier(first.schema)
    unfinished = sql.SQL(" OR ").join(_unfinished(space) for space in spaces)
    lock = statement("changes", "lock_batch", schema=schema)
    delete = first.statement_of("changes", "forget_settled", unfinished=unfinished)
    after = "[]"
    while True:
        with connection.transaction():
            values = {"collection": first.source.collection.name, "after": after, "size": _BATCH}
            keys = [row[0] for row in connection.execute(lock, values)]
            if not keys:
                return
            connection.execute(delete, {"collection": first.source.collection.name, "keys": keys})
        after = keys[-1]


def _unfinished(space: Space) -> sql.Composed:
    """Neither fresh under this tag, nor rejected as it stands."""
    return space.statement_of("changes", "unfinished", tag=sql.Literal(space.tag))


def _function_body(source: Source, schema: str) -> sql.Composed:
    def keys(form: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(column.name)) for column in source.key)

    def same_as_old(relation: str) -> sql.Composed:
        return sql.SQL(" AND ").join(
            sql.SQL("{relation}.{name} OPERATOR({schema}.=) OLD.{name}").format(
                relation=sql.Identifier(relation),
                name=sql.Identifier(column.name),
                schema=sql.Identifier(column.equal_schema),
            )
            for column in source.key
        )

    moved: sql.Composable = sql.SQL("false")
    if source.kind == PARTITIONED:
        # an update that moves a row to another partition fires as DELETE and INSERT
        moved = sql.SQL("EXISTS (SELECT FROM {} s WHERE {})").format(source.relation, same_as_old("s"))
    return statement(
        "changes",
        "function_body",
        vectors=source.vectors,
        schema=sql.Identifier(schema),
        collection=sql.Literal(source.collection.name),
        old_keys=keys("OLD.{}"),
        new_keys=keys("NEW.{}"),
        # as text: it needs no operator of the key's type
        old_text=keys("OLD.{}::text"),
        new_text=keys("NEW.{}::text"),
        match_old=same_as_old("v"),
        moved=moved,
    )


def _changed(connection: Connection, source: Source) -> sql.Composed:
    """Tell whether an update changed the key or what the text is made of, by value.

    A column list (UPDATE OF) would go by the statement's SET list, and miss what a BEFORE trigger changed. The operator
    compares any type, also those without equality, such as json.
    """
    read = text_columns(connection, source)
    if not read:
        return sql.SQL("OLD OPERATOR(pg_catalog.*<>) NEW").format()
    names = dict.fromkeys((*(column.name for column in source.key), *read))
    rows = [
        sql.SQL(", ").join(sql.SQL(f"{row}.{{}}").format(sql.Identifier(n)) for n in names) for row in ("OLD", "NEW")
    ]
    return sql.SQL("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record").format(*rows)


def _trigger_name(source: Source, suffix: str) -> str:
    return f"vecmig_{source.collection.name}_{suffix}"
