"""What PostgreSQL's catalogue says about a collection's source, and the names of the objects vecmig makes for it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import errors as pg
from psycopg import sql

from vecmig.config import Collection
from vecmig.errors import ConfigError, DatabaseError
from vecmig.store.connect import Connection, by_the_roles_path
from vecmig.store.expressions import check_expressions, unseen_changes, unseen_parts
from vecmig.store.keys import KeyColumn, same_key
from vecmig.store.statements import raw, statement

_OLDEST_PGVECTOR: Final = (0, 7)
_ITERATIVE_SCAN: Final = (0, 8)
_OPERATORS: Final = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
_OPCLASSES: Final = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}
#: What pg_class calls a partitioned table.
PARTITIONED: Final = "p"
_TABLES: Final = ("r", PARTITIONED)
_KINDS: Final = {"r": "table", PARTITIONED: "table", "v": "view", "m": "materialized view", "f": "foreign table"}


@dataclass(frozen=True, slots=True)
class Pgvector:
    """The pgvector extension of one database. It may live in any schema, so all its names are qualified here."""

    schema: str
    version: tuple[int, ...]

    @property
    def iterative_scan(self) -> bool:
        """Whether ``hnsw.iterative_scan`` exists (pgvector 0.8)."""
        return self.version >= _ITERATIVE_SCAN

    def type(self, storage: str, dims: int | None = None) -> sql.Composed:
        """Give ``schema.vector`` or ``schema.vector(N)``."""
        modifier = sql.SQL("") if dims is None else sql.SQL("({})").format(sql.Literal(dims))
        return sql.Identifier(self.schema, storage) + modifier

    def function(self, name: str) -> sql.Identifier:
        """Give a function of the extension by its full name."""
        return sql.Identifier(self.schema, name)

    def operator(self, metric: str) -> sql.Composed:
        """Give the distance operator of a metric by its full name."""
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.schema), sql.SQL(_OPERATORS[metric]))

    def opclass(self, storage: str, metric: str) -> sql.Identifier:
        """Give HNSW's operator class for a storage type and a metric."""
        return sql.Identifier(self.schema, f"{storage}_{_OPCLASSES[metric]}")


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as the catalogue has it."""

    oid: int
    schema: str
    name: str
    #: What pg_class calls its kind.
    kind: str
    row_security: bool

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """A collection together with what the database knows about its source."""

    collection: Collection
    oid: int
    schema: str
    table: str
    kind: str
    key: tuple[KeyColumn, ...]
    #: All columns of the source, in order.
    columns: tuple[str, ...]
    #: Whether a unique index guarantees that a key names one row.
    unique: bool
    row_security: bool
    pgvector: Pgvector
    #: The schema of what applications read: the source's own when that was made, wherever the source is now.
    home: str
    #: The schema of the vectors table and its partitions.
    vectors_schema: str
    #: Why triggers on it cannot see all changes of its records; empty where they can.
    unseen: tuple[str, ...] = ()
    #: What collections.yaml names otherwise than it is called now.
    notes: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether rows can carry triggers and be locked: a table, not a view."""
        return self.kind in _TABLES

    @property
    def tracked(self) -> bool:
        """Whether triggers tell of changes; otherwise only the hashes do."""
        return self.is_table and self.collection.change_tracking == "triggers" and not self.unseen

    @property
    def scanned(self) -> str:
        """Why changes are found by scanning; empty where triggers tell of them."""
        if self.collection.change_tracking == "scan":
            return "change_tracking is scan"
        if not self.is_table:
            return f"{self.table} is a {_KINDS[self.kind]}"
        return "; ".join(self.unseen)

    # The names of vecmig's objects -------------------------------------------------------------------------------

    @property
    def relation(self) -> sql.Identifier:
        """The source itself."""
        return sql.Identifier(self.schema, self.table)

    @property
    def vectors(self) -> sql.Identifier:
        """The partitioned table of all tags."""
        return sql.Identifier(self.vectors_schema, f"{self.collection.name}_vectors")

    @property
    def live(self) -> sql.Identifier:
        """The view that applications read."""
        return sql.Identifier(self.home, f"{self.collection.name}_live")

    @property
    def search(self) -> sql.Identifier:
        """The search function."""
        return sql.Identifier(self.home, f"{self.collection.name}_search")

    def partition_name(self, tag: str) -> str:
        """Name the partition of one tag: a tag is too long for an identifier, so a hash of it stands there."""
        return f"{self.collection.name}_vectors_{hashlib.sha256(tag.encode()).hexdigest()[:8]}"

    def partition(self, tag: str) -> sql.Identifier:
        """Give the partition of one tag."""
        return sql.Identifier(self.vectors_schema, self.partition_name(tag))

    # Fragments that statements are composed of -------------------------------------------------------------------

    @property
    def records(self) -> sql.Composed:
        """A sub-select of all records: columns k0, k1, … (the key) and txt (the text)."""
        return sql.SQL("(SELECT {}, {}::text AS txt FROM {} WHERE {})").format(
            self._aliased_keys, raw(self.collection.text), self.relation, self._belongs
        )

    @property
    def rows(self) -> sql.Composed:
        """A sub-select of all rows of the source: k0, k1, …, whether a row belongs, and the text of those that do."""
        condition = self._belongs
        return sql.SQL("(SELECT {}, ({}) IS TRUE AS belongs, CASE WHEN {} THEN {}::text END AS txt FROM {})").format(
            self._aliased_keys, condition, condition, raw(self.collection.text), self.relation
        )

    def sample(self, percent: float) -> sql.Composed:
        """Like ``records``, of a random part of the table's blocks; without the text."""
        return sql.SQL("(SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) WHERE {})").format(
            self._aliased_keys, self.relation, sql.Literal(percent), self._belongs
        )

    @property
    def condition(self) -> sql.Composable:
        """Which rows the collection is made of."""
        return raw(self.collection.where) if self.collection.where else sql.SQL("true")

    @property
    def no_key(self) -> sql.Composed | None:
        """Whether a row has NULL in its key; None where none can have it."""
        parts = [sql.SQL("{} IS NULL").format(sql.Identifier(column.name)) for column in self.key if column.nullable]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(parts)) if parts else None

    @property
    def _belongs(self) -> sql.Composable:
        """Which rows are records: those that the collection is made of, and that a key tells from all others."""
        no_key = self.no_key
        return self.condition if no_key is None else sql.SQL("{} AND NOT {}").format(self.condition, no_key)

    @property
    def _aliased_keys(self) -> sql.Composed:
        return sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(column.name), alias)
            for column, alias in zip(self.key, self.aliases, strict=True)
        )

    @property
    def aliases(self) -> tuple[sql.Identifier, ...]:
        """The key columns under names that no column of the user's can clash with: k0, k1, …."""
        return tuple(sql.Identifier(f"k{i}") for i in range(len(self.key)))

    def key_list(self, table: str | None = None) -> sql.Composed:
        """The key columns as the source calls them, optionally qualified: ``"id", "part"``."""
        return sql.SQL(", ").join(
            self.columns_of(table) if table else [sql.Identifier(column.name) for column in self.key]
        )

    def stored_list(self, table: str | None = None) -> sql.Composed:
        """The key columns as the vectors table calls them, optionally qualified."""
        return sql.SQL(", ").join(
            self.stored_of(table) if table else [sql.Identifier(column.stored) for column in self.key]
        )

    def alias_list(self, table: str | None = None) -> sql.Composed:
        """The key aliases, optionally qualified: ``s.k0, s.k1``."""
        return sql.SQL(", ").join(self.aliases_of(table) if table else self.aliases)

    def columns_of(self, table: str) -> list[sql.Identifier]:
        """The key columns of the source: ``s.id, s.part``."""
        return [sql.Identifier(table, column.name) for column in self.key]

    def stored_of(self, table: str) -> list[sql.Identifier]:
        """The key columns of a relation of vectors: ``v.id, v.part``."""
        return [sql.Identifier(table, column.stored) for column in self.key]

    def aliases_of(self, table: str) -> list[sql.Identifier]:
        """The key aliases of a relation: ``s.k0, s.k1``."""
        return [sql.Identifier(table, f"k{i}") for i in range(len(self.key))]

    @staticmethod
    def eligible(table: str) -> sql.Composed:
        """Whether a text is not blank. Mostly its first letters tell, at a quarter of the cost of looking at all."""
        text = sql.Identifier(table, "txt")
        return sql.SQL("(left({}, 4) ~ '\\S' OR {} ~ '\\S')").format(text, text)

    @property
    def descending(self) -> sql.Composed:
        """The key aliases for ORDER BY, from the last record to the first."""
        return sql.SQL(", ").join(sql.SQL("{} DESC").format(alias) for alias in self.aliases)

    def alias_text(self, table: str) -> sql.Composed:
        """The key aliases as text, which is how keys travel: ``s.k0::text, s.k1::text``."""
        return sql.SQL(", ").join(sql.SQL("{}.{}::text").format(sql.Identifier(table), alias) for alias in self.aliases)

    def match(self, aliased: str, named: str) -> sql.Composed:
        """A join condition between a relation with aliases and the source."""
        return same_key(self.key, self.aliases_of(aliased), self.columns_of(named))

    def match_stored(self, aliased: str, vectors: str) -> sql.Composed:
        """A join condition between a relation with aliases and vectors."""
        return same_key(self.key, self.aliases_of(aliased), self.stored_of(vectors))

    def match_source(self, source: str, vectors: str) -> sql.Composed:
        """A join condition between the source itself and vectors."""
        return same_key(self.key, self.columns_of(source), self.stored_of(vectors))

    def match_json(self, aliased: str, keyed: str) -> sql.Composed:
        """A join condition between a relation with aliases and one of vecmig's tables with a jsonb key.

        The key is taken apart into typed columns so that the source's own index serves the join.
        """
        values = (
            sql.SQL("({} ->> {})::{}").format(sql.Identifier(keyed, "key"), sql.Literal(i), sql.SQL(column.type))
            for i, column in enumerate(self.key)
        )
        return same_key(self.key, self.aliases_of(aliased), values)

    def key_json(self, table: str) -> sql.Composed:
        """The key as the jsonb array under which the outbox and the rejected records know it."""
        return sql.SQL("jsonb_build_array({})").format(self.alias_list(table))


