"""What the index of a tag would take as each type that fits it, so that one can be chosen before it is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vecmig.homes import Home, home_over
from vecmig.ledger.ledger import Ledger
from vecmig.model.index import IndexType, index_problem

_TYPES: tuple[IndexType, ...] = ("vector", "halfvec", "bit")


@dataclass(frozen=True, slots=True)
class IndexEstimate:
    """What an index of one type would take."""

    type: str
    #: Whether it is the one that the tag is to have.
    chosen: bool
    bytes: int
    #: maintenance_work_mem that holds it while it is built.
    memory_mb: int
    #: By the last build of that type over vectors of as many dims in the collection; None where there was none.
    seconds: float | None


def estimate_indexes(ledger: Ledger, home: Home, vectors: int) -> Iterator[IndexEstimate]:
    """Estimate an index of each type that the tag may have; nothing is written."""
    stamps, storage = home.stamps, home.stamps.source.collection.storage
    rates = ledger.index_rates(stamps.source.collection.name, stamps.dims)
    for kind in _TYPES:
        index = replace(stamps.index, type=None if kind == storage else kind)
        if kind != stamps.index_type:
            index = replace(index, rerank=None)
        if index_problem(storage, stamps.dims, index) is None:
            taken = home_over(home.session, stamps.indexed_as(index)).footprint(vectors)
            rate = rates.get(kind)
            yield IndexEstimate(
                kind,
                kind == stamps.index_type,
                taken.index_bytes,
                taken.index_memory_mb,
                vectors / rate if rate else None,
            )
