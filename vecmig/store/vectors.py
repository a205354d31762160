"""A tag's vectors: where they lie (Space), how they are written (guarded by their text's hash) and counted."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from vecmig.store.catalog import Source
from vecmig.store.connect import Connection
from vecmig.store.statements import statement
from vecmig.tags import Tag

#: A record's key: the values of its key columns, each as PostgreSQL writes it as text.
Key = tuple[str, ...]
#: Share of the records with vectors that may lose them because their text is gone, without having changed.
_MOST_EMPTIED: Final = 0.1
#: Bytes of a row beside vector and tag, and of its entry in the primary key.
_ROW_OVERHEAD: Final = 48
#: Seconds for which a write is tried again while the application holds one of its rows.
LOCK_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Space:
    """Where the vectors of one tag of one collection lie. All reading and writing of vectors goes through it."""

    source: Source
    schema: str
    tag: str

    @property
    def relation(self) -> sql.Identifier:
        """The relation that holds this tag's vectors and no others."""
        return self.source.partition(self.tag)

    @property
    def dims(self) -> int:
        """Dimensions of the vectors, as the tag says."""
        return Tag.parse(self.tag).dims

    def match(self, aliased: str, named: str) -> sql.Composed:
        """A join condition between records and this tag's vectors.

        It names the tag, which leads the primary key: before PostgreSQL 18 an index serves only by its first column.
        """
        tag = sql.SQL("{}.tag = {}").format(sql.Identifier(named), sql.Literal(self.tag))
        return sql.SQL("{} AND {}").format(tag, self.source.match(aliased, named))

    def statement(self, name: str, /, **parts: sql.Composable) -> sql.Composed:
        """Give a statement of ``vectors.sql`` with all that follows from the collection filled in."""
        return self.statement_of("vectors", name, **parts)

    def statement_of(self, file: str, name: str, /, **parts: sql.Composable) -> sql.Composed:
        """Give a statement of another file in the same way."""
        source = self.source
        common: dict[str, sql.Composable] = {
            "schema": sql.Identifier(self.schema),
            "space": self.relation,
            "records": source.records,
            "keys": source.alias_list(),
            "match": self.match("s", "v"),
            "rejected_key": source.match_json("s", "r"),
            "changed_key": source.match_json("s", "c"),
        }
        return statement(file, name, **(common | parts))

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that name this space in vecmig's tables."""
        return {"collection": self.source.collection.name, "tag": self.tag}


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record without a fresh vector: its key, its text, and the hash that the text had when it was read."""

    key: Key
    text: str
    source_hash: str


@dataclass(frozen=True, slots=True)
class Page:
    """A run of records in key order: those that are pending, how many were looked at, and where to go on."""

    pending: tuple[PendingRecord, ...]
    size: int
    last: Key | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How complete a tag is. ``eligible = fresh + stale + missing + rejected``."""

    records: int
    eligible: int
    fresh: int
    stale: int
    rejected: int
    #: Records without a fresh vector that neither changed lately nor were rejected: nothing explains them.
    unaccounted: int

    @property
    def missing(self) -> int:
        """Eligible records without any vector and without a reason."""
        return self.eligible - self.fresh - self.stale - self.rejected

    @property
    def share(self) -> float:
        """Fresh of eligible, from 0 to 1. A collection without eligible records is complete."""
        return self.fresh / self.eligible if self.eligible else 1.0


@dataclass(frozen=True, slots=True)
class EmbeddedRecord:
    """A record with the vectors made from it, one a chunk; ``texts`` is None where the tag does not chunk."""

    key: Key
    source_hash: str
    vectors: NDArray[np.float32]
    texts: tuple[str, ...] | None


def read_page(connection: Connection, space: Space, after: Key | None, size: int) -> Page:
    """Read the next ``size`` records in key order, with the text of those that lack a fresh vector."""
    source = space.source
    query = space.statement(
        "page",
        after=_after(source) if after is not None else sql.SQL("true"),
        match=space.match("p", "v"),
        rejected_key=source.match_json("p", "r"),
        keys_text=source.alias_text("p"),
        # qualified: a bare k0 would mean the output column, which is text and sorts 10 before 9
        p_keys=source.alias_list("p"),
    )
    rows = connection.execute(query, space.values | {"size": size} | _key_values(after)).fetchall()
    pending = tuple(PendingRecord(tuple(row[3:]), row[2], row[1]) for row in rows if row[0])
    return Page(pending, len(rows), tuple(rows[-1][3:]) if rows else None)


