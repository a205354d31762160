"""What the index of a tag has of a vector, and how it is compared: in full or half precision, or by its signs."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps, norm_function
from vecmig.model.index import Index
from vecmig.model.tag import Tag

#: The largest number that half precision has.
_HALF_MOST: Final = 65_504


def indexed_type(stamps: Stamps) -> sql.Composed:
    """Return the type in which vectors are compared exactly: it names the dims."""
    return stamps.source.pgvector.type(stamps.source.collection.storage, stamps.dims)


def indexed(stamps: Stamps, vector: sql.Composable) -> sql.Composed:
    """Return what the index has of a vector."""
    pgvector, kind = stamps.source.pgvector, stamps.index_type
    if kind == "bit":
        parts = pgvector.function("binary_quantize"), vector, sql.Literal(stamps.dims)
        return sql.SQL("{}({})::bit({})").format(*parts)
    return sql.SQL("{}::{}").format(vector, pgvector.type(kind, stamps.dims))


def indexed_query(stamps: Stamps, query: sql.Composable) -> sql.Composed:
    """Return what a query vector is compared with in the index.

    One with a number that half precision does not have keeps its direction, and comes as near to its length as it can.
    """
    fits = predicate(stamps, query)
    if fits is None:
        return indexed(stamps, query)
    pgvector = stamps.source.pgvector
    most = sql.SQL("pg_catalog.array_fill({}::real, ARRAY[{}])::{}").format(
        sql.Literal(_HALF_MOST), sql.Literal(stamps.dims), pgvector.type("vector")
    )
    shortened = sql.SQL("{}({}) OPERATOR({}.*) {}").format(
        pgvector.function("l2_normalize"), query, sql.Identifier(pgvector.schema), most
    )
    return indexed(stamps, sql.SQL("(CASE WHEN {} THEN {} ELSE {} END)").format(fits, query, shortened))


def predicate(stamps: Stamps, vector: sql.Composable) -> sql.Composed | None:
    """Return which vectors the index has; None for all of them.

    One with a number that half precision does not have would fail whoever writes it. Those of length 1 have none.
    """
    collection = stamps.source.collection
    kept = stamps.home == "partition" and Tag.parse(stamps.tag).norm == "l2"
    if stamps.index_type != "halfvec" or collection.storage == "halfvec" or kept:
        return None
    norm = stamps.source.pgvector.function(norm_function(collection.storage))
    return sql.SQL("{}({}) <= {}").format(norm, vector, sql.Literal(_HALF_MOST))


def opclass_name(stamps: Stamps) -> str:
    """Return what pgvector calls the operator class of the index."""
    if stamps.index_type == "bit":
        return "bit_hamming_ops"
    return f"{stamps.index_type}_{stamps.source.collection.metric}_ops"


def operator(stamps: Stamps) -> sql.Composed:
    """Return the operator by which the index orders, by its full name."""
    pgvector = stamps.source.pgvector
    return pgvector.operator("hamming" if stamps.index_type == "bit" else stamps.source.collection.metric)


def candidates(stamps: Stamps) -> int | None:
    """Return how many times k candidates are ranked again by their exact distance; None where the index has that."""
    return stamps.index.candidates(stamps.source.collection.storage)


def m_of(stamps: Stamps) -> int:
    """Return how many neighbours a node of HNSW's graph has in each layer."""
    return stamps.index.m or stamps.source.collection.hnsw.m


def ef_construction_of(stamps: Stamps) -> int:
    """Return how many candidates HNSW keeps while it builds; pgvector wants at least twice m."""
    return max(stamps.index.ef_construction or stamps.source.collection.hnsw.ef_construction, 2 * m_of(stamps))


def is_usual(index: Index) -> bool:
    """Whether an index is built as one of which nothing is said."""
    return index.built == Index()
