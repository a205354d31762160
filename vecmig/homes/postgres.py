"""What homes have in common whose vectors PostgreSQL itself reaches: stamps in a partition, and searches in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vecmig.freshness.stamps import Stamps
from vecmig.homes import relation
from vecmig.homes.adopting import adopt_changed
from vecmig.homes.deriving import derive_changed
from vecmig.homes.sampling import longest_text, sample_vectors
from vecmig.homes.search import Hit, search_each
from vecmig.homes.values import HomeState, Sampled
from vecmig.postgres.sessions import Connection, Database


@dataclass(frozen=True, slots=True)
class PostgresHome:
    """The part of ``Home`` that is the same wherever in PostgreSQL the vectors are."""

    session: Connection
    stamps: Stamps
    #: Whether each stamp has its vector beside it.
    kept: ClassVar[bool]

    def exists(self) -> bool:
        return relation.is_attached(self.session, self.stamps)

    def require(self) -> None:
        relation.require_partition(self.session, self.stamps)

    def create(self) -> None:
        relation.create_partition(self.session, self.stamps, kept=self.kept)

    def drop(self) -> None:
        relation.drop_partition(self.session, self.stamps)

    def state(self) -> HomeState:
        return relation.home_state(self.session, self.stamps)

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        relation.detach(database, self.stamps, wait=wait, on_wait=on_wait)

    def remove(self) -> int:
        return relation.drop_detached(self.session, self.stamps)

    def adopt_changed(self) -> int:
        if self.stamps.base is not None:
            return derive_changed(self.session, self.stamps)
        return adopt_changed(self.session, self.stamps, kept=self.kept)

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        (hits,) = self.search_each([vector], k, exact=exact)
        return hits

    def search_each(self, vectors: Iterable[NDArray[np.float32]], k: int, *, exact: bool = False) -> list[list[Hit]]:
        return search_each(self.session, self.stamps, vectors, k, exact=exact)

    def sample(self, size: int) -> list[Sampled]:
        return sample_vectors(self.session, self.stamps, size)

    def longest_text(self, size: int) -> str | None:
        return longest_text(self.session, self.stamps, size)
