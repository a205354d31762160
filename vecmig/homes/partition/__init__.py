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
from vecmig.homes import relation
from vecmig.homes.adopting import AdoptedPage, adopt_changed, adopt_page
from vecmig.homes.index import (
    IndexTarget,
    create_statement,
    footprint,
    index_state,
    plan_uses_index,
    target_in,
)
from vecmig.homes.index_build import build_index
from vecmig.homes.partition.writing import write_records
from vecmig.homes.sampling import longest_text, sample_vectors
from vecmig.homes.search import Hit, search_each
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    HomeState,
    IndexBuild,
    IndexLimits,
    IndexState,
    Sampled,
)
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
        relation.create_partition(self.session, self.stamps, kept=True)

    def drop(self) -> None:
        relation.drop_partition(self.session, self.stamps)

    def state(self) -> HomeState:
        return relation.home_state(self.session, self.stamps)

    def undo(self, database: Database) -> None:
        """Leave the source alone, which has nothing of it."""

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        relation.detach(database, self.stamps, wait=wait, on_wait=on_wait)

    def remove(self) -> int:
        return relation.drop_detached(self.session, self.stamps)

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return write_records(self.session, self.stamps, records)

    def adopt(self, after: Key | None) -> AdoptedPage:
        return adopt_page(self.session, self.stamps, after, kept=True, indexed=self.index().exists)

    def sweep_adopted(self) -> None:
        """Keep the copies, which were made of their texts whatever the column has now."""

    def adopt_changed(self) -> int:
        return adopt_changed(self.session, self.stamps, kept=True)

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        (hits,) = self.search_each([vector], k, exact=exact)
        return hits

    def search_each(self, vectors: Iterable[NDArray[np.float32]], k: int, *, exact: bool = False) -> list[list[Hit]]:
        return search_each(self.session, self.stamps, vectors, k, exact=exact)

    def sample(self, size: int) -> list[Sampled]:
        return sample_vectors(self.session, self.stamps, size)

    def longest_text(self, size: int) -> str | None:
        return longest_text(self.session, self.stamps, size)

    def footprint(self, vectors: int) -> Footprint:
        return footprint(self.stamps, vectors)

    def index(self) -> IndexState:
        return index_state(self.session, self._target)

    def index_statement(self) -> sql.Composed:
        return create_statement(self.stamps, self._target)

    def build_index(
        self, database: Database, *, vectors: int, limits: IndexLimits, listener: Listener
    ) -> IndexBuild | None:
        return build_index(database, self.stamps, self._target, rows=vectors, limits=limits, listener=listener)

    @property
    def _target(self) -> IndexTarget:
        source = self.stamps.source
        type_ = source.pgvector.type(source.collection.storage, self.stamps.dims)
        embedding = sql.SQL("embedding::{}").format(type_)
        return target_in(self.stamps, self.stamps.relation, source.vectors_schema, expression=embedding)

    def plan(self) -> tuple[bool, bool]:
        return plan_uses_index(self.session, self.stamps, {self._target.name})

    def guaranteed(self) -> bool:
        return self.exists() and relation.constraint_holds(self.session, self.stamps)

    def guarantee_statement(self) -> str:
        return relation.constraint_sql(self.session, self.stamps)
