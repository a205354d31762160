"""Collection: what is searched together, and how its records are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

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
#: Most dimensions that pgvector's HNSW indexes, by the type of the column.
INDEX_DIMS: Final[Mapping[str, int]] = {"vector": 2_000, "halfvec": 4_000}


@dataclass(frozen=True, slots=True)
class Hnsw:
    """How the index of each tag is built."""

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


def index_problem(storage: str, dims: int) -> str | None:
    """Say why HNSW cannot index vectors of ``dims`` dimensions in ``storage``, and the way out; None if it can."""
    limit = INDEX_DIMS[storage]
    if dims <= limit:
        return None
    smaller = "a smaller dims, if the model has an option for it (dimensions of text-embedding-3)"
    way_out = f"storage: halfvec, or {smaller}" if dims <= INDEX_DIMS["halfvec"] else smaller
    return f"HNSW indexes at most {limit} dimensions of {storage}, and the tag has {dims}: use {way_out}"
