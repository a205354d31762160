"""Source: a collection with what the database knows of its table, and the SQL that reads its records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from vecmig.model.adoption import AdoptedTag
from vecmig.model.collection import Collection
from vecmig.model.index import Index
from vecmig.postgres.named_sql import Fragment, Own, raw
from vecmig.postgres.pgvector import Pgvector
from vecmig.source.keys import KeyColumn, same_key
from vecmig.source.relations import PARTITIONED

TABLES: Final = ("r", PARTITIONED)
#: What stands for a value that is no vector, where one is tried: no tag has one dimension that is zero.
NO_VECTOR: Final = "[0]"
KINDS: Final = {"r": "table", PARTITIONED: "table", "v": "view", "m": "materialized view", "f": "foreign table"}


def partition_name(collection: str, tag: str) -> str:
    """Name the partition of one tag: a tag is too long for an identifier, so a hash of it stands there."""
    return f"{collection}_vectors_{hashlib.sha256(tag.encode()).hexdigest()[:8]}"


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
    #: The tags that have adopted the vectors of one of its columns.
    adopted: tuple[AdoptedTag, ...] = ()
    #: The tags whose vectors are the first dims of another one's, each with that.
    derived: tuple[tuple[str, str], ...] = ()
    #: How the vectors of each recorded tag are indexed.
    indexes: tuple[tuple[str, Index], ...] = ()

    def adopted_by(self, tag: str) -> AdoptedTag | None:
        """Return what a tag has adopted; None for one that has adopted nothing."""
        return next((adopted for adopted in self.adopted if adopted.tag == tag), None)

    def index_of(self, tag: str) -> Index:
        """Return how a tag's vectors are indexed: as it was recorded, or as collections.yaml has it before that."""
        recorded = dict(self.indexes).get(tag)
        return self.collection.index_of(tag) if recorded is None else recorded

    @property
    def followed(self) -> AdoptedTag | None:
        """The tag that goes on to take over what the application writes into its column; None where there is none."""
        return next((adopted for adopted in self.adopted if adopted.follows), None)

    @property
    def is_table(self) -> bool:
        """Whether rows can carry triggers and be locked: a table, not a view."""
        return self.kind in TABLES

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
            return f"{self.table} is a {KINDS[self.kind]}"
        return "; ".join(self.unseen)

    # The names of vecmig's objects -------------------------------------------------------------------------------

    @property
    def relation(self) -> sql.Identifier:
        """The source itself."""
        return sql.Identifier(self.schema, self.table)

    @property
    def vectors(self) -> Own:
        """The partitioned table of all tags."""
        return Own(self.vectors_schema, f"{self.collection.name}_vectors")

    @property
    def live(self) -> Own:
        """The view that applications read."""
        return Own(self.home, f"{self.collection.name}_live")

    @property
    def search(self) -> sql.Identifier:
        """The search function."""
        return sql.Identifier(self.home, f"{self.collection.name}_search")

    def pick(self, schema: str) -> sql.Identifier:
        """Return the function that picks for the view the vectors of the live tag."""
        return sql.Identifier(schema, f"{self.collection.name}_pick")

    def pick_signature(self, schema: str) -> sql.Composed:
        """Return the same function with what it takes."""
        return sql.SQL("{}(text, {})").format(self.pick(schema), self.pgvector.type(self.collection.storage))

    def partition_name(self, tag: str) -> str:
        """Return what the partition of one tag is called."""
        return partition_name(self.collection.name, tag)

    def partition(self, tag: str) -> Own:
        """Return the partition of one tag."""
        return Own(self.vectors_schema, self.partition_name(tag))

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

    def offered(
        self,
        adopted: AdoptedTag,
        percent: float | None = None,
        *,
        tried: sql.Identifier | None = None,
        outside: bool = False,
    ) -> sql.Composed:
        """A sub-select like ``records`` with the vector that the source has for each; NULL where it is not adopted.

        With ``percent``, of a random part of the table's blocks; with ``outside``, of the rows that are no records. A
        value that is no vector fails the statement, or is the vector [0] where ``tried`` names the function
        ``try_vector``.
        """
        vector: sql.Composable = raw(adopted.vector)
        if adopted.condition is not None:
            case = f"CASE WHEN {raw(adopted.condition).as_string()} THEN {raw(adopted.vector).as_string()} END"
            vector = Fragment(case)
        if tried is not None and not adopted.plain:
            vector = sql.SQL("{}({}, {}.*, {}::{})").format(
                tried,
                sql.Literal(vector.as_string()),
                sql.Identifier(self.table),
                sql.Literal(NO_VECTOR),
                self.pgvector.type(self.collection.storage),
            )
        drawn = sql.SQL("" if percent is None else "TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent))
        return sql.SQL("(SELECT {}, {}::text AS txt, {} AS vector FROM {} {} WHERE {})").format(
            self._aliased_keys,
            raw(self.collection.text),
            vector,
            self.relation,
            drawn,
            sql.SQL("({}) IS NOT TRUE").format(self._belongs) if outside else self._belongs,
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

    def column_list(self, more: Iterable[str] = ()) -> sql.Composed:
        """The key columns and some more, as the source calls them."""
        names = dict.fromkeys((*(column.name for column in self.key), *more))
        return sql.SQL(", ").join(map(sql.Identifier, names))

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
        return same_key(self.key, self.aliases_of(aliased), self.json_values(keyed))

    def match_parked(self, source: str, keyed: str) -> sql.Composed:
        """A join condition between the source itself and one of vecmig's tables with a jsonb key."""
        return same_key(self.key, self.columns_of(source), self.json_values(keyed))

    def json_values(self, keyed: str) -> list[sql.Composed]:
        """The key columns of one of vecmig's tables with a jsonb key: ``(c.key ->> 0)::bigint``."""
        return [
            sql.SQL("({} ->> {})::{}").format(sql.Identifier(keyed, "key"), sql.Literal(i), sql.SQL(column.type))
            for i, column in enumerate(self.key)
        ]

    def key_json(self, table: str) -> sql.Composed:
        """The key as the jsonb array under which the outbox and the rejected records know it."""
        return sql.SQL("jsonb_build_array({})").format(self.alias_list(table))
