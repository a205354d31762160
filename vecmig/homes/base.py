"""What a home is: where the vectors of one tag live. Coverage, pages and sync need only stamps, alike for all homes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vecmig.freshness.stamps import Space
from vecmig.homes.index import IndexState
from vecmig.homes.sampling import Sampled
from vecmig.homes.search import Hit
from vecmig.homes.writing import EmbeddedRecord
from vecmig.postgres.sessions import Connection


class Home(Protocol):
    """Where the vectors of one tag live, over one session. All that needs a vector itself goes through it."""

    #: What ``vecmig.tag.home`` calls it.
    kind: ClassVar[str]

    @property
    def session(self) -> Connection:
        """The session that it works on."""

    @property
    def stamps(self) -> Space:
        """The stamps of its tag."""

    def exists(self) -> bool:
        """Return whether it is there, and part of the vectors table."""

    def require(self) -> None:
        """Raise DatabaseError where it is not there."""

    def create(self) -> None:
        """Make it, unless it is there; in the caller's transaction."""

    def drop(self) -> None:
        """Drop it with its vectors and index; in the caller's transaction. No row of the source goes with it."""

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        """Write complete records, guarded by the hash of their texts; return how many have their vectors now."""

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        """Return the k chunks nearest to a query vector of shape (dims,), nearest first."""

    def sample(self, size: int) -> list[Sampled]:
        """Return up to ``size`` fresh vectors drawn at random, with the texts that they were made from."""

    def index(self) -> IndexState:
        """Return what the catalogue says of its index."""

    def plan(self) -> tuple[bool, bool]:
        """Return whether the planner takes the index for a search, and whether it could."""

    def guaranteed(self) -> bool:
        """Return whether the database itself guarantees dims and length of every vector."""