def write_records(
    connection: Connection, space: Space, records: Sequence[EmbeddedRecord], *, patience: float = LOCK_PATIENCE
) -> int:
    """Write whole records in one statement; return how many.

    A record whose text changed since it was read, or that is gone, is left out by the database itself: it stays
    pending. Writing what is there already changes nothing.

    Where the application holds a row (a deletion under way, SELECT … FOR UPDATE), the statement is tried again rather
    than queued behind it: it never waits with locks in its hands, so the application cannot end in a deadlock with it.
    After ``patience`` seconds, records that are still held are left out.
    """
    values = _written_values(connection, space, records)
    deadline = time.monotonic() + patience
    while True:
        with suppress(pg.LockNotAvailable):
            return _write_once(connection, space, values, "NOWAIT")
        if time.monotonic() > deadline:
            return _write_once(connection, space, values, "SKIP LOCKED")
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311  # no secret


def _written_values(connection: Connection, space: Space, records: Sequence[EmbeddedRecord]) -> dict[str, Any]:
    chunks = [(at, chunk) for at, record in enumerate(records, start=1) for chunk in range(len(record.vectors))]
    values = space.values | {
        "hash": [record.source_hash for record in records],
        "last_chunk": [len(record.vectors) - 1 for record in records],
        "at": [at for at, _ in chunks],
        "chunk": [chunk for _, chunk in chunks],
        "chunk_text": [text for record in records for text in (record.texts or [None] * len(record.vectors))],
        "embedding": vector_array(connection, space, np.concatenate([record.vectors for record in records])),
    }
    for column in range(len(space.source.key)):
        values[f"k{column}"] = [record.key[column] for record in records]
    return values


def _write_once(connection: Connection, space: Space, values: Mapping[str, Any], held: str) -> int:
    source = space.source
    query = space.statement(
        "write",
        casts=_casts(source),
        key_arrays=_key_arrays(source),
        type=source.pgvector.type(source.collection.storage),
        r_keys=source.alias_list("r"),
        g_keys=source.alias_list("g"),
        key_names=source.key_list(),
        same_record=_same(source, "s", "r"),
        match_surplus=space.match("g", "o"),
        lock=sql.SQL(f"FOR KEY SHARE {held}") if source.tracked else sql.SQL(""),
    )
    row = connection.execute(query, values).fetchone()
    return int(row[0]) if row else 0


def reject_records(connection: Connection, space: Space, rejected: Sequence[tuple[PendingRecord, str]]) -> None:
    """Enter records that cannot be embedded, each with its reason. Another text gets another try."""
    values = space.values | {
        "hash": [record.source_hash for record, _ in rejected],
        "reason": [reason for _, reason in rejected],
    }
    for column in range(len(space.source.key)):
        values[f"k{column}"] = [record.key[column] for record, _ in rejected]
    query = space.statement(
        "reject",
        casts=_casts(space.source),
        key_arrays=_key_arrays(space.source),
        key_json=space.source.key_json("i"),
    )
    connection.execute(query, values)


def measure_coverage(connection: Connection, space: Space) -> Coverage:
    """Compare every record's text with the hash beside its vector; one pass over the source, nothing cached."""
    row = connection.execute(space.statement("coverage"), space.values).fetchone()
    records, eligible, fresh, rejected, stale, unaccounted = row or (0,) * 6
    return Coverage(records, eligible, fresh, stale, rejected, unaccounted)


def count_records(connection: Connection, source: Source) -> tuple[int, int]:
    """Count a source's records: all of them, and the eligible ones."""
    row = connection.execute(statement("vectors", "count_records", records=source.records), {}).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def sample_texts(connection: Connection, source: Source, size: int) -> list[str]:
    """Give the texts of up to ``size`` eligible records; the same ones each time, chosen by the hash of their key."""
    query = statement("vectors", "sample_texts", records=source.records, keys=source.alias_list("s"))
    return [row[0] for row in connection.execute(query, {"size": size})]


def estimated_vector_bytes(space: Space, count: int) -> int:
    """Estimate what ``count`` vectors take on disk, without their index: the values, the tag, key and hash, the key's
    index.
    """
    width = 4 if space.source.collection.storage == "vector" else 2
    return count * (space.dims * width + 2 * (len(space.tag) + _ROW_OVERHEAD))


