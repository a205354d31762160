"""The triggers on a source: they tell the outbox of changes, and let vectors go with their record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from vecmig.errors import ConfigError
from vecmig.freshness.pending import read_changed, read_page
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.tracking_functions import (
    UNFINISHED,
    forget,
    function_body,
    function_names,
    note,
    rest_body,
    rest_names,
)
from vecmig.ledger.access import close_function
from vecmig.postgres.called import path_hint
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import function_settings
from vecmig.source.catalog import text_columns, vector_columns, where_columns
from vecmig.source.keys import KeyColumn
from vecmig.source.relations import Relation
from vecmig.source.source import Source

_TRIGGERS: Final = ("track", "track_update", "track_truncate")
#: Those of a collection with a tag that follows the vectors in a column of the source; the second is for ``where``.
_FOLLOWING: Final = ("track_vector", "track_where")
#: Types whose values are the same text whatever the session's settings are.
_PLAIN: Final = {f"pg_catalog.{name}" for name in ("int2", "int4", "int8", "text", "varchar", "bpchar", "uuid", "bool")}


def install_tracking(connection: Connection, source: Source, schema: str) -> None:
    """Create the trigger function and its triggers, or bring them up to date. Takes a short lock on the source.

    Triggers that somebody let fire in replica sessions too, as a subscription needs it, go on to do so.
    """
    values = {"source": source.relation.as_string(connection), "names": trigger_names(source)}
    always = {name for (name,) in connection.execute(statement("freshness/change_tracking", "enabled"), values)}
    function = _install_functions(connection, source, schema)
    parts = {"function": function, "source": source.relation} | _conditions(connection, source)
    for suffix in set(_FOLLOWING).difference(_suffixes(source)):
        drop = {"trigger": sql.Identifier(_trigger_name(source, suffix)), "source": source.relation}
        connection.execute(statement("freshness/change_tracking", "drop_trigger", **drop))
    for suffix, name in zip(_suffixes(source), trigger_names(source), strict=True):
        trigger = sql.Identifier(name)
        connection.execute(statement("freshness/change_tracking", f"create_{suffix}", trigger=trigger, **parts))
        if name in always:
            connection.execute(
                statement("freshness/change_tracking", "enable_always", source=source.relation, trigger=trigger)
            )


def _install_functions(connection: Connection, source: Source, schema: str) -> sql.Identifier:
    """Create the trigger function, and the one for what it gathers, open to none but what calls them."""
    function, rest = function_names(schema, source.collection.name)
    # each costs every changed row a microsecond or two, and most keys are the same under all of them
    plain = {column.full_type for column in source.key} <= _PLAIN
    settings = sql.SQL("") if plain else function_settings()
    body = sql.Literal(rest_body(source, schema))
    connection.execute(statement("freshness/change_tracking", "create_rest", rest=rest, settings=settings, body=body))
    body = sql.Literal(function_body(source, schema))
    connection.execute(
        statement("freshness/change_tracking", "create_function", function=function, settings=settings, body=body)
    )
    # what calls it as well, which a dump without privileges leaves open
    for closed in (function, rest, sql.Identifier(schema, "track_rest")):
        close_function(connection, closed)
    values = rest_names(schema, source.collection.name)
    for (grant,) in connection.execute(statement("freshness/change_tracking", "open_rest"), values).fetchall():
        connection.execute(grant)
    found = connection.execute(statement("freshness/change_tracking", "rest_trigger"), values).fetchone()
    own = {"schema": sql.Identifier(schema)}
    if found is None:
        unfinished = sql.Literal(UNFINISHED)
        connection.execute(statement("freshness/change_tracking", "create_rest_trigger", unfinished=unfinished, **own))
    if found != ("A",):
        connection.execute(statement("freshness/change_tracking", "enable_rest_trigger", **own))
    return function


def try_tracking(connection: Connection, stamps: Stamps) -> None:
    """Do, and roll back, what the triggers and a run are about to do with the keys, on their real types.

    Raises:
        ConfigError: PostgreSQL refuses it; the message names the column and its type.
    """
    source, key = stamps.source, ""
    try:
        with connection.transaction(force_rollback=True):
            nulls = sql.SQL("jsonb_build_array({})").format(sql.SQL(", ").join([sql.SQL("NULL")] * len(source.key)))
            first = stamps.statement(
                "freshness/change_tracking", "trial_key", key_json=source.key_json("s"), nulls=nulls
            )
            (key,) = connection.execute(first, {}).fetchone() or ("",)
            with connection.transaction(force_rollback=True):
                # as the trigger function has it
                connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
                literal = sql.SQL("{}::jsonb").format(sql.Literal(key))
                connection.execute(forget(source, stamps.schema, literal))
            literal = sql.SQL("{}::jsonb").format(sql.Literal(key))
            connection.execute(note(source, stamps.schema, literal, what=sql.SQL("NULL")))
            read_page(connection, stamps, None, 1)
            read_changed(connection, stamps, None, 1)
            connection.execute(
                sql.SQL("EXPLAIN {}").format(stamps.statement("freshness/coverage", "coverage", due=sql.SQL("false"))),
                stamps.values,
            )
            there_and_back = stamps.statement("freshness/change_tracking", "trial_round", key_json=source.key_json("s"))
            changed = connection.execute(there_and_back, {}).fetchone()
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        if hint := path_hint(connection, error, own=stamps.schema):
            raise ConfigError(
                f"Collection {source.collection.name}: a function that text or where calls does not work: "
                f"{error.diag.message_primary}.",
                state="Nothing was changed.",
                hint=hint,
            ) from error
        raise _unfit(connection, source, str(error.diag.message_primary)) from error
    if changed is not None:
        raise _unfit(connection, source, "its values do not come back from JSON as they were")


def _unfit(connection: Connection, source: Source, why: str) -> ConfigError:
    """Name the key columns that PostgreSQL cannot compare; all of them where that is not the reason."""
    unfit = [column for column in source.key if not _comparable(connection, source, column)] or source.key
    named = " and ".join(f"{column.name} of type {column.type}" for column in unfit)
    return ConfigError(
        f"Collection {source.collection.name}: its key cannot be tracked by {named}: {why}.",
        state="Nothing was changed.",
        hint="Name other columns in key: that are NOT NULL and together unique.",
    )


def _comparable(connection: Connection, source: Source, column: KeyColumn) -> bool:
    parts = {
        "source": source.relation,
        "vectors": source.vectors,
        "column": sql.Identifier(column.name),
        "equals": column.operator("="),
    }
    try:
        with connection.transaction():
            connection.execute(statement("freshness/change_tracking", "trial_column", **parts))
    except psycopg.ProgrammingError:
        return False
    return True


def trigger_names(source: Source) -> list[str]:
    """Name the triggers that a tracked source has."""
    return [_trigger_name(source, suffix) for suffix in _suffixes(source)]


def _suffixes(source: Source) -> tuple[str, ...]:
    if source.followed is None:
        return _TRIGGERS
    return (*_TRIGGERS, *(_FOLLOWING if source.collection.where else _FOLLOWING[:1]))


def _trigger_name(source: Source, suffix: str) -> str:
    return f"vecmig_{source.collection.name}_{suffix}"


def drop_tracking(connection: Connection, source: Source, before: Relation | None = None) -> None:
    """Take the triggers off a source that no tag needs to hear of, or off the relation that was it before."""
    on = source.relation if before is None else sql.Identifier(before.schema, before.name)
    for suffix in (*_TRIGGERS, *_FOLLOWING):
        trigger = sql.Identifier(_trigger_name(source, suffix))
        connection.execute(statement("freshness/change_tracking", "drop_trigger", trigger=trigger, source=on))


def remove_tracking(connection: Connection, schema: str, collection: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Drop a collection's trigger function, and the triggers that call it, on whatever tables they are.

    Returns:
        The triggers, each with its table; and whether there was a function.
    """
    function, rest = function_names(schema, collection)
    values = {"function": f"{function.as_string(connection)}()"}
    triggers = []
    for name, table_schema, table in connection.execute(
        statement("freshness/change_tracking", "calling"), values
    ).fetchall():
        on = sql.Identifier(table_schema, table)
        connection.execute(
            statement("freshness/change_tracking", "drop_trigger", trigger=sql.Identifier(name), source=on)
        )
        triggers.append((name, f"{table_schema}.{table}"))
    there = has_function(connection, schema, collection)
    connection.execute(statement("freshness/change_tracking", "drop_functions", function=function, rest=rest))
    return tuple(triggers), there


