"""The home of vectors that were adopted in place: they stay in the source's own column, and only stamps are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from psycopg import sql

from vecmig.events import Listener
from vecmig.freshness.fills import settle_fills
from vecmig.homes.adopting import NO_PAGE, AdoptedPage, adopt_page, forget_superseded, sweep_emptied
from vecmig.homes.column import source_column
from vecmig.homes.column.indexes import own_target, serving
from vecmig.homes.column.writing import fill_column
from vecmig.homes.index import create_statement, footprint, plan_uses_index
from vecmig.homes.index_build import build_index
from vecmig.homes.postgres import PostgresHome
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    IndexBuild,
    IndexLimits,
    IndexState,
)
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.sessions import Database
from vecmig.source.keys import Key

#: What a stamp without a vector takes, with its entry in the primary key.
_STAMP_BYTES: Final = 150


class ColumnHome(PostgresHome):
    """A column of the source, with a partition of stamps beside it; see ``Home``."""

    __slots__ = ()
    kind: ClassVar[str] = "column"
    kept: ClassVar[bool] = False

    def undo(self, database: Database) -> None:
        source_column.take_out(database, self.stamps)

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        source_column.clear(database, self.stamps)
        super().leave(database, wait=wait, on_wait=on_wait)

    def bound_by(self) -> list[str]:
        return source_column.bound_by(self.session, self.stamps)

    def remove(self) -> int:
        source_column.drop(self.session, self.stamps)
        return super().remove()

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return fill_column(self.session, self.stamps, records)

    def adopt_changed(self) -> int:
        settle_fills(self.session, self.stamps)
        return super().adopt_changed()

    def adopt(self, after: Key | None) -> AdoptedPage:
        return adopt_page(self.session, self.stamps, after, kept=False)

    def reconcile(self, after: Key | None, *, untold: bool) -> AdoptedPage:  # noqa: ARG002  # it is one statement
        """Forget the records whose column has no vector any more; each that it has is the tag's."""
        sweep_emptied(self.session, self.stamps)
        forget_superseded(self.session, self.stamps)
        return NO_PAGE

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

    def drop_index(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        stamps = self.stamps
        with_lock_retries(database, lambda other: source_column.drop_index(other, stamps), wait=wait, on_wait=on_wait)

    def plan(self) -> tuple[bool, bool]:
        found = serving(self.session, self.stamps)
        return (False, False) if found is None else plan_uses_index(self.session, self.stamps, found.names)

    def guaranteed(self) -> bool:
        # each vector was looked at when its stamp was written, and the view shows no other
        return self.exists()

    def guarantee_statement(self) -> str:
        return ""
