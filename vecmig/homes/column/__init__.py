"""The home of vectors that were adopted in place: they stay in the source's own column, and only stamps are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from vecmig.events import Listener
from vecmig.freshness.stamps import Stamps
from vecmig.homes import relation
from vecmig.homes.adopting import AdoptedPage, adopt_changed, adopt_page, sweep_emptied
from vecmig.homes.column import source_column
from vecmig.homes.column.indexes import own_target, serving
from vecmig.homes.column.writing import fill_column
from vecmig.homes.index import create_statement, footprint, plan_uses_index
from vecmig.homes.index_build import build_index
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

#: What a stamp without a vector takes, with its entry in the primary key.
_STAMP_BYTES: Final = 150


@dataclass(frozen=True, slots=True)
class ColumnHome:
    """A column of the source, with a partition of stamps beside it; see ``Home``."""

    session: Connection
    stamps: Stamps
    kind: ClassVar[str] = "column"

    def exists(self) -> bool:
        return relation.is_attached(self.session, self.stamps)

    def require(self) -> None:
        relation.require_partition(self.session, self.stamps)

    def create(self) -> None:
        relation.create_partition(self.session, self.stamps, kept=False)

    def drop(self) -> None:
        relation.drop_partition(self.session, self.stamps)

    def state(self) -> HomeState:
        return relation.home_state(self.session, self.stamps)

    def undo(self, database: Database) -> None:
        source_column.take_out(database, self.stamps)

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        source_column.clear(database, self.stamps)
        relation.detach(database, self.stamps, wait=wait, on_wait=on_wait)

    def remove(self) -> int:
        source_column.drop(self.session, self.stamps)
        return relation.drop_detached(self.session, self.stamps)

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return fill_column(self.session, self.stamps, records)

    def adopt(self, after: Key | None) -> AdoptedPage:
        return adopt_page(self.session, self.stamps, after, kept=False)

    def sweep_adopted(self) -> None:
        sweep_emptied(self.session, self.stamps)

    def adopt_changed(self) -> int:
        return adopt_changed(self.session, self.stamps, kept=False)

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
        serves = self.index().usable
        build = footprint(self.stamps, vectors)
        index = (0, 0) if serves else (build.index_bytes, build.index_memory_mb)
        return Footprint(vectors * _STAMP_BYTES, *index)

    def index(self) -> IndexState:
        found = serving(self.session, self.stamps)
        return IndexState() if found is None else found.state

    def index_statement(self) -> sql.Composed:
        return create_statement(self.stamps, own_target(self.stamps))

    def build_index(
        self, database: Database, *, vectors: int, limits: IndexLimits, listener: Listener
    ) -> IndexBuild | None:
        # the caller holds no session meanwhile
        with database.session() as connection:
            found = serving(connection, self.stamps)
        if found is not None and found.state.usable:
            return None
        return build_index(
            database, self.stamps, own_target(self.stamps), rows=vectors, limits=limits, listener=listener
        )

    def plan(self) -> tuple[bool, bool]:
        found = serving(self.session, self.stamps)
        return (False, False) if found is None else plan_uses_index(self.session, self.stamps, found.names)

    def guaranteed(self) -> bool:
        # each vector was looked at when its stamp was written, and the view shows no other
        return self.exists()

    def guarantee_statement(self) -> str:
        return ""
