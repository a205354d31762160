"""Change tracking: triggers on the source that fill an outbox and let vectors go with their record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import errors as pg
from psycopg import sql

from vecmig.store.access import close_function
from vecmig.store.catalog import PARTITIONED, Relation, Source, text_columns
from vecmig.store.connect import Connection
from vecmig.store.keys import same_key
from vecmig.store.ledger import Route
from vecmig.store.locks import LOCK_TIMEOUT_MS
from vecmig.store.schema import installed_version
from vecmig.store.settings import function_settings
from vecmig.store.statements import statement
from vecmig.store.vectors import PendingRecord, Space

_TRIGGERS: Final = ("track", "track_update", "track_truncate")
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits in the outbox of one collection: how many records, and when the first of them changed."""

    records: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Lag:
    """What some tags are behind their records: how many changes they lack, and the age of the oldest of these."""

    records: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """How one collection stands: where its reads are, as what it is recorded, and whether anything changed."""

    route: Route
    #: text, where and change_tracking, as they were recorded last.
    recorded: tuple[str, str | None, str]
    #: Whether the candidate's backfill came to its end once.
    filled: bool
    #: Whether the outbox has changes that were not committed at the snapshot that was asked from.
    changed: bool
    #: The newest note that a full pass is needed; 0 where there is none.
    full_pass: int
    #: The snapshot to ask from the next time.
    at: str

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Look:
        """Read a row of ``look``."""
        return cls(Route(*row[:5]), tuple(row[5:8]), *row[8:])


def install_tracking(connection: Connection, source: Source, schema: str) -> None:
    """Create the trigger function and its triggers, or bring them up to date. Takes a short lock on the source."""
    function = sql.Identifier(schema, f"{source.collection.name}_track")
    parts = {"function": function, "source": source.relation}
    body = _function_body(source, schema).as_string(connection)
    made = {"function": function, "settings": function_settings(), "body": sql.Literal(body)}
    connection.execute(statement("changes", "create_function", **made))
    close_function(connection, function)
    for suffix in _TRIGGERS:
        trigger = sql.Identifier(_trigger_name(source, suffix))
        changed = _changed(connection, source)
        connection.execute(statement("changes", f"create_{suffix}", trigger=trigger, changed=changed, **parts))


def trigger_names(source: Source) -> list[str]:
    """Name the triggers that a tracked source has."""
    return [_trigger_name(source, suffix) for suffix in _TRIGGERS]


def drop_tracking(connection: Connection, source: Source, relation: Relation) -> None:
    """Take the triggers off a relation that is a collection's source no more."""
    on = sql.Identifier(relation.schema, relation.name)
    for name in trigger_names(source):
        connection.execute(statement("changes", "drop_trigger", trigger=sql.Identifier(name), source=on))


def tracking_works(connection: Connection, source: Source) -> bool:
    """Whether all triggers are there and enabled."""
    names = trigger_names(source)
    values = {"source": source.relation.as_string(connection), "names": names}
    row = connection.execute(statement("changes", "triggers"), values).fetchone()
    return row is not None and row[0] == len(names)


def tracking_is_old(connection: Connection, source: Source) -> bool:
    """Whether an earlier vecmig made a trigger that no dump gives back, and this role may replace it."""
    values = {"source": source.relation.as_string(connection), "names": trigger_names(source)}
    row = connection.execute(statement("changes", "old_triggers"), values).fetchone()
    return row is not None and bool(row[0])


def tracking_is_open(connection: Connection, source: Source) -> bool:
    """Whether PUBLIC may run the trigger function, as after a restore without grants, and this role may forbid it."""
    values = {"source": source.relation.as_string(connection), "names": trigger_names(source)}
    row = connection.execute(statement("changes", "open_function"), values).fetchone()
    return row is not None and bool(row[0])


