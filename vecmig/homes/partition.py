"""The home of most tags: a partition of the vectors table, with stamp and vector in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vecmig.freshness.stamps import Space
from vecmig.homes.index import IndexState, index_state, plan_uses_index
from vecmig.homes.sampling import Sampled, sample_vectors
from vecmig.homes.search import Hit, fetch, new_search
from vecmig.homes.table import constraint_holds, create_partition, drop_partition, is_attached, require_partition
from vecmig.homes.vectors import send_vectors
from vecmig.homes.writing import EmbeddedRecord, write_records
from vecmig.postgres.sessions import Connection


@dataclass(frozen=True, slots=True)
class PartitionHome:
    """A partition of the vectors table; see ``Home``."""

    session: Connection
    stamps: Space
    kind: ClassVar[str] = "partition"

    def exists(self) -> bool:
        return is_attached(self.session, self.stamps)

    def require(self) -> None:
        require_partition(self.session, self.stamps)

    def create(self) -> None:
        create_partition(self.session, self.stamps)

    def drop(self) -> None:
        drop_partition(self.session, self.stamps)

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return write_records(self.session, self.stamps, records)

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        search = new_search(self.stamps, k, exact=exact)
        send_vectors(self.session.adapters)
        return search.hits(fetch(self.session, search, search.values(vector)))

    def sample(self, size: int) -> list[Sampled]:
        return sample_vectors(self.session, self.stamps, size)

    def index(self) -> IndexState:
        return index_state(self.session, self.stamps)

    def plan(self) -> tuple[bool, bool]:
        return plan_uses_index(self.session, self.stamps)

    def guaranteed(self) -> bool:
        return self.exists() and constraint_holds(self.session, self.stamps)
