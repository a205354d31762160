"""The stamps of a tag: where they lie, and how they are matched with the records of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from psycopg import sql

from vecmig.model.adoption import AdoptedTag
from vecmig.model.index import Index
from vecmig.model.tag import NORM_TOLERANCE, Tag
from vecmig.postgres.named_sql import Own, statement
from vecmig.source.keys import same_key
from vecmig.source.source import Source


@dataclass(frozen=True, slots=True)
class Stamps:
    """The stamps of one tag of one collection, which tell what is fresh. The vectors are in the tag's home."""

    source: Source
    schema: str
    tag: str

    @property
    def adopted(self) -> AdoptedTag | None:
        """What the tag has adopted; None where all of its vectors were embedded."""
        return self.source.adopted_by(self.tag)

    @property
    def home(self) -> str:
        """The kind of its home."""
        return "partition" if self.adopted is None else self.adopted.adoption.home

    @property
    def follows(self) -> bool:
        """Whether the tag takes over what the application writes into the column that it has adopted."""
        return self.adopted is not None and self.adopted.follows

    @property
    def declared(self) -> bool:
        """Whether its home is a column that is declared with its dims."""
        return self.adopted is not None and self.adopted.declared

    @property
    def buys(self) -> bool:
        """Whether records without a fresh vector are embedded by the recipe."""
        return self.adopted is None or self.adopted.adoption.fill

    @property
    def fills(self) -> bool:
        """Whether they are put into the source's own column: such a stamp has the vector beside it."""
        return self.adopted is not None and self.adopted.column in self.source.columns and self.buys

    @property
    def not_filled(self) -> sql.Composable:
        """Whether the vector ``s.vector`` that the source has is none that vecmig put there with the stamp ``v``."""
        if not self.fills:
            return sql.SQL("true")
        return sql.SQL("(v.embedding {} s.vector) IS NOT TRUE").format(self.source.pgvector.equals)

    @property
    def base(self) -> Stamps | None:
        """The tag whose vectors this one's are the first dims of; None for one that is embedded by itself."""
        base = dict(self.source.derived).get(self.tag)
        return None if base is None else Stamps(self.source, self.schema, base)

    @property
    def index(self) -> Index:
        """How its vectors are indexed, which searches go by."""
        return self.source.index_of(self.tag)

    @property
    def index_type(self) -> str:
        """What its index has of a vector: vector, halfvec or bit."""
        return self.index.of(self.source.collection.storage)

    @property
    def described(self) -> str:
        """What its searches go by, in words."""
        return f"an index of {self.index.words(self.source.collection.storage)}"

    def indexed_as(self, index: Index) -> Stamps:
        """Return the same stamps with another index."""
        others = tuple((tag, other) for tag, other in self.source.indexes if tag != self.tag)
        return replace(self, source=replace(self.source, indexes=(*others, (self.tag, index))))

    @property
    def takes_over(self) -> bool:
        """Whether there are vectors that are taken over before any is bought."""
        return self.follows or self.base is not None

    @property
    def relation(self) -> Own:
        """The relation that holds this tag's stamps and no others."""
        return self.source.partition(self.tag)

    @property
    def dims(self) -> int:
        """Dimensions of the vectors, as the tag says."""
        return Tag.parse(self.tag).dims

    @property
    def chunks(self) -> bool:
        """Whether a record may have several vectors under this tag."""
        return Tag.parse(self.tag).chunk is not None

    @property
    def whole(self) -> sql.Composed:
        """A sub-select of the records that have all their vectors: the key columns, and ``source_hash`` of the text.

        Without chunks that is chunk 0. A row whose ``chunks`` is 1 counts alone also under a tag that chunks: it may be
        older than that column.
        """
        condition: sql.Composable = sql.SQL("")
        if self.chunks:
            same = same_key(self.source.key, self.source.stored_of("c"), self.source.stored_of("v"))
            condition = statement("freshness/stamps", "all_chunks", stamps=self.relation, same_record=same)
        return statement("freshness/stamps", "whole", stamps=self.relation, condition=condition)

    @property
    def hash(self) -> sql.Composed:
        """The hash of ``s.txt`` that a fresh stamp of this tag has."""
        return statement("freshness/stamps", "hash", kind=self.hash_kind)

    @property
    def hash_kind(self) -> sql.Composed:
        """What the hashes of this tag are: sha256, or md5."""
        collection, tag = sql.Literal(self.source.collection.name), sql.Literal(self.tag)
        schema = sql.Identifier(self.schema)
        return statement("freshness/stamps", "hash_kind", schema=schema, collection=collection, tag=tag)

    def match(self, aliased: str, named: str) -> sql.Composed:
        """A join condition between records and this tag's vectors.

        It names the tag, which leads the primary key: before PostgreSQL 18 an index serves only by its first column.
        """
        tag = sql.SQL("{}.tag = {}").format(sql.Identifier(named), sql.Literal(self.tag))
        return sql.SQL("{} AND {}").format(tag, self.source.match_stored(aliased, named))

    def statement(self, file: str, name: str, /, **parts: sql.Composable) -> sql.Composed:
        """Return a named statement with all that follows from the collection filled in."""
        return statement(file, name, **{**_common(self), **parts})

    def owned(self, record: str) -> sql.Composed:
        """Whether the source has a vector for a record that is to be taken over: it is never bought."""
        adopted, source, base = self.adopted, self.source, self.base
        if base is not None:
            return self.statement(
                "freshness/deriving",
                "owned",
                record=sql.Identifier(record),
                collection=sql.Literal(source.collection.name),
                base=sql.Literal(base.tag),
                base_whole=base.whole,
                base_match=base.match("s", "v"),
                base_hash=base.hash,
            )
        if adopted is None or not adopted.follows:
            return sql.SQL("false").format()
        return self.statement(
            "freshness/adopting",
            "owned",
            offered=self.tried(adopted),
            same_record=same_key(source.key, source.aliases_of("o"), source.aliases_of(record)),
            sound=self.sound(sql.Identifier("o", "vector")),
            match=self.match("o", "v"),
            vector_noted=self.noted("vector_noted", "o"),
            text_noted=self.noted("text_noted", "o"),
            superseded=self.superseded("o"),
        )

    def tried(self, adopted: AdoptedTag, *, outside: bool = False) -> sql.Composed:
        """A sub-select of what the source offers in which a value that is no vector fails no statement."""
        return self.source.offered(adopted, tried=sql.Identifier(self.schema, "try_vector"), outside=outside)

    def digest(self, vector: sql.Composable) -> sql.Composed:
        """The digest of a vector, as vecmig's own tables have it."""
        send = self.source.pgvector.function(f"{self.source.collection.storage}_send")
        return sql.SQL("md5({}({}))::uuid").format(send, vector)

    def outlived(self, sweep: sql.Composed) -> sql.Composed:
        """Return a statement that deletes stamps so that it notes whose vectors their texts have outlived."""
        if not self.follows or self.home != "partition":
            return sweep
        key = sql.SQL(", ").join(self.source.stored_of("v"))
        return self.statement(
            "freshness/adopting", "outlived", sweep=sweep, key=key, digest=self.digest(sql.Identifier("v", "embedding"))
        )

    def kept(self, record: str) -> sql.Composed:
        """Whether the column that is the home has a vector of the application's for a record: it is never replaced."""
        adopted, source = self.adopted, self.source
        if adopted is None or adopted.column is None:
            return sql.SQL("false").format()
        return self.statement(
            "freshness/adopting",
            "kept",
            source=source.relation,
            same_source=source.match(record, "t"),
            column=sql.Identifier(adopted.column),
            match=self.match(record, "v"),
            type=source.pgvector.type(source.collection.storage),
            equals=source.pgvector.equals,
        )

    def noted(self, name: str, record: str) -> sql.Composed:
        """A sub-select that finds something where the outbox notes so of a record: vector_noted or text_noted."""
        return statement(
            "freshness/adopting",
            name,
            schema=sql.Identifier(self.schema),
            collection=sql.Literal(self.source.collection.name),
            key_json=self.source.key_json(record),
        )

    def superseded(self, record: str) -> sql.Composed:
        """A sub-select that finds something where a text of a record has outlived the record's own vector."""
        return statement(
            "freshness/adopting",
            "superseded",
            schema=sql.Identifier(self.schema),
            collection=sql.Literal(self.source.collection.name),
            tag=sql.Literal(self.tag),
            key_json=self.source.key_json(record),
            digest=self.digest(sql.Identifier(record, "vector")),
        )

    def sound(self, vector: sql.Composable) -> sql.Composed:
        """What every vector of the tag fulfils: its dims, and a length that the metric and the tag can work with."""
        pgvector, collection = self.source.pgvector, self.source.collection
        dims = sql.SQL("{}({}) = {}").format(pgvector.function("vector_dims"), vector, sql.Literal(self.dims))
        norm = sql.SQL("{}({})").format(pgvector.function(norm_function(collection.storage)), vector)
        if Tag.parse(self.tag).norm == "l2":
            return sql.SQL("{} AND abs({} - 1) <= {}").format(dims, norm, sql.Literal(NORM_TOLERANCE))
        if collection.metric == "cosine":
            return sql.SQL("{} AND {} > 0").format(dims, norm)
        return dims

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that name these stamps in vecmig's tables."""
        return {"collection": self.source.collection.name, "tag": self.tag}


@lru_cache(maxsize=64)
def _common(stamps: Stamps) -> Mapping[str, sql.Composable]:
    """Return what follows from the collection: putting it together takes longer than many a statement does."""
    source = stamps.source
    return {
        "schema": sql.Identifier(stamps.schema),
        "stamps": stamps.relation,
        # what sweeps may delete without a look at the source's column
        "bare": sql.SQL("v.embedding IS NULL" if stamps.fills else "true"),
        "whole": stamps.whole,
        "records": source.records,
        "keys": source.alias_list(),
        "hash": stamps.hash,
        "eligible": source.eligible("s"),
        "match": stamps.match("s", "v"),
        "rejected_key": source.match_json("s", "r"),
        "changed_key": source.match_json("s", "c"),
    }


def norm_function(storage: str) -> str:
    """Return what pgvector calls the length of a vector that is stored so."""
    return "vector_norm" if storage == "vector" else "l2_norm"
