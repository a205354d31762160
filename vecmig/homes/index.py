"""The index of one tag: what the catalogue says of it, what it takes, and the statement that creates it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.homes.indexed import ef_construction_of, is_usual, m_of, opclass_name
from vecmig.homes.search import nearest
from vecmig.homes.values import Footprint, IndexState
from vecmig.model.index import Index
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import partition_name

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
#: What one dimension takes.
_BITS: Final = {"vector": 32, "halfvec": 16, "bit": 1}


@dataclass(frozen=True, slots=True)
class IndexTarget:
    """The index that vecmig builds for a tag."""

    #: What it is on.
    relation: sql.Identifier
    schema: str
    name: str
    #: What it has of a row, and of which rows; None for all.
    expression: sql.Composed
    predicate: sql.Composed | None = None

    @property
    def identifier(self) -> sql.Identifier:
        """Its name, with the schema."""
        return sql.Identifier(self.schema, self.name)


def target_in(stamps: Stamps, relation: sql.Identifier, schema: str, **parts: Any) -> IndexTarget:
    """Return the index of a tag on a relation."""
    name = index_name(stamps.source.collection.name, stamps.tag, stamps.index)
    return IndexTarget(relation, schema, name, **parts)


def index_name(collection: str, tag: str, index: Index) -> str:
    """Return what an index of a tag is called: after the tag's partition, and by what it is built by.

    So two of a tag can stand side by side, of which one serves. There are five letters left of PostgreSQL's 63.
    """
    end = "hnsw"
    if not is_usual(index):
        end = hashlib.sha256(json.dumps(index.built.to_mapping(), sort_keys=True).encode()).hexdigest()[:5]
    return f"{partition_name(collection, tag)}_{end}"


def index_state(connection: Connection, target: IndexTarget) -> IndexState:
    """Look the index up."""
    values = {"index": target.identifier.as_string(connection), "relation": target.relation.as_string(connection)}
    row = connection.execute(statement("homes/index", "state"), values).fetchone()
    return IndexState(True, *row) if row else IndexState()


def wanted_memory_mb(stamps: Stamps, rows: int) -> int:
    """Give the maintenance_work_mem that holds the graph of ``rows`` vectors while it is built.

    With less, pgvector goes on building on disk, many times slower.
    """
    return max(_SMALLEST_MEMORY_MB, int(rows * _node_bytes(stamps) * _GROWTH) // 2**20 + 1 + _SHARED_MB)


def vectors_in(memory_mb: int, stamps: Stamps) -> int:
    """Give the number of vectors whose graph fits into that much memory, about."""
    return memory_mb * 2**20 // _node_bytes(stamps)


def table_bytes(stamps: Stamps, rows: int) -> int:
    """Give the size of ``rows`` vectors, wherever PostgreSQL puts them."""
    return rows * _value_bytes(stamps.source.collection.storage, stamps.dims)


def _node_bytes(stamps: Stamps) -> int:
    return _value_bytes(stamps.index_type, stamps.dims) + _NODE_BYTES + _NODE_BYTES_PER_M * m_of(stamps)


def _index_bytes(stamps: Stamps, rows: int) -> int:
    """Estimate the index of ``rows`` vectors: complete elements and their neighbour lists on pages of 8 kB."""
    element = _value_bytes(stamps.index_type, stamps.dims) + _ELEMENT_OVERHEAD
    neighbours = _NEIGHBOUR_BYTES * 2 * m_of(stamps)
    pages = rows * (element + neighbours) / _PAGE_BYTES
    return int(max(pages, rows if element > _PAGE_BYTES / 2 else 0)) * 8192


def _value_bytes(kind: str, dims: int) -> int:
    return 8 + dims * _BITS[kind] // 8


def create_statement(stamps: Stamps, target: IndexTarget) -> sql.Composed:
    """Give the CREATE INDEX CONCURRENTLY of a tag."""
    where = sql.SQL("") if target.predicate is None else sql.SQL(" WHERE {}").format(target.predicate)
    return statement(
        "homes/index",
        "create",
        index=sql.Identifier(target.name),
        relation=target.relation,
        embedding=target.expression,
        opclass=stamps.source.pgvector.function(opclass_name(stamps)),
        m=sql.Literal(m_of(stamps)),
        ef_construction=sql.Literal(ef_construction_of(stamps)),
        where=where,
    )


def plan_uses_index(connection: Connection, stamps: Stamps, names: Container[str]) -> tuple[bool, bool]:
    """Ask the planner about the search's own statement: (an index of these names is used, it can be used).

    On a handful of rows PostgreSQL rightly prefers to read them all; then only the second is true.
    """
    probe = sql.Literal("[" + ",".join(["1"] * stamps.dims) + "]")
    query = sql.SQL("EXPLAIN (FORMAT JSON) ") + nearest(stamps, query=probe, k=sql.Literal(10))

    def named() -> bool:
        row = connection.execute(query).fetchone()
        return row is not None and any(name in names for name in _index_names(row[0][0]["Plan"]))

    used = named()
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        return used, named()


def _index_names(plan: dict[str, Any]) -> set[str]:
    names = {plan["Index Name"]} if "Index Name" in plan else set()
    return names.union(*(_index_names(child) for child in plan.get("Plans", ())))


#: Bytes of a row beside vector and tag, and of its entry in the primary key.
_ROW_OVERHEAD: Final = 48


def footprint(stamps: Stamps, count: int) -> Footprint:
    """Estimate what ``count`` vectors take.

    Beside the index these are the values, the tag, key and hash, and the key's index.
    """
    width = _BITS[stamps.source.collection.storage] // 8
    vectors = count * (stamps.dims * width + 2 * (len(stamps.tag) + _ROW_OVERHEAD))
    return Footprint(vectors, _index_bytes(stamps, count), wanted_memory_mb(stamps, count))