def has_function(connection: Connection, schema: str, collection: str) -> bool:
    """Whether the trigger function of a collection is there; ``vecmig untrack`` drops it."""
    function = sql.Identifier(schema, f"{collection}_track").as_string(connection)
    row = connection.execute(
        statement("freshness/change_tracking", "has_function"), {"function": f"{function}()"}
    ).fetchone()
    return bool(row and row[0])


def tracking_works(connection: Connection, source: Source) -> bool:
    """Whether all triggers are there and enabled."""
    names = trigger_names(source)
    values = {"source": source.relation.as_string(connection), "names": names}
    row = connection.execute(statement("freshness/change_tracking", "triggers"), values).fetchone()
    return row is not None and row[0] == len(names)


def silent_writers(connection: Connection, source: Source) -> list[tuple[str, str]]:
    """Return what is set up to write to the source without firing the triggers, as (subscription or role, its name)."""
    values = {"source": source.relation.as_string(None), "names": trigger_names(source)}
    return connection.execute(statement("freshness/change_tracking", "silent_writers"), values).fetchall()


class Tracking(NamedTuple):
    """How the triggers on a source are."""

    #: Whether all of them are there and enabled.
    works: bool
    #: Whether they are not as they would be made now, and this role may replace them.
    old: bool
    #: Whether PUBLIC may run the trigger function, as after a restore without grants, and this role may forbid it.
    open: bool


