"""What PostgreSQL's catalogue says about a collection's source, and the names of the objects vecmig makes for it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import ConfigError, SourceMissing
from vecmig.model.adoption import AdoptedTag
from vecmig.model.collection import Collection
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.pgvector import require_usable
from vecmig.postgres.sessions import Connection
from vecmig.source.expressions import check_expressions, unseen_changes
from vecmig.source.facts import Facts, find_facts
from vecmig.source.keys import KeyColumn
from vecmig.source.relations import Relation
from vecmig.source.source import KINDS, TABLES, Source


def no_source(connection: Connection, collection: Collection) -> SourceMissing:
    """Say that a source is not there."""
    name = sql.Identifier(*collection.source).as_string(connection)
    return SourceMissing(
        f"Collection {collection.name}: the source {name} does not exist in this database.",
        hint="Correct source: in collections.yaml, or check that database_url names the right database.",
    )


def describe(
    connection: Connection,
    collection: Collection,
    relation: Relation,
    *,
    home: str,
    vectors_schema: str,
    stored: Sequence[str] | None = None,
    called: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    expressions: bool = True,
    changes: bool = True,
    facts: Facts | None = None,
) -> Source:
    """Check a collection against the relation that is its source.

    Args:
        connection: the connection.
        collection: the collection.
        relation: its source.
        home: the schema of what applications read.
        vectors_schema: the schema of the vectors table.
        stored: what the vectors table calls the key columns; as the source does, where it is not there yet.
        called: what columns that the collection may name are called now.
        notes: what to tell of the names.
        expressions: whether to make sure that text and where work.
        changes: whether, beyond that, to see what they change with; a reader need not know.
        facts: what the catalogue says of the relation, where it was asked already.

    Raises:
        ConfigError: something does not exist or does not fit; the message names it.
    """
    facts = find_facts(connection, relation.oid) if facts is None else facts
    pgvector, columns = require_usable(facts.pgvector), facts.columns
    if relation.kind not in KINDS:
        raise ConfigError(f"Collection {collection.name}: {relation} is neither a table nor a view.")
    names = _known_key(collection, columns)
    key = tuple(
        replace(columns[name], made_as=None if made_as == name else made_as)
        for name, made_as in zip(names, stored or names, strict=True)
    )
    if expressions:
        _check_live_columns(collection, columns, called or {})
    _refuse_nested_keys(collection, key, nested=facts.nested)
    table = relation.kind in TABLES
    unseen = tuple(
        f"the partition {name} is a foreign table" if partition else f"{name} inherits from {parent}"
        for name, partition, parent in (facts.parts if table else ())
    )
    inherited = relation.kind == "r" and bool(unseen)
    if expressions:
        name = sql.Identifier(relation.schema, relation.name)
        check_expressions(connection, collection, name, called or {})
        if changes:
            unseen += unseen_changes(connection, collection, name, table=table)
    source = Source(
        collection=collection,
        oid=relation.oid,
        schema=relation.schema,
        table=relation.name,
        kind=relation.kind,
        key=key,
        columns=tuple(columns),
        # an index does not reach into the tables that inherit
        unique=any(unique.issubset(names) for unique in facts.unique) and not inherited,
        row_security=relation.row_security,
        pgvector=pgvector,
        home=home,
        vectors_schema=vectors_schema,
        unseen=unseen,
        notes=notes,
    )
    return replace(source, key=_compared_collations(connection, source))


def _compared_collations(connection: Connection, source: Source) -> tuple[KeyColumn, ...]:
    """Mark the key columns that the vectors have in another collation."""
    names = [column.name for column in source.key if column.collation is not None]
    if not names:
        return source.key
    stored = [column.stored for column in source.key if column.collation is not None]
    vectors = source.vectors.as_string(connection)
    values = {"vectors": vectors, "oid": source.oid, "names": names, "stored": stored}
    other = {name for (name,) in connection.execute(statement("source/catalog", "other_collations"), values)}
    return tuple(replace(column, collated=column.name in other) for column in source.key)


def _known_key(collection: Collection, columns: Iterable[str]) -> tuple[str, ...]:
    for column in collection.key:
        if column not in columns:
            raise ConfigError(
                f"Collection {collection.name}: {'.'.join(collection.source)} has no column {column!r}, named in key:.",
                hint=f"Its columns are: {', '.join(columns)}",
            )
    return collection.key


def _check_live_columns(collection: Collection, columns: Container[str], called: Mapping[str, str]) -> None:
    said = collection.live_columns
    for column in said if isinstance(said, tuple) else ():
        if column not in columns:
            now = called.get(column)
            hint = f"It is called {now} now: correct live_columns:" if now else "Take it out of live_columns:"
            raise ConfigError(
                f"Collection {collection.name}: {'.'.join(collection.source)} has no column {column!r}, named in "
                "live_columns:.",
                hint=f"{hint} in collections.yaml.",
            )


def _refuse_nested_keys(collection: Collection, key: Iterable[KeyColumn], *, nested: Container[str]) -> None:
    """Refuse key columns whose values do not come back from the JSON array that a key travels in."""
    for column in key:
        if column.name in nested:
            raise ConfigError(
                f"Collection {collection.name}: the key column {column.name} has the type {column.type}; "
                "arrays, composite types and JSON cannot be part of a key.",
                hint="Name other columns in key: that are NOT NULL and together unique.",
            )


def text_columns(connection: Connection, source: Source, *, where: bool = True) -> tuple[str, ...]:
    """Name the columns that text and where read, as PostgreSQL itself sees it; empty when they read the full row.

    Args:
        connection: the connection.
        source: the collection.
        where: False for those of the text alone.
    """
    collection = source.collection
    condition = collection.where if where else None
    return _read_columns(connection, source, [(collection.text, sql.SQL("text")), (condition, sql.SQL("boolean"))])


def where_columns(connection: Connection, source: Source) -> tuple[str, ...]:
    """Name the columns that where reads; empty when it reads the full row."""
    return _read_columns(connection, source, [(source.collection.where, sql.SQL("boolean"))])


def vector_columns(connection: Connection, source: Source, adopted: AdoptedTag) -> tuple[str, ...]:
    """Name the columns that adopted vectors come from; empty when they are made of the full row."""
    storage = source.pgvector.type(source.collection.storage)
    return _read_columns(connection, source, [(adopted.vector, storage), (adopted.condition, sql.SQL("boolean"))])


def _read_columns(
    connection: Connection, source: Source, fragments: Iterable[tuple[str | None, sql.Composable]]
) -> tuple[str, ...]:
    """Name the columns that expressions of given types read.

    A temporary view over the expressions is created, its dependencies are read, and it is rolled back. A session that
    may only read, which is enough for ``--sql``, cannot do that: there the full row is taken.
    """
    try:
        with connection.transaction(force_rollback=True):
            for number, (fragment, type_) in enumerate(fragments):
                if fragment is not None:
                    view = sql.Identifier(f"vecmig_probe_{number}")
                    parts = {"view": view, "type": type_, "fragment": raw(fragment), "source": source.relation}
                    connection.execute(statement("source/catalog", "probe_view", **parts))
            name = source.relation.as_string(connection)
            rows = connection.execute(statement("source/catalog", "probed_columns"), {"name": name}).fetchall()
    except pg.ReadOnlySqlTransaction:
        return ()
    names = {row[0] for row in rows}
    return () if None in names else tuple(sorted(names))
