"""A revision of the index alone: another index of the live tag is built beside the one that serves, judged, and used.

No vector changes, and reads stay at their tag. The index that served before stays, and a rollback goes back to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vecmig.errors import ConfigError, DatabaseError, ScriptError
from vecmig.events import Warned
from vecmig.freshness.stamps import Stamps
from vecmig.homes import home_over
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.phases import RevisionRow
from vecmig.model.gate import Gate
from vecmig.model.index import Index
from vecmig.operations.context import Context, Declaration
from vecmig.operations.cutover import Cutover
from vecmig.operations.indexing import build_index, drop_index
from vecmig.operations.leaving import Leaving
from vecmig.operations.operation import Operation
from vecmig.postgres.sessions import Connection
from vecmig.published.live_view import publish
from vecmig.source.source import Source
from vecmig.text import duration

_KEPT: Final = Leaving()


def row_of(ledger: Ledger, declared: Declaration) -> RevisionRow | None:
    """Return what the database knows of a revision; None before it was started."""
    return ledger.revisions.all().get(declared.revision)


@dataclass(frozen=True)
class BeginReindex(Operation):
    """Enter the revision, and which index serves before it; nothing is created."""

    #: How ``undo`` leaves the revision.
    leaving: Leaving = field(default=Leaving())

    def done(self) -> bool:
        """Return whether the revision was started, and not taken back since."""
        with self.context.database.session() as connection:
            row = row_of(self.context.ledger(connection), self.revision)
        return row is not None and row.withdrawn_at is None

    def run(self) -> None:
        """Enter it.

        Raises:
            ScriptError: its tag is not live.
            ConfigError: the vectors cannot be indexed so.
        """
        source = self.source()
        before, wanted = self.stamps(source).index, source.collection.index_of(self.new_tag)
        problem = source.collection.index_problem(self.new_tag, self.stamps(source).dims)
        if problem is not None:
            raise ConfigError(f"{self.new_tag} cannot be indexed so: {problem}", state="Nothing was changed.")
        if self.done():
            return
        declared = self.revision
        with self.reported("expand", self.new_tag) as summarise, self.context.transaction() as ledger:
            live = ledger.routes.hold(self.collection).live
            if live != self.new_tag:
                raise ScriptError(
                    f"Revision {declared.revision} changes the index of {self.new_tag}, but {self.collection} reads "
                    f"{live or 'no tag'}.",
                    state="Nothing was changed.",
                    hint=f"Correct its tags (vecmig edit {declared.revision}), or run the revisions between first.",
                )
            ledger.revisions.start(
                declared.revision,
                declared.collection,
                declared.old_tag,
                declared.new_tag,
                declared.checksum,
                index_before=before,
            )
            self.record(ledger, "expand", {"index": wanted.to_mapping()})
            summarise(f"reads go on by {self.stamps(source).described}")

    def undo(self) -> None:
        """Abandon the revision; the index that it has built is kept unless discarded."""
        with self.reported("abandon", self.new_tag) as summarise:
            source = self.recorded_source()
            wanted = self.stamps(source).indexed_as(self._wanted(source))
            discarded = self.leaving.discard and wanted.index.built != self.stamps(source).index.built
            if discarded:
                drop_index(self.context, wanted)
            with self.context.transaction() as ledger:
                self.leaving.enter(ledger, self.revision.revision, self.collection)
                self.record(ledger, "abandon", {"discarded": discarded} | self.leaving.figures)
            summarise("its index is gone" if discarded else "what it has built is kept")

    def sql(self) -> list[str]:
        """Return nothing: there is nothing to create."""
        return []

    def _wanted(self, source: Source) -> Index:
        # a rollback must not depend on collections.yaml; without it, what was built stays
        try:
            return self.context.collections.collection(self.collection).index_of(self.new_tag)
        except ConfigError:
            return self.stamps(source).index


@dataclass(frozen=True)
class Reindex(Cutover):
    """Judge the gate and let searches go by the new index in one short transaction; ``undo`` lets them go back."""

    def done(self) -> bool:
        """Return whether searches go by it."""
        with self.context.database.session() as connection:
            row = row_of(self.context.ledger(connection), self.revision)
        return row is not None and row.applied

    def undo(self) -> None:
        """Let searches go by the index that served before; it is built again where somebody dropped it."""
        source = self.recorded_source()
        with self.context.database.session() as connection:
            row = row_of(self.context.ledger(connection), self.revision)
            shown = self._columns_to_show(source)
        now = self.stamps(source)
        before = row.index_before if row is not None else None
        if before is None:
            self.context.listener(Warned(f"Which index served before is not known: searches go on by {now.described}"))
        stamps = now if before is None else now.indexed_as(before)
        self._require_there(stamps)
        with self.reported("rollback", f"{now.described} → {stamps.described}") as summarise:
            seconds = self.context.locked(lambda connection: self._go_back(connection, now, stamps, shown))
            summarise(f"{self._verified(stamps)} (switched in {duration(seconds)}); no vector was touched")

    def undo_sql(self) -> list[str]:
        """Return a comment: which index served before stands in the database alone."""
        return ["-- rollback: vecmig downgrade lets searches go by the index that served before"]

    def _subject(self, new: Stamps) -> str:
        return f"{self.new_tag}: {new.described}"

    def _verified(self, new: Stamps) -> str:
        if self.stamps(self.recorded_source()).index != new.index:
            raise DatabaseError(
                f"Searches of {self.collection} go by another index than {new.described}.",
                hint="Another session changed it just now. Run: vecmig status",
            )
        return f"searches go by {new.described}"

    def _switch(
        self, connection: Connection, source: Source, checks: Mapping[str, Any], shown: Sequence[str] | None = None
    ) -> None:
        ledger, stamps = self.context.ledger(connection), self.stamps(source)
        row = row_of(ledger, self.revision)
        before = stamps.indexed_as(row.index_before) if row is not None and row.index_before is not None else None
        self._serve(ledger, stamps, shown)
        ledger.revisions.go_live(self.revision.revision, self.revision.checksum)
        self.record(ledger, "reindex", {"from": before and before.described, "to": stamps.described, "gate": checks})

    def _go_back(self, connection: Connection, now: Stamps, before: Stamps, shown: Sequence[str] | None) -> float:
        began = time.monotonic()
        ledger = self.context.ledger(connection)
        self._serve(ledger, before, shown)
        ledger.revisions.step_back(self.revision.revision)
        self.leaving.enter(ledger, self.revision.revision, self.collection)
        figures = {"from": now.described, "to": before.described, "back": True} | self.leaving.figures
        self.record(ledger, "reindex", figures)
        return time.monotonic() - began

    def _serve(self, ledger: Ledger, stamps: Stamps, shown: Sequence[str] | None) -> None:
        """Let searches go by an index."""
        live = ledger.routes.hold(self.collection).live
        if live != self.new_tag:
            raise DatabaseError(
                f"The live tag of {self.collection} is {live}, no longer {self.new_tag}.",
                state="Nothing was changed.",
                hint="Somebody else moved it just now. Run: vecmig status",
            )
        ledger.tags.set_index(self.collection, self.new_tag, stamps.index)
        publish(ledger.connection, stamps.source, stamps, ledger=ledger.schema, shown=shown)
        ledger.routes.announce(self.collection)

    def _require_there(self, stamps: Stamps) -> None:
        with self.context.database.session() as connection:
            usable = home_over(connection, stamps).index().usable
        if not usable:
            with self.reported("index", self.new_tag) as summarise:
                build_index(self.context, stamps)
                summarise("built again: somebody had dropped it")


def cutover_of(context: Context, declared: Declaration, gate: Gate, leaving: Leaving = _KEPT) -> Cutover:
    """Return what moves reads, or searches to another index where that is all that changes."""
    kind = Reindex if declared.index_only else Cutover
    return kind(context, declared, gate, leaving)
