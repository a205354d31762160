"""Move the live tag to the new one, once the gate holds, and back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vecmig.errors import DatabaseError, GateRefused
from vecmig.events import Warned
from vecmig.freshness.changes import count_theirs, outbox
from vecmig.freshness.full_pass import needed_full_pass
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import find_coverage
from vecmig.gate import Report, judge_again
from vecmig.homes import home_over, open_home
from vecmig.ledger.ledger import Ledger
from vecmig.model.gate import Gate
from vecmig.operations.backfill import fill_tag, summary
from vecmig.operations.judging import compared, judge
from vecmig.operations.leaving import Leaving
from vecmig.operations.operation import Operation, commented
from vecmig.operations.rollback_gate import lacking, rollback_refused, what_lacks
from vecmig.postgres.sessions import Connection
from vecmig.published.detaching import is_detached
from vecmig.published.live_view import columns_to_show, publish, reads_tag
from vecmig.source.source import Source
from vecmig.text import duration


@dataclass(frozen=True)
class Cutover(Operation):
    """Judge the gate and move route, live view and search function in one short transaction; ``undo`` moves them back.

    Neither touches a vector, and what they cost does not grow with the corpus.
    """

    gate: Gate
    #: How ``undo`` leaves the revision.
    leaving: Leaving = field(default=Leaving())

    def done(self) -> bool:
        """Return whether the new tag is live."""
        return self.is_live()

    def run(self) -> None:
        """Make the new tag live.

        Raises:
            GateRefused: a check does not hold. Nothing was changed.
        """
        if self.done():
            return
        source, report = self.judge()
        new, old = self.stamps(source), self.old_stamps(source)
        with self.reported("cutover", self._subject(new)) as summarise:
            shown = self._columns_to_show(source)

            def change(connection: Connection) -> float:
                again = judge_again(
                    self.gate, report, home_over(connection, new), home_over(connection, old) if old else None
                )
                self._require(again)
                began = time.monotonic()
                self._verify_adopted(connection, again)
                self._switch(connection, source, {check.name: check.value for check in again.checks}, shown)
                return time.monotonic() - began

            seconds = self.context.locked(change)
            summarise(f"{self._verified(new)} (switched in {duration(seconds)})")

    def judge(self) -> tuple[Source, Report]:
        """Catch up with what changed while the index was built, and judge the gate.

        Returns:
            The source, with the index that the new tag is to be searched by, and the report.

        Raises:
            GateRefused: a check does not hold. Nothing was changed.
        """
        source = self.followed_source()
        self._catch_up(source)
        self.context.listener(self.step_started("gate", self.new_tag))
        report = judge(self.context, self.gate, source, self.new_tag, self.revision.old_tag)
        if (recall := report.evidence.recall) is not None:
            with self.context.transaction() as ledger:
                ledger.tags.set_recall(self.collection, self.new_tag, recall.to_mapping())
        self._require(report)
        return compared(self.context, source, self.new_tag, self.revision.old_tag)[0], report

    def undo(self) -> None:
        """Make the old tag live again, or none where there is none.

        Raises:
            GateRefused: the old tag lacks more records than the revision's freshness budget allows.
        """
        source = self.recorded_source()
        old = self.old_stamps(source)
        with self.context.database.session() as connection:
            ledger = self.context.ledger(connection)
            if old is not None:
                open_home(ledger, source, old.tag).require()
            standby = _standby_below(ledger, self.collection, self.revision.old_tag)
        if old is not None:
            self._require_complete(old)
        with self.reported("rollback", f"{self.new_tag} → {self.revision.old_tag or 'nothing'}") as summarise:
            shown = self._columns_to_show(source)
            seconds = self.context.locked(
                lambda connection: self._roll_back(connection, source, old, standby=standby, shown=shown)
            )
            self._verify_live(source, self.revision.old_tag)
            if self.revision.old_tag is None:
                self.give_back(source)
            where = f"live tag is now {self.revision.old_tag}" if self.revision.old_tag else "no tag is live"
            summarise(f"{where} (switched in {duration(seconds)}); no vector was touched")

    def sql(self) -> list[str]:
        """Return the statements as a comment: only ``vecmig upgrade`` runs them, once the gate holds."""
        source, _ = compared(self.context, self.source(), self.new_tag, self.revision.old_tag)
        statements = self.context.recorded(lambda connection: self._switch(connection, source, {}))
        coverage = f"{self.gate.coverage:g}"
        return [
            f"-- cutover: vecmig upgrade runs this once coverage is {coverage} and every other check holds",
            *map(commented, statements),
        ]

    def undo_sql(self) -> list[str]:
        """Return the statements of ``undo`` as a comment."""
        source = self.source()
        statements = self.context.recorded(
            lambda connection: self._roll_back(connection, source, self.old_stamps(source))
        )
        return ["-- rollback: vecmig downgrade runs this; no vector is touched", *map(commented, statements)]

    def _subject(self, new: Stamps) -> str:
        """Say what moves where."""
        return f"{self.revision.old_tag or 'nothing'} → {new.tag}"

    def _verified(self, new: Stamps) -> str:
        """Read back that it moved, and say so."""
        self._verify_live(new.source, new.tag)
        return f"live tag is now {new.tag}"

    def _catch_up(self, source: Source) -> None:
        """Embed what changed, so that a busy table gets through the gate."""
        with self.context.database.session() as connection:
            schema = self.context.database.schema
            waiting = outbox(connection, source, schema).records or needed_full_pass(
                connection, schema, self.collection
            )
        if source.tracked and waiting:
            with self.reported("catch up", self.new_tag) as summarise:
                result = fill_tag(self.context, self.stamps(source), self.revision.revision, here=True)
                summarise(summary(result))

    def _require(self, report: Report) -> None:
        if not report.passed:
            names = ", ".join(check.name for check in report.failed)
            raise GateRefused(
                f"The gate of {self.collection} refuses the cutover to {report.tag}: {names}.",
                checks=report.checks,
                state="Nothing was changed: reads go on as before.",
                hint=report.remedies,
            )

    def _verify_adopted(self, connection: Connection, report: Report) -> None:
        """Enter that what the tag has adopted is what its recipe gives, where a close look has seen that."""
        spot = report.evidence.spot
        if report.evidence.adopted and spot is not None and not spot.error and spot.sampled:
            self.context.ledger(connection).tags.verify(self.collection, self.new_tag, spot.verified)

    def _require_complete(self, old: Stamps) -> None:
        """Judge the gate of the rollback: measured before the switch, whose cost does not grow with the corpus."""
        try:
            with self.context.database.session() as connection:
                coverage = find_coverage(connection, old)
                theirs = count_theirs(connection, old, coverage)
                rate = self.context.ledger(connection).last_rate(self.collection, old.tag)
        except DatabaseError as error:
            # what sync cannot read it cannot make good either: a rollback must not depend on it
            self.context.listener(Warned(f"How complete {old.tag} is could not be measured: {error.message}"))
            return
        if lacking(coverage) > self.revision.gate.freshness_budget * coverage.eligible:
            raise rollback_refused(self.revision, coverage, rate, theirs)
        if coverage.fresh < coverage.eligible:
            self.context.listener(Warned(what_lacks(old.tag, coverage, theirs)))

    def _columns_to_show(self, source: Source) -> tuple[str, ...] | None:
        """Return the columns of a live view that is not there yet; None where one is."""
        with self.context.database.session() as connection:
            return columns_to_show(connection, source, self.context.database.schema)

    def _switch(
        self, connection: Connection, source: Source, checks: Mapping[str, Any], shown: Sequence[str] | None = None
    ) -> None:
        ledger = self.context.ledger(connection)
        ledger.routes.move(
            self.collection, before=self.revision.old_tag, live=self.new_tag, standby=self.revision.old_tag
        )
        publish(connection, source, self.stamps(source), ledger=ledger.schema, shown=shown)
        self.record(ledger, "cutover", {"from": self.revision.old_tag, "gate": checks})

    def _roll_back(
        self,
        connection: Connection,
        source: Source,
        old: Stamps | None,
        *,
        standby: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> float:
        began = time.monotonic()
        ledger = self.context.ledger(connection)
        ledger.routes.move(self.collection, before=self.new_tag, live=self.revision.old_tag, standby=standby)
        publish(connection, source, old, ledger=ledger.schema, shown=shown)
        ledger.revisions.step_back(self.revision.revision)
        self.leaving.enter(ledger, self.revision.revision, self.collection)
        self.let_go(connection, ledger, source)
        self.record(ledger, "rollback", {"to": self.revision.old_tag} | self.leaving.figures)
        return time.monotonic() - began

    def _verify_live(self, source: Source, tag: str | None) -> None:
        with self.context.database.session(fresh=True) as connection:
            route = self.context.ledger(connection).routes.of(self.collection)
            aside = is_detached(connection, self.context.database.schema, self.collection)
            if route.live != tag or not (
                aside or reads_tag(connection, source, tag, ledger=self.context.database.schema)
            ):
                raise DatabaseError(
                    f"The route of {self.collection} says {route.live}, and its live view does not agree with {tag}.",
                    hint="Another session changed one of them just now. Run: vecmig status",
                )


def _standby_below(ledger: Ledger, collection: str, tag: str | None) -> str | None:
    """Find the tag to keep for a rollback once ``tag`` is live again: the one that it had replaced."""
    rows = [
        r
        for r in ledger.revisions.all().values()
        if r.applied and r.collection == collection and r.new_tag == tag and not r.index_only
    ]
    below = max(rows, key=lambda row: row.live_at or row.started_at).old_tag if rows else None
    known = ledger.tags.of(collection)
    return below if below in known and known[below].state != "retired" else None
