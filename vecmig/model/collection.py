"""Collection: what is searched together, and how its records are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from vecmig.model.index import Index, index_problem

Storage = Literal["vector", "halfvec"]
Metric = Literal["cosine", "l2", "ip"]
ChangeTracking = Literal["triggers", "scan"]
#: Which columns of the source the live view shows beside those that vecmig reads: all, some, or nothing was said.
LiveColumns = Literal["all"] | tuple[str, ...] | None

#: The vectors table's own columns; a key column cannot be called like one of them.
VECTOR_COLUMNS: Final = (
    "tag",
    "chunk",
    "chunks",
    "embedding",
    "source_hash",
    "chunk_text",
    "embedded_at",
    "written_by",
)
#: The live view's own columns; it hides columns of the source that are called like them.
LIVE_OWN: Final = ("tag", "chunk", "embedding")


@dataclass(frozen=True, slots=True)
class Hnsw:
    """How the index of each tag is built that says nothing else itself."""

    m: int = 16
    ef_construction: int = 64


@dataclass(frozen=True, slots=True)
class Collection:
    """What is searched together: a source table or view, and how to read its text."""

    name: str
    #: ``(table,)`` or ``(schema, table)``, folded and unquoted as PostgreSQL would.
    source: tuple[str, ...]
    #: The source's key columns, exactly as the catalog names them.
    key: tuple[str, ...]
    #: A SQL expression over the source's columns.
    text: str
    #: A SQL condition: which rows are records of this collection.
    where: str | None = None
    storage: Storage = "vector"
    metric: Metric = "cosine"
    #: The tag that the collection should have, in canonical form.
    tag: str | None = None
    change_tracking: ChangeTracking = "triggers"
    hnsw: Hnsw = field(default=Hnsw())
    live_columns: LiveColumns = None
    #: How tags are indexed that say so in their recipes.
    indexes: tuple[tuple[str, Index], ...] = ()

    def index_of(self, tag: str) -> Index:
        """Return how collections.yaml says that a tag is indexed."""
        index = dict(self.indexes).get(tag, Index())
        return replace(index, type=None) if index.type == self.storage else index

    def index_problem(self, tag: str, dims: int) -> str | None:
        """Say why vectors of a tag cannot be indexed as collections.yaml has it; None if they can."""
        return index_problem(self.storage, dims, self.index_of(tag))