def find_pgvector(connection: Connection) -> Pgvector | None:
    """Look the extension up; None if this database has none."""
    row = connection.execute(statement("catalog", "pgvector")).fetchone()
    if row is None:
        return None
    return Pgvector(row[0], tuple(int(part) for part in row[1].split(".") if part.isdigit()))


def require_pgvector(connection: Connection) -> Pgvector:
    """Give the extension, or say how to get one that is new enough."""
    found = find_pgvector(connection)
    if found is None:
        raise DatabaseError(
            "The extension vector (pgvector) is not installed in this database.",
            state="Nothing was changed.",
            hint="As a superuser run in this database: CREATE EXTENSION vector;",
        )
    if found.version < _OLDEST_PGVECTOR:
        raise DatabaseError(
            f"pgvector {'.'.join(map(str, found.version))} is too old; vecmig needs 0.7 or newer.",
            state="Nothing was changed.",
            hint="Install a newer pgvector on the server, then run: ALTER EXTENSION vector UPDATE;",
        )
    return found


def find_relation(connection: Connection, name: Sequence[str]) -> Relation | None:
    """Look a relation up by the name that it has now."""
    values = {"name": sql.Identifier(*name).as_string(connection)}
    if len(name) > 1:
        row = connection.execute(statement("catalog", "source"), values).fetchone()
    else:
        with connection.transaction(), by_the_roles_path(connection):
            row = connection.execute(statement("catalog", "source"), values).fetchone()
    return Relation(*row) if row else None


