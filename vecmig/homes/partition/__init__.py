"""The home of most tags: a partition of the vectors table, with stamp and vector in one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from psycopg import sql

from vecmig.events import Listener
from vecmig.homes import relation
from vecmig.homes.adopting import NO_PAGE, AdoptedPage, adopt_differing, adopt_page, forget_superseded
from vecmig.homes.deriving import derive_page
from vecmig.homes.index import (
    IndexTarget,
    create_statement,
    footprint,
    index_state,
    plan_uses_index,
    target_in,
)
from vecmig.homes.index_build import build_index
from vecmig.homes.indexed import indexed, predicate
from vecmig.homes.partition.writing import write_records
from vecmig.homes.postgres import PostgresHome
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    IndexBuild,
    IndexLimits,
    IndexState,
)
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Database
from vecmig.source.keys import Key


class PartitionHome(PostgresHome):
    """A partition of the vectors table; see ``Home``."""

    __slots__ = ()
    kind: ClassVar[str] = "partition"
    kept: ClassVar[bool] = True

    def undo(self, database: Database) -> None:
        """Leave the source alone, which has nothing of it."""

    def bound_by(self) -> list[str]:
        return []

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        return write_records(self.session, self.stamps, records)

    def adopt(self, after: Key | None) -> AdoptedPage:
        if self.stamps.base is not None:
            return derive_page(self.session, self.stamps, after, indexed=self.index().exists)
        return adopt_page(self.session, self.stamps, after, kept=True, indexed=self.index().exists)

    def reconcile(self, after: Key | None, *, untold: bool) -> AdoptedPage:
        """Take over what is another vector; a copy stays where the column has none any more."""
        if not self.stamps.follows:
            return NO_PAGE
        if after is None:
            forget_superseded(self.session, self.stamps)
        if not untold:
            return NO_PAGE
        return adopt_differing(self.session, self.stamps, after, indexed=self.index().exists)

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

    def drop_index(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        drop = statement("homes/index", "drop", index=self._target.identifier)
        with_lock_retries(database, lambda other: other.execute(drop), wait=wait, on_wait=on_wait, in_transaction=False)

    @property
    def _target(self) -> IndexTarget:
        stamps = self.stamps
        vector = sql.SQL("embedding")
        parts = {"expression": indexed(stamps, vector), "predicate": predicate(stamps, vector)}
        return target_in(stamps, stamps.relation, stamps.source.vectors_schema, **parts)

    def plan(self) -> tuple[bool, bool]:
        return plan_uses_index(self.session, self.stamps, {self._target.name})

    def guaranteed(self) -> bool:
        return self.exists() and relation.constraint_holds(self.session, self.stamps)

    def guarantee_statement(self) -> str:
        return relation.constraint_sql(self.session, self.stamps)