def outbox(connection: Connection, source: Source, schema: str) -> Outbox:
    """Look at what waits."""
    query = statement("changes", "outbox", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return Outbox(*row) if row else Outbox(0, None)


def lag(connection: Connection, spaces: Sequence[Space]) -> Lag:
    """Measure what the tags of one collection are behind: the changes that at least one of them lacks.

    A change that all of them have, and that only waits to be forgotten, is none of them.
    """
    if not spaces:
        return Lag()
    query = spaces[0].statement_of("changes", "lag", unsettled=_unsettled(spaces))
    row = connection.execute(query, spaces[0].values).fetchone()
    return Lag(*row) if row else Lag()


def look(connection: Connection, schema: str, since: Mapping[str, str | None]) -> dict[str, Look]:
    """Look at collections in one statement; give those that ever had a tag.

    Args:
        connection: the connection.
        schema: where vecmig's tables are.
        since: the collections, and from when on changes count for each: a snapshot, or None for all that wait.
    """
    values = {"collections": list(since), "since": list(since.values())}
    try:
        rows = connection.execute(statement("changes", "look", schema=sql.Identifier(schema)), values).fetchall()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        if installed_version(connection, schema):
            raise
        return {}
    return {row[0]: Look.from_row(row) for row in rows}


def free(connection: Connection, space: Space, records: Sequence[PendingRecord]) -> list[PendingRecord]:
    """Leave out records that an application holds now: their vectors would be paid for, and could not be written."""
    if not records or not space.source.tracked:
        return list(records)
    keys = [json.dumps(record.key) for record in records]
    rows = connection.execute(space.statement_of("changes", "free"), {"keys": keys})
    return [records[at - 1] for (at,) in rows]


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


def forget_settled(connection: Connection, source: Source, schema: str) -> None:
    """Clear the outbox of the records that are settled under every tag which is maintained now.

    A record is settled under a tag when it is fresh there, or rejected as it stands; one without a text when its
    vectors are gone, which this sees to. The tags are read once the outbox's rows are locked, so a tag that becomes one
    of them meanwhile finds either the change or, as its backfill begins later, the record as it is now.
    """
    after: str | None = "[]"
    # an application, or another run, is at work on the tables themselves: the next call goes on
    with suppress(pg.LockNotAvailable, pg.UndefinedTable):
        while after is not None:
            with connection.transaction():
                after = _forget_batch(connection, source, schema, after)


def _forget_batch(connection: Connection, source: Source, schema: str, after: str) -> str | None:
    """Forget what is settled of the next rows; give where to go on."""
    spaces = _maintained(connection, source, schema)
    if not spaces:
        return None
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS)))
    relations = sql.SQL(", ").join([source.relation, *(space.relation for space in spaces)])
    connection.execute(statement("changes", "hold_relations", relations=relations))
    values: dict[str, Any] = {"collection": source.collection.name, "after": after, "size": _BATCH}
    keys = [row[0] for row in connection.execute(spaces[0].statement_of("changes", "lock_batch"), values)]
    if not keys:
        return None
    if _maintained(connection, source, schema) != spaces:
        return after
    values = {"collection": source.collection.name, "keys": keys}
    for space in spaces:
        connection.execute(space.statement_of("changes", "sweep_emptied", rows=source.rows), values)
    connection.execute(spaces[0].statement_of("changes", "forget_settled", unsettled=_unsettled(spaces)), values)
    return str(keys[-1])


def _maintained(connection: Connection, source: Source, schema: str) -> list[Space]:
    query = statement("changes", "maintained", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return [Space(source, schema, tag) for tag in dict.fromkeys(row or ()) if tag is not None]


def _unsettled(spaces: Sequence[Space]) -> sql.Composed:
    """Whether at least one of the tags lacks a change of the outbox."""
    return spaces[0].statement_of(
        "changes",
        "unsettled",
        rows=spaces[0].source.rows,
        unfinished=sql.SQL(" OR ").join(_unfinished(space) for space in spaces),
        emptied=sql.SQL(" OR ").join(space.statement_of("changes", "emptied") for space in spaces),
    )


def _unfinished(space: Space) -> sql.Composed:
    """Neither fresh under this tag, nor rejected as it stands."""
    return space.statement_of("changes", "unfinished", tag=sql.Literal(space.tag), whole=space.whole)


def _function_body(source: Source, schema: str) -> sql.Composed:
    def keys(form: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(column.name)) for column in source.key)

    def same_as_old(columns: Iterable[sql.Composable]) -> sql.Composed:
        old = [sql.SQL("OLD.{}").format(sql.Identifier(column.name)) for column in source.key]
        return same_key(source.key, columns, old)

    moved: sql.Composable = sql.SQL("false")
    if source.kind == PARTITIONED:
        # an update that moves a row to another partition fires as DELETE and INSERT
        moved = sql.SQL("EXISTS (SELECT FROM {} s WHERE {})").format(
            source.relation, same_as_old(source.columns_of("s"))
        )
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
        match_old=same_as_old(source.stored_of("v")),
        moved=moved,
    )


def _changed(connection: Connection, source: Source) -> sql.Composed:
    """Tell whether an update changed the key or what the text is made of, by value.

    A column list (UPDATE OF) would go by the statement's SET list, and miss what a BEFORE trigger changed. The function
    compares any type, also those without equality, such as json. Its operator would not come back from a dump: written
    between two rows, ``*<>`` is taken for a comparison of their columns.
    """
    read = text_columns(connection, source)
    if not read:
        return sql.SQL("pg_catalog.record_image_ne(OLD, NEW)").format()
    names = dict.fromkeys((*(column.name for column in source.key), *read))
    rows = [
        sql.SQL(", ").join(sql.SQL(f"{row}.{{}}").format(sql.Identifier(n)) for n in names) for row in ("OLD", "NEW")
    ]
    return sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(*rows)


def _trigger_name(source: Source, suffix: str) -> str:
    return f"vecmig_{source.collection.name}_{suffix}"