def find_tracking(connection: Connection, source: Source, schema: str) -> Tracking:
    """Compare the triggers with what they would be made as now."""
    names = trigger_names(source)
    parts = {
        name: statement("freshness/change_tracking", name) for name in ("triggers", "old_triggers", "open_function")
    }
    values = {
        "source": source.relation.as_string(connection),
        "names": names,
        "body": function_body(source, schema),
        "rest_body": rest_body(source, schema),
        **rest_names(schema, source.collection.name),
    }
    row = connection.execute(statement("freshness/change_tracking", "tracking", **parts), values).fetchone()
    assert row is not None, "it gives one row"
    return Tracking(row[0] == len(names), *row[1:])


def _conditions(connection: Connection, source: Source) -> dict[str, sql.Composable]:
    """Tell whether an update changed the key or what the text is made of, and whether it changed the source's vector.

    By value: a column list (UPDATE OF) would go by the statement's SET list, and miss what a BEFORE trigger changed. An
    update that changed a vector fires the trigger that says so, and no other one; the third is for one that changed
    nothing but what ``where`` reads.
    """
    followed = source.followed
    read = text_columns(connection, source, where=followed is None)
    keys = [column.name for column in source.key]
    changed = _differ(dict.fromkeys((*keys, *read)) if read else None)
    if followed is None:
        return {"changed": changed, "what": sql.SQL("")}
    moved = _differ(where_columns(connection, source) or None) if source.collection.where else sql.SQL("false")
    vector_changed = _differ(vector_columns(connection, source, followed) or None)
    told = sql.SQL("{} AND pg_catalog.current_setting('vecmig.fills', true) IS DISTINCT FROM 'on'")
    return {
        "changed": sql.SQL("{} AND NOT {}").format(changed, vector_changed),
        "what": sql.Literal("text"),
        "moved": sql.SQL("{} AND NOT {} AND NOT {}").format(moved, changed, vector_changed),
        # what vecmig itself puts there has its stamp already
        "vector_changed": told.format(vector_changed) if followed.adoption.in_place else vector_changed,
    }


def _differ(columns: Iterable[str] | None) -> sql.Composed:
    """Compare columns of the old row and the new one; all of them for None.

    The function compares any type, also those without equality, such as json. Its operator would not come back from a
    dump: written between two rows, ``*<>`` is taken for a comparison of their columns.
    """
    if columns is None:
        return sql.SQL("pg_catalog.record_image_ne(OLD, NEW)").format()
    names = list(columns)
    rows = [
        sql.SQL(", ").join(sql.SQL(f"{row}.{{}}").format(sql.Identifier(n)) for n in names) for row in ("OLD", "NEW")
    ]
    return sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(*rows)