def count_vectors(connection: Connection, space: Space) -> tuple[int, int]:
    """Count a tag's vectors, and the records they belong to."""
    row = connection.execute(space.statement("count_vectors")).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def sweep(connection: Connection, space: Space) -> int:
    """Delete the vectors of records that are gone or no longer have a text.

    Triggers delete with a record at once where they see it; a disabled trigger or a view as source leaves it to this. A
    mistake in collections.yaml must cost nothing: a row that ``where`` leaves out keeps its vectors, and so do records
    whose text is gone although they did not change, if they are many.

    Returns:
        How many records keep vectors although they have no text any more.
    """
    source = space.source
    rows, same = source.rows, source.match_source("s", "v")
    connection.execute(space.statement("sweep_gone", source=source.relation, same_source=same), {})
    row = connection.execute(space.statement("count_emptied", rows=rows)).fetchone()
    emptied, total = row or (0, 0)
    few = emptied <= total * _MOST_EMPTIED
    connection.execute(space.statement("sweep_emptied", rows=rows), space.values | {"all": few})
    connection.execute(space.statement("sweep_rejected"), space.values)
    if few:
        return 0
    row = connection.execute(space.statement("count_emptied", rows=rows)).fetchone()
    return int(row[0]) if row else 0


# Fragments ---------------------------------------------------------------------------------------------------------


def _after(source: Source) -> sql.Composed:
    casts = sql.SQL(", ").join(
        sql.SQL("{}::text::{}").format(sql.Placeholder(f"k{i}"), sql.SQL(column.type))
        for i, column in enumerate(source.key)
    )
    return sql.SQL("({}) > ({})").format(source.alias_list(), casts)


def _key_values(key: Key | None) -> dict[str, str]:
    return {f"k{i}": value for i, value in enumerate(key or ())}


def _key_arrays(source: Source) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Placeholder(f"k{i}")) for i in range(len(source.key)))


def _casts(source: Source) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}.{}::{} AS {}").format(sql.Identifier("i"), alias, sql.SQL(column.type), alias)
        for alias, column in zip(source.aliases, source.key, strict=True)
    )


def _same(source: Source, left: str, right: str) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(left, f"k{i}"), sql.Identifier(right, f"k{i}"))
        for i in range(len(source.key))
    )


# Vectors as PostgreSQL's binary arrays -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _VectorArray:
    """The binary form of a whole vector[]; numpy lays it out in one piece."""

    data: bytearray


class _HalfvecArray(_VectorArray):
    """The same for halfvec[]."""


_ARRAYS: Final[dict[str, type[_VectorArray]]] = {"vector": _VectorArray, "halfvec": _HalfvecArray}


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _VectorArray) -> bytearray:
        return obj.data


def vector_array(connection: Connection, space: Space, vectors: NDArray[np.float32]) -> _VectorArray:
    """Lay ``vectors`` (shape (n, dims), float32) out as a binary array parameter of the collection's storage type.

    Formatting the numbers as text costs 25 times as much as sending them (raw COPY: 32,700 against 1,342 rows/s at
    1,536 dims). The layout is that of ``array_send`` and of pgvector's ``vector_send`` and ``halfvec_send``.
    """
    storage = space.source.collection.storage
    count, dims = vectors.shape
    width = 4 if storage == "vector" else 2
    layout = np.dtype([("length", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("data", f">f{width}", (dims,))])
    header = np.array([1, 0, know_vectors(connection, space.source), count, 1], dtype=">i4").tobytes()
    data = bytearray(len(header) + count * layout.itemsize)
    data[: len(header)] = header
    elements = np.frombuffer(data, dtype=layout, offset=len(header))
    elements["length"] = 4 + width * dims
    elements["dims"] = dims
    elements["data"] = vectors
    return _ARRAYS[storage](data)


def prepare_to_write(connection: Connection, source: Source) -> None:
    """Make a connection ready for ``write_records``, before a provider is asked: the first look-up opens a transaction.

    The planner knows nothing of how wide vectors are, and would sort them on disk for a merge join.
    """
    know_vectors(connection, source)
    connection.execute("SET enable_mergejoin = off; SET work_mem = '32MB'")


def know_vectors(connection: Connection, source: Source) -> int:
    """Make the storage type known to a connection, and give its oid."""
    storage = source.collection.storage
    known = connection.adapters.types.get(storage)
    if known is None:
        known = TypeInfo.fetch(connection, sql.Identifier(source.pgvector.schema, storage))
        assert known is not None, "require_pgvector() was called before"
        known.register(connection)
        dumper = type("ArrayDumper", (_ArrayDumper,), {"oid": known.array_oid})
        connection.adapters.register_dumper(_ARRAYS[storage], dumper)
    return known.oid
