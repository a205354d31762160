"""The home of most tags: a partition of the vectors table, with stamp and vector in one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from vecmig.events import Listener
from vecmig.freshness.stamps import Stamps
from vecmig.homes.adopting import AdoptedPage, adopt_changed, adopt_page
from vecmig.homes.partition import relation
from vecmig.homes.partition.index import create_statement, footprint, index_state, plan_uses_index
from vecmig.homes.partition.index_build import build_index
from vecmig.homes.partition.sampling import longest_text, sample_vectors
from vecmig.homes.partition.writing import write_records
from vecmig.homes.search import Hit, fetch_each, new_search
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    HomeState,
    IndexBuild,
    IndexLimits,
    IndexState,
    Sampled,
)
from vecmig.homes.vectors import send_vectors
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.keys import Key


@dataclass(frozen=True, slots=True)
class PartitionHome:
    """A partition of the vectors table; see ``Home``."""

    session: Connection
    stamps: Stamps
    kind: ClassVar[str] = "partition"

    def exists(self) -> bool:
        return relation.is_attached(self.session, self.stamps)

    def require(self) -> None:
        relation.require_partition(self.session, self.stamps)

    def create(self) -> None:
        relation.create_partition(self.session, self.stamps)

    def drop(self) -> None:
        relation.drop_partition(self.session, self.stamps)

    def state(self) -> HomeState:
        return relation.home_state(self.session, self.stamps)

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        relation.detach(database, self.stamps, wait=wait, on_wait=on_wait)

    def remove(self) -> int:
        return relation.drop_detached(self.session, self.stamps)

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return write_records(self.session, self.stamps, records)

    def adopt(self, after: Key | None) -> AdoptedPage:
        return adopt_page(self.session, self.stamps, after, kept=True)

    def adopt_changed(self) -> int:
        return adopt_changed(self.session, self.stamps, kept=True)

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        (hits,) = self.search_each([vector], k, exact=exact)
        return hits

    def search_each(self, vectors: Iterable[NDArray[np.float32]], k: int, *, exact: bool = False) -> list[list[Hit]]:
        search = new_search(self.stamps, k, exact=exact)
        send_vectors(self.session.adapters)
        return [search.hits(rows) for rows in fetch_each(self.session, search, map(search.values, vectors))]

    def sample(self, size: int) -> list[Sampled]:
        return sample_vectors(self.session, self.stamps, size)

    def longest_text(self, size: int) -> str | None:
        return longest_text(self.session, self.stamps, size)

    def footprint(self, vectors: int) -> Footprint:
        return footprint(self.stamps, vectors)

    def index(self) -> IndexState:
        return index_state(self.session, self.stamps)

    def index_statement(self) -> sql.Composed:
        return create_statement(self.stamps)

    def build_index(
        self, database: Database, *, vectors: int, limits: IndexLimits, listener: Listener
    ) -> IndexBuild | None:
        return build_index(database, self.stamps, rows=vectors, limits=limits, listener=listener)

    def plan(self) -> tuple[bool, bool]:
        return plan_uses_index(self.session, self.stamps)

    def guaranteed(self) -> bool:
        return self.exists() and relation.constraint_holds(self.session, self.stamps)

    def guarantee_statement(self) -> str:
        return relation.constraint_sql(self.session, self.stamps)
