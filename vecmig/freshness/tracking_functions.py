"""The functions that the triggers on a source run, as SQL writes them: what they note, and what they delete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import statement
from vecmig.source.keys import same_key
from vecmig.source.relations import PARTITIONED
from vecmig.source.source import Source

#: The note that a transaction's changes are not all noted, until they are.
UNFINISHED: Final = "a transaction ended before its changes were noted"


@lru_cache(maxsize=64)
def function_body(source: Source, schema: str) -> str:
    """Write the body of the trigger function."""
    root = "TG_RELID" if source.kind != PARTITIONED else "pg_partition_root(TG_RELID)"
    common = _common_parts(source, schema)
    noted = sql.Literal(_setting("noted", source, schema))
    note_full_pass = statement("freshness/change_tracking", "note_full_pass", noted=noted, **_named(source, schema))
    body = statement(
        "freshness/change_tracking",
        "function_body",
        relation=sql.SQL(root),
        in_place=_in_place(source),
        old_keys=_listed(source, "OLD.{}"),
        new_keys=_listed(source, "NEW.{}"),
        find_elsewhere=_find_elsewhere(source),
        park=_park(source, schema),
        carried=_carried(source, schema),
        empty=statement(
            "freshness/change_tracking",
            "empty",
            vectors=source.vectors,
            source=source.relation,
            **_named(source, schema),
        ),
        gather=statement(
            "freshness/change_tracking", "gather", rest=function_names(schema, source.collection.name)[1], **common
        ),
        work=statement(
            "freshness/change_tracking",
            "work",
            look_behind=_look_behind(source),
            forget=forget(source, schema, sql.SQL("old_key")),
            note=note(source, schema, sql.SQL("new_key"), what=sql.SQL("what")),
            notes=sql.Literal(rest_names(schema, source.collection.name)["notes"]),
            unfinished=sql.Literal(UNFINISHED),
            **common,
            **_named(source, schema),
        ),
        note_full_pass=note_full_pass,
        **common,
    )
    return body.as_string(None)


def _carried(source: Source, schema: str) -> sql.Composable:
    """Say whether the vector of a record whose key changed is that of its text still, where a tag follows it."""
    if source.followed is None:
        return sql.SQL("true")
    stamps = Stamps(source, schema, source.followed.tag)
    return stamps.statement(
        "freshness/change_tracking",
        "carried",
        collection=sql.Literal(source.collection.name),
        tag=sql.Literal(stamps.tag),
        new_record=_match(source, source.aliases_of("s"), sql.SQL("new_key")),
        old_stamp=_match(source, source.stored_of("v"), sql.SQL("old_key")),
    )


def _park(source: Source, schema: str) -> sql.Composable:
    """Remember what vecmig has put into the column of a record whose key changed, where it does so."""
    if source.followed is None:
        return sql.SQL("")
    stamps = Stamps(source, schema, source.followed.tag)
    if not stamps.fills:
        return sql.SQL("")
    column = sql.Identifier("new", source.followed.column or "")
    park = stamps.statement(
        "freshness/fills",
        "park",
        collection=sql.Literal(source.collection.name),
        tag=sql.Literal(stamps.tag),
        stamped=stamps.digest(sql.Identifier("v", "embedding")),
        in_column=stamps.digest(sql.SQL("{}::{}").format(column, source.pgvector.type(source.collection.storage))),
        old_stamp=_match(source, source.stored_of("v"), sql.SQL("old_key")),
    )
    return sql.SQL("{};").format(park)


@lru_cache(maxsize=64)
def rest_body(source: Source, schema: str) -> str:
    """Write the body of the function that works off what the trigger function gathers."""
    typed = (
        sql.SQL("(c -> 1 ->> {})::{}").format(sql.Literal(number), sql.SQL(column.full_type))
        for number, column in enumerate(source.key)
    )
    note_all = statement(
        "freshness/change_tracking",
        "note_all",
        renewed=_renewed(),
        typed_key=sql.SQL(", ").join(typed),
        **_named(source, schema),
    )
    body = statement(
        "freshness/change_tracking",
        "rest_body",
        source=source.relation,
        source_name=sql.Literal(source.relation.as_string(None)),
        function_name=sql.Literal(f"{function_names(schema, source.collection.name)[0].as_string(None)}()"),
        in_place=_in_place(source),
        match_source=_match(source, source.columns_of("s"), sql.SQL("old_key")),
        schema=sql.Identifier(schema),
        forget=forget(source, schema, sql.SQL("old_key")),
        note_all=note_all,
        **_common_parts(source, schema),
    )
    return body.as_string(None)


def function_names(schema: str, collection: str) -> tuple[sql.Identifier, sql.Identifier]:
    """Name the trigger function of a collection, and the one that works off what the first one gathers."""
    return sql.Identifier(schema, f"{collection}_track"), sql.Identifier(schema, f"{collection}_track_rest")


def rest_names(schema: str, collection: str) -> dict[str, str]:
    """Give what is asked for of the second function: it, what calls it, and the table whose notes do."""
    caller, notes = sql.Identifier(schema, "track_rest"), sql.Identifier(schema, "full_pass")
    return {
        "rest": f"{function_names(schema, collection)[1].as_string(None)}(bigint, boolean)",
        "caller": f"{caller.as_string(None)}()",
        "notes": notes.as_string(None),
    }


def _named(source: Source, schema: str) -> dict[str, sql.Composable]:
    return {"schema": sql.Identifier(schema), "collection": sql.Literal(source.collection.name)}


def _common_parts(source: Source, schema: str) -> dict[str, sql.Composable]:
    """Give what both functions have: the setting that gathers, and what becomes of what goes wrong."""
    return {
        "gathered": sql.Literal(_setting("gathered", source, schema)),
        "exceptions": statement("freshness/change_tracking", "exceptions"),
    }


def _setting(what: str, source: Source, schema: str) -> str:
    """Name a setting that remembers something of a collection to the end of a transaction."""
    digest = hashlib.sha256(f"{schema}\0{source.collection.name}".encode()).hexdigest()
    return f"vecmig.{what}_{digest[:12]}"


def _in_place(source: Source) -> sql.Composed:
    return sql.SQL(" AND ").join(
        statement(
            "freshness/change_tracking",
            "in_place",
            number=sql.Literal(column.number),
            names=_array([source.schema, source.table, column.name]),
        )
        for column in source.key
    )


def _find_elsewhere(source: Source) -> sql.Composed:
    numbers = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(sql.Literal(column.number) for column in source.key))
    return statement(
        "freshness/change_tracking",
        "find_elsewhere",
        source_schema=sql.Literal(source.schema),
        source_table=sql.Literal(source.table),
        key_names=_array([column.name for column in source.key]),
        key_numbers=numbers,
        source=sql.Literal(source.relation.as_string(None)),
        oid=sql.Literal(source.oid),
        taken=sql.Literal("($1).%I"),
    )


def _look_behind(source: Source) -> sql.Composable:
    if source.kind != PARTITIONED:
        return sql.SQL("")
    match_source = _match(source, source.columns_of("s"), sql.SQL("old_key"))
    return statement("freshness/change_tracking", "look_behind", source=source.relation, match_source=match_source)


def forget(source: Source, schema: str, key: sql.Composable) -> sql.Composed:
    """Delete what there is of a record that is gone: all its vectors, and its rejections."""
    return statement(
        "freshness/change_tracking",
        "forget",
        vectors=source.vectors,
        schema=sql.Identifier(schema),
        collection=sql.Literal(source.collection.name),
        old_key=key,
        match_old=_match(source, source.stored_of("v"), key),
    )


def _renewed() -> sql.Composed:
    """Say what becomes of a change that is noted already."""
    return statement("freshness/change_tracking", "renewed")


def note(source: Source, schema: str, key: sql.Composable, *, what: sql.Composable) -> sql.Composed:
    """Note that a record changed, and what of it where a tag has adopted the source's own vectors."""
    parts = {"new_key": key, "what": what, "renewed": _renewed()} | _named(source, schema)
    return statement("freshness/change_tracking", "note", **parts)


def _match(source: Source, columns: Iterable[sql.Composable], key: sql.Composable) -> sql.Composed:
    """Match the columns of a relation with a key in the form that the outbox has."""
    values = (
        sql.SQL("({} ->> {})::{}").format(key, sql.Literal(number), sql.SQL(column.full_type))
        for number, column in enumerate(source.key)
    )
    return same_key(source.key, columns, values)


def _listed(source: Source, form: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(column.name)) for column in source.key)


def _array(texts: Iterable[str]) -> sql.Composed:
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(map(sql.Literal, texts)))
