"""What goes into a home and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecmig.source.keys import Key


class EmbeddedRecord(NamedTuple):
    """A record with the vectors made from it, one a chunk; ``texts`` is None where the tag does not chunk."""

    key: Key
    source_hash: str
    vectors: NDArray[np.float32]
    texts: tuple[str, ...] | None
    #: Whether it had no vector when it was read.
    new: bool = False


class Sampled(NamedTuple):
    """One vector of a tag."""

    key: tuple[str, ...]
    #: The chunk's text, or the record's where the tag does not chunk.
    text: str
    vector: NDArray[np.float32]
    #: The record's columns, where its vector was adopted: what tells those of one model from those of another.
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the catalogue says about a tag's index."""

    exists: bool = False
    valid: bool = False
    ready: bool = False
    bytes: int = 0
    #: The number of its file: another one once it was built again.
    file: int = 0

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


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """What an index build may take of the server."""

    #: Most maintenance_work_mem, in MB.
    memory_mb: int = 2048
    #: Parallel workers; None for as many as the server's max_parallel_maintenance_workers.
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """What a build was given, and took."""

    vectors: int
    memory_mb: int
    #: Parallel workers that were seen at work.
    workers: int
    seconds: float


#: In use, on its way out of use, out of use, or nowhere.
Place = Literal["attached", "pending", "detached", "gone"]


@dataclass(frozen=True, slots=True)
class HomeState:
    """Where a home is, and what it takes on disk."""

    place: Place
    #: With its indexes, and what is stored out of line.
    bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What vectors are expected to take, in bytes on disk; and the memory that the build of their index wants."""

    vector_bytes: int
    index_bytes: int
    index_memory_mb: int
