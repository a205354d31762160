"""The HNSW index of one tag: built after the load, without blocking writes, and rebuilt when a build was cut short."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from vecmig.store.connect import Connection
from vecmig.store.live import nearest
from vecmig.store.statements import statement
from vecmig.store.vectors import Space

#: Bytes that HNSW's graph needs a node beside the vector itself: neighbours and page overhead at m = 16.
_NODE_OVERHEAD: Final = 400
_SMALLEST_MEMORY_MB: Final = 64
#: pgvector's element and neighbour tuples, and what an 8 kB page holds of them.
_ELEMENT_OVERHEAD: Final = 76
_NEIGHBOUR_BYTES: Final = 6
_PAGE_BYTES: Final = 8_100
#: Seconds between two looks at another's build.
_TICK: Final = 1.0


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the catalogue says about a tag's index."""

    exists: bool = False
    valid: bool = False
    ready: bool = False
    bytes: int = 0

    @property
    def usable(self) -> bool:
        """Whether queries can use it."""
        return self.valid and self.ready

    @property
    def word(self) -> str:
        """One word for people: none, invalid or valid."""
        if not self.exists:
            return "none"
        return "valid" if self.usable else "invalid"


def index_name(space: Space) -> sql.Identifier:
    """Name the index after the partition."""
    return sql.Identifier(space.source.schema, _plain_name(space))


def _plain_name(space: Space) -> str:
    return f"{space.source.partition_name(space.tag)}_hnsw"


def index_state(connection: Connection, space: Space) -> IndexState:
    """Look the index up."""
    relations = {"index": index_name(space), "partition": space.relation}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("index", "state"), values).fetchone()
    return IndexState(True, *row) if row else IndexState()


def build_index(
    connection: Connection, space: Space, *, rows: int, memory_mb: int, on_wait: Callable[[str], None]
) -> None:
    """Build the index CONCURRENTLY (so outside any transaction), unless a valid one is there.

    A build that was killed leaves an index that is kept up on each write and used by no query: it is dropped first.

    Args:
        rows: how many vectors to expect, to size maintenance_work_mem by.
        memory_mb: the most that may be used.
        on_wait: told why nothing happens, once a second.
    """
    _await_other_build(connection, space, on_wait)
    state = index_state(connection, space)
    if state.usable:
        return
    name = index_name(space)
    if state.exists:
        connection.execute(statement("index", "drop", index=name))
    memory = min(memory_mb, wanted_memory_mb(space, rows))
    connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(f"{memory}MB")))
    connection.execute(create_statement(space))
    connection.execute(sql.SQL("RESET maintenance_work_mem"))
    connection.execute(statement("index", "analyze", space=space.relation))


def wanted_memory_mb(space: Space, rows: int) -> int:
    """Give the maintenance_work_mem that holds the graph of ``rows`` vectors while it is built.

    With less, pgvector goes on building on disk, many times slower.
    """
    return max(_SMALLEST_MEMORY_MB, int(rows * (_vector_bytes(space) + _NODE_OVERHEAD) * 1.2) // 2**20)


def estimated_bytes(space: Space, rows: int) -> int:
    """Estimate the index of ``rows`` vectors: whole elements and their neighbour lists on pages of 8 kB."""
    element = _vector_bytes(space) + _ELEMENT_OVERHEAD
    neighbours = _NEIGHBOUR_BYTES * 2 * space.source.collection.hnsw.m
    pages = rows * (element + neighbours) / _PAGE_BYTES
    return int(max(pages, rows if element > _PAGE_BYTES / 2 else 0)) * 8192


def _vector_bytes(space: Space) -> int:
    return 8 + space.dims * (4 if space.source.collection.storage == "vector" else 2)


def _await_other_build(connection: Connection, space: Space, on_wait: Callable[[str], None]) -> None:
    """Let a build come to its end: PostgreSQL goes on with that of a run that was killed, and dropping it deadlocks."""
    values = {"partition": space.relation.as_string(connection)}
    while row := connection.execute(statement("index", "being_built"), values).fetchone():
        on_wait(f"an earlier run's build of the index still goes on (pid {row[0]})")
        time.sleep(_TICK)


def create_statement(space: Space) -> sql.Composed:
    """Give the CREATE INDEX CONCURRENTLY of a tag."""
    collection = space.source.collection
    return statement(
        "index",
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
