"""The HNSW index of one tag: what the catalogue says of it, what it takes, and the statement that creates it."""

from __future__ import annotations

from typing import Any, Final

from psycopg import sql

from vecmig.freshness.stamps import Space
from vecmig.homes.search import nearest
from vecmig.homes.values import Footprint, IndexState
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

#: Bytes of a node of HNSW's graph in memory beside its vector, and for each of its m: pgvector 0.8.5 took 334 to 3,400
#: bytes at m = 4 to 100, whatever the dims.
_NODE_BYTES: Final = 200
_NODE_BYTES_PER_M: Final = 32
#: What a parallel build keeps for other things.
_SHARED_MB: Final = 4
#: The count of the vectors is some time old when the build gets to them.
_GROWTH: Final = 1.1
_SMALLEST_MEMORY_MB: Final = 64
#: pgvector's element and neighbour tuples, and what an 8 kB page holds of them.
_ELEMENT_OVERHEAD: Final = 76
_NEIGHBOUR_BYTES: Final = 6
_PAGE_BYTES: Final = 8_100


def index_name(space: Space) -> sql.Identifier:
    """Name the index after the partition."""
    return sql.Identifier(space.source.vectors_schema, _plain_name(space))


def _plain_name(space: Space) -> str:
    return f"{space.source.partition_name(space.tag)}_hnsw"


def index_state(connection: Connection, space: Space) -> IndexState:
    """Look the index up."""
    relations = {"index": index_name(space), "partition": space.relation}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/index", "state"), values).fetchone()
    return IndexState(True, *row) if row else IndexState()


def wanted_memory_mb(space: Space, rows: int) -> int:
    """Give the maintenance_work_mem that holds the graph of ``rows`` vectors while it is built.

    With less, pgvector goes on building on disk, many times slower.
    """
    return max(_SMALLEST_MEMORY_MB, int(rows * _node_bytes(space) * _GROWTH) // 2**20 + 1 + _SHARED_MB)


def vectors_in(memory_mb: int, space: Space) -> int:
    """Give the number of vectors whose graph fits into that much memory, about."""
    return memory_mb * 2**20 // _node_bytes(space)


def table_bytes(space: Space, rows: int) -> int:
    """Give the size of ``rows`` vectors, wherever PostgreSQL puts them."""
    return rows * _vector_bytes(space)


def _node_bytes(space: Space) -> int:
    return _vector_bytes(space) + _NODE_BYTES + _NODE_BYTES_PER_M * space.source.collection.hnsw.m


def _index_bytes(space: Space, rows: int) -> int:
    """Estimate the index of ``rows`` vectors: complete elements and their neighbour lists on pages of 8 kB."""
    element = _vector_bytes(space) + _ELEMENT_OVERHEAD
    neighbours = _NEIGHBOUR_BYTES * 2 * space.source.collection.hnsw.m
    pages = rows * (element + neighbours) / _PAGE_BYTES
    return int(max(pages, rows if element > _PAGE_BYTES / 2 else 0)) * 8192


def _vector_bytes(space: Space) -> int:
    return 8 + space.dims * (4 if space.source.collection.storage == "vector" else 2)


def create_statement(space: Space) -> sql.Composed:
    """Give the CREATE INDEX CONCURRENTLY of a tag."""
    collection = space.source.collection
    return statement(
        "homes/index",
        "create",
        index=sql.Identifier(_plain_name(space)),
        space=space.relation,
        embedding=_indexed_expression(space),
        opclass=space.source.pgvector.opclass(collection.storage, collection.metric),
        m=sql.Literal(collection.hnsw.m),
        ef_construction=sql.Literal(collection.hnsw.ef_construction),
    )


def _indexed_expression(space: Space) -> sql.Composed:
    return sql.SQL("embedding::{}").format(space.source.pgvector.type(space.source.collection.storage, space.dims))


def plan_uses_index(connection: Connection, space: Space) -> tuple[bool, bool]:
    """Ask the planner about the search's own statement: (the index is used, it can be used).

    On a handful of rows PostgreSQL rightly prefers to read them all; then only the second is true.
    """
    return _plan_names_index(connection, space, forced=False), _plan_names_index(connection, space, forced=True)


def _plan_names_index(connection: Connection, space: Space, *, forced: bool) -> bool:
    probe = sql.Literal("[" + ",".join(["1"] * space.dims) + "]")
    query = nearest(space, query=probe, k=sql.Literal(10))
    with connection.transaction(force_rollback=True):
        if forced:
            connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        row = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + query).fetchone()
    return row is not None and _plain_name(space) in _index_names(row[0][0]["Plan"])


def _index_names(plan: dict[str, Any]) -> set[str]:
    names = {plan["Index Name"]} if "Index Name" in plan else set()
    return names.union(*(_index_names(child) for child in plan.get("Plans", ())))


#: Bytes of a row beside vector and tag, and of its entry in the primary key.
_ROW_OVERHEAD: Final = 48


def footprint(space: Space, count: int) -> Footprint:
    """Estimate what ``count`` vectors take.

    Beside the index these are the values, the tag, key and hash, and the key's index.
    """
    width = 4 if space.source.collection.storage == "vector" else 2
    vectors = count * (space.dims * width + 2 * (len(space.tag) + _ROW_OVERHEAD))
    return Footprint(vectors, _index_bytes(space, count), wanted_memory_mb(space, count))