def exists(connection: Connection, relation: sql.Identifier) -> bool:
    """Whether a relation is there."""
    row = connection.execute(statement("catalog", "exists"), {"name": relation.as_string(connection)}).fetchone()
    return bool(row and row[0])


def relation_of(connection: Connection, oid: int) -> Relation | None:
    """Look a relation up by its number, whatever it is called now."""
    row = connection.execute(statement("catalog", "source_of"), {"oid": oid}).fetchone()
    return Relation(*row) if row else None


def column_names(connection: Connection, relation: Relation) -> dict[int, str]:
    """Give what the columns of a relation are called now, by their numbers."""
    return dict(connection.execute(statement("catalog", "column_names"), {"oid": relation.oid}).fetchall())


def no_source(connection: Connection, collection: Collection) -> ConfigError:
    """Say that a source is not there."""
    name = sql.Identifier(*collection.source).as_string(connection)
    return ConfigError(
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

    Raises:
        ConfigError: something does not exist or does not fit; the message names it.
    """
    pgvector = require_pgvector(connection)
    if relation.kind not in _KINDS:
        raise ConfigError(f"Collection {collection.name}: {relation} is neither a table nor a view.")
    found = connection.execute(statement("catalog", "columns"), {"oid": relation.oid}).fetchall()
    columns = {row[0]: KeyColumn(*row[:7]) for row in found}
    names = _known_key(collection, columns)
    key = tuple(
        replace(columns[name], made_as=None if made_as == name else made_as)
        for name, made_as in zip(names, stored or names, strict=True)
    )
    if expressions:
        _check_live_columns(collection, columns, called or {})
    _refuse_nested_keys(collection, key, nested={row[0] for row in found if row[7]})
    table = relation.kind in _TABLES
    unseen: tuple[str, ...] = unseen_parts(connection, relation.oid) if table else ()
    inherited = relation.kind == "r" and bool(unseen)
    if expressions:
        name = sql.Identifier(relation.schema, relation.name)
        check_expressions(connection, collection, name, called or {})
        if changes:
            unseen += unseen_changes(connection, collection, name, table=table)
    unique = connection.execute(
        statement("catalog", "unique_index"), {"oid": relation.oid, "key": [column.name for column in key]}
    ).fetchone()
    source = Source(
        collection=collection,
        oid=relation.oid,
        schema=relation.schema,
        table=relation.name,
        kind=relation.kind,
        key=key,
        columns=tuple(columns),
        # an index does not reach into the tables that inherit
        unique=unique is not None and not inherited,
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
    other = {name for (name,) in connection.execute(statement("catalog", "other_collations"), values)}
    return tuple(replace(column, collated=column.name in other) for column in source.key)


def check_privileges(connection: Connection, source: Source) -> None:
    """Make sure, before the first change, that this role may do all that an upgrade needs.

    Raises:
        DatabaseError: it may not; the message says what is missing.
    """
    values = {"name": source.relation.as_string(None), "tracked": source.tracked, "vectors": source.vectors_schema}
    row = connection.execute(statement("catalog", "missing_privileges"), values).fetchone()
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
    query = statement("catalog", "without_key", source=source.relation, condition=source.condition, null=null)
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
    row = connection.execute(statement("catalog", "duplicate_key", **parts), {}).fetchone()
    if row is not None:
        raise ConfigError(
            f"Collection {name}: {row[1]} records of {source.schema}.{source.table} share the key {row[0]}.",
            state="Nothing was changed.",
            hint="Name the columns of a primary key or unique index in key:",
        )


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


def text_columns(connection: Connection, source: Source) -> tuple[str, ...]:
    """Name the columns that text and where read, as PostgreSQL itself sees it; empty when they read the whole row.

    A temporary view over the expressions is created, its dependencies are read, and it is rolled back. A session that
    may only read, which is enough for ``--sql``, cannot do that: there the whole row is taken.
    """
    try:
        names = _probed_columns(connection, source)
    except pg.ReadOnlySqlTransaction:
        return ()
    return () if None in names else tuple(sorted(name for name in names if name is not None))


def _probed_columns(connection: Connection, source: Source) -> set[str | None]:
    with connection.transaction(force_rollback=True):
        for field, type_name in (("text", "text"), ("where", "boolean")):
            fragment = getattr(source.collection, field)
            if fragment is not None:
                view, type_ = sql.Identifier(f"vecmig_probe_{field}"), sql.SQL(type_name)
                parts = {"view": view, "type": type_, "fragment": raw(fragment), "source": source.relation}
                connection.execute(statement("catalog", "probe_view", **parts))
        name = source.relation.as_string(connection)
        return {row[0] for row in connection.execute(statement("catalog", "probed_columns"), {"name": name})}
