"""The HNSW index of one tag: built after the load, without blocking writes, and rebuilt when a build was cut short."""

from __future__ import annotations

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


def build_index(connection: Connection, space: Space, *, rows: int, memory_mb: int) -> None:
    """Build the index CONCURRENTLY (so outside any transaction), unless a valid one is there.

    A build that was killed leaves an index that is kept up on each write and used by no query: it is dropped first.

    Args:
        rows: how many vectors to expect, to size maintenance_work_mem by.
        memory_mb: the most that may be used.
    """
    state = index_state(connection, space)
    if state.usable:
        return
    name = index_name(space)
    if state.exists:
        connection.execute(statement("index", "drop", index=name))
    collection = space.source.collection
    # the graph should fit: past maintenance_work_mem pgvector falls back to building on disk, many times slower
    wanted = rows * (space.dims * (4 if collection.storage == "vector" else 2) + _NODE_OVERHEAD) // 2**20
    memory = max(_SMALLEST_MEMORY_MB, min(memory_mb, int(wanted * 1.2)))
    connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(f"{memory}MB")))
    connection.execute(create_statement(space))
    connection.execute(sql.SQL("RESET maintenance_work_mem"))
    connection.execute(statement("index", "analyze", space=space.relation))


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
