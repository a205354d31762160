"""The migration that works on the database: expand, backfill, build_index, cutover, rollback, execute.

Each method asks the database whether its work is done before doing it, commits the change together with its record, and
reads it back on a fresh connection before it says that it is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import Any, Final

from vecmig.backfill import Result, run_backfill
from vecmig.chunking import chunker
from vecmig.embedders import Embedder
from vecmig.errors import ConfigError, DatabaseError, GateRefused, ScriptError, VecmigError
from vecmig.events import StepDone, StepStarted, Warned
from vecmig.freshness.change_tracking import install_tracking, tracking_works, try_tracking
from vecmig.freshness.changes import outbox
from vecmig.freshness.coverage import measure_coverage
from vecmig.freshness.full_pass import needed_full_pass
from vecmig.freshness.other_ledgers import refuse_other_ledger
from vecmig.freshness.stamps import Space
from vecmig.gate import Report, judge_again
from vecmig.homes import table
from vecmig.homes.index import index_state
from vecmig.homes.index_build import Build
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import PHASES, Ledger, check_recipe
from vecmig.model.collection import Collection, index_problem
from vecmig.model.gate import Gate
from vecmig.model.recipe import Recipe
from vecmig.operations.interface import Migration
from vecmig.operations.way_back import lacking, way_back_refused, what_lacks
from vecmig.operations.workspace import Declaration, Workspace
from vecmig.postgres import execute
from vecmig.postgres.sessions import Connection
from vecmig.published import live_view
from vecmig.published.detaching import is_detached
from vecmig.source.checks import check_keys, check_privileges, without_key
from vecmig.source.source import Source
from vecmig.text import counted, noun

#: Where a walk may stop, in order.
UNTIL: Final = ("expand", "backfill", "index", "gate")


class Stopped(Exception):
    """The walk was to stop here: what a script has behind this call is not for now."""


class DatabaseMigration(Migration):
    """Does what a script says."""

    def __init__(
        self,
        workspace: Workspace,
        declared: Declaration,
        *,
        step: str,
        until: str | None = None,
        discard: bool = False,
        limit: int | None = None,
    ) -> None:
        self._workspace = workspace
        self._declared = declared
        self._step = step
        self._until = until
        self._discard = discard
        self._limit = limit
        self._statements = 0

    @property
    def revision(self) -> str:
        return self._declared.revision

    @property
    def collection(self) -> str:
        if self._declared.collection is None:
            raise ScriptError(f"Revision {self.revision} has no collection, so it can only m.execute().")
        return self._declared.collection

    @property
    def old_tag(self) -> str | None:
        return self._declared.old_tag

    @property
    def new_tag(self) -> str:
        if self._declared.new_tag is None:
            raise ScriptError(f"Revision {self.revision} has no collection, so it can only m.execute().")
        return self._declared.new_tag

    @property
    def x(self) -> Mapping[str, str]:
        return self._workspace.x

    # Forward -----------------------------------------------------------------------------------------------------

    def expand(self) -> None:
        recipe = self._workspace.collections.recipe(self.new_tag)
        collection = self._workspace.collections.collection(self.collection)
        problem = index_problem(collection.storage, recipe.dims)
        if problem is not None:
            raise ConfigError(f"{self.new_tag} cannot be indexed: {problem}", state="Nothing was changed.")
        if self._is_live:
            return
        with self._reported("expand", self.new_tag) as done:
            source = self._inspect(collection)
            self._check_route(source)
            if not self._is_expanded(source):
                # a tag keeps its recipe, so one that cannot be carried out must not be recorded
                chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
                self._locked(lambda connection: self._expand_on(connection, source, recipe))
            self._verify_expanded(source)
            tracking = (
                "triggers tell of changes" if source.tracked else f"changes are found by scanning: {source.scanned}"
            )
            done(f"room for {recipe.dims} dimensions; {tracking}")

    def _is_expanded(self, source: Source) -> bool:
        """Whether there is room already: a run that is resumed takes no lock on the source for nothing."""
        with self._workspace.database.session() as connection:
            ledger = self._workspace.ledger(connection)
            row = ledger.revisions().get(self.revision)
            return (
                row is not None
                and row.in_progress
                and row.new_tag == self.new_tag
                and ledger.route(self.collection).candidate == self.new_tag
                and table.is_attached(connection, self._space(source))
                and (not source.tracked or tracking_works(connection, source))
            )

    def _expand_on(self, connection: Connection, source: Source, recipe: Recipe) -> None:
        ledger = self._workspace.ledger(connection)
        ledger.record_collection(source)
        table.create_vectors_table(connection, source, self._workspace.database.schema)
        ledger.record_tag(source, self.new_tag, recipe)
        table.create_partition(connection, self._space(source))
        if source.tracked and not is_detached(connection, self._workspace.database.schema, self.collection):
            install_tracking(connection, source, self._workspace.database.schema)
            self._try_tracking(connection, source)
        ledger.set_candidate(self.collection, self.new_tag)
        self._start(ledger)
        self._event(ledger, "expand", {"dims": recipe.dims, "fingerprint": recipe.fingerprint})

    def _try_tracking(self, connection: Connection, source: Source) -> None:
        try_tracking(connection, self._space(source))

    def backfill(self) -> None:
        with (
            self._reported("backfill", self.new_tag) as done,
            self._embedder() as embedder,
        ):
            source = self._inspect()
            result = self._run_backfill(source, embedder, fleet=True)
            with self._workspace.database.transaction() as connection:
                ledger = self._workspace.ledger(connection)
                figures = {"written": result.written, "rejected": result.rejected, "seconds": round(result.seconds, 3)}
                self._event(ledger, "backfill", figures | {"coverage": result.coverage.share})
                if self._limit is None:
                    self._advance(ledger, "backfilled")
            done(_backfill_summary(result))
        if self._limit is not None:
            raise Stopped

    def build_index(self) -> None:
        source = self._inspect()
        space = self._space(source)
        with self._reported("index", self.new_tag) as done:
            built = self._workspace.build_index(space)
            with self._workspace.database.transaction() as connection:
                state = index_state(connection, space)
                if not state.usable:
                    raise DatabaseError(
                        f"The index of {self.new_tag} is {state.word} after it was built.",
                        hint="Run the same command again: an invalid index is dropped and built anew.",
                    )
                ledger = self._workspace.ledger(connection)
                self._event(ledger, "index", {"bytes": state.bytes} | (asdict(built) if built else {}))
                self._advance(ledger, "indexed")
            done(_index_summary(built, state.bytes))

    def cutover(self, gate: Gate) -> None:
        if self._until is not None and self._until != "gate":
            raise Stopped
        if self._is_live:
            return
        source = self._inspect()
        self._catch_up(source)
        report = self._judge(gate, source)
        if self._until == "gate":
            raise Stopped
        with self._reported("cutover", f"{self.old_tag or 'nothing'} → {self.new_tag}") as done:
            shown = self._workspace.columns_to_show(source)
            seconds = self._locked(lambda connection: self._cut_over_on(connection, source, gate, report, shown))
            self._verify_live(source, self.new_tag)
            done(f"reads use {self.new_tag}; the flip took {seconds * 1000:.1f} ms")

    def _catch_up(self, source: Source) -> None:
        """Embed what changed while the index was built, so that a busy table gets through the gate."""
        with self._workspace.database.session() as connection:
            schema = self._workspace.database.schema
            waiting = outbox(connection, source, schema).records or needed_full_pass(
                connection, schema, self.collection
            )
        if source.tracked and waiting:
            with (
                self._reported("catch up", self.new_tag) as done,
                self._embedder() as embedder,
            ):
                done(_backfill_summary(self._run_backfill(source, embedder)))

    def _cut_over_on(
        self, connection: Connection, source: Source, gate: Gate, report: Report, shown: Sequence[str] | None
    ) -> float:
        old = self._workspace.space(source, self.old_tag) if self.old_tag else None
        still = judge_again(gate, report, connection, self._space(source), old)
        if not still.passed:
            raise _refused(self.collection, still)
        began = time.monotonic()
        self._flip_on(connection, source, {check.name: check.value for check in still.checks}, shown)
        return time.monotonic() - began

    def _flip_on(
        self, connection: Connection, source: Source, checks: Mapping[str, Any], shown: Sequence[str] | None = None
    ) -> None:
        ledger = self._workspace.ledger(connection)
        ledger.move_route(self.collection, before=self.old_tag, live=self.new_tag, standby=self.old_tag)
        live_view.publish(connection, source, self._space(source), ledger=ledger.schema, shown=shown)
        self._event(ledger, "cutover", {"from": self.old_tag, "gate": checks})

    # Back --------------------------------------------------------------------------------------------------------

    def rollback(self) -> None:
        if self._is_live:
            self._flip_back()
        else:
            self._abandon()

    def _flip_back(self) -> None:
        if self._discard:
            raise ScriptError(
                f"--discard is for a revision that was never live; {self.revision} is live_view.",
                state="Nothing was changed.",
                hint="Run it without --discard: the vectors are kept, and going forward again is instant.",
            )
        source = self._recorded_source()
        with self._workspace.database.session() as connection:
            old = self._old_space(connection, source)
            standby = _standby_below(self._workspace.ledger(connection), self.collection, self.old_tag)
        if old is not None:
            self._require_way_back(old)
        with self._reported("rollback", f"{self.new_tag} → {self.old_tag or 'nothing'}") as done:
            shown = self._workspace.columns_to_show(source)
            seconds = self._locked(lambda connection: self._flip_back_on(connection, source, old, standby, shown))
            self._verify_live(source, self.old_tag)
            where = f"reads use {self.old_tag}" if self.old_tag else "no tag is live"
            done(f"{where}; the flip took {seconds * 1000:.1f} ms, no vector was touched")

    def _require_way_back(self, old: Space) -> None:
        """Judge the gate of the way back: measured before the flip, whose cost does not grow with the corpus.

        Raises:
            GateRefused: the old tag lacks more records than the revision's freshness budget allows.
        """
        try:
            with self._workspace.database.session() as connection:
                found = measure_coverage(connection, old)
                rate = self._workspace.ledger(connection).last_rate(self.collection, old.tag)
        except DatabaseError as error:
            # what sync cannot read it cannot make good either: the way back must not depend on it
            self._workspace.listener(Warned(f"How complete {old.tag} is could not be measured: {error.message}"))
            return
        if lacking(found) > self._declared.gate.freshness_budget * found.eligible:
            raise way_back_refused(self._declared, found, rate)
        if found.fresh < found.eligible:
            self._workspace.listener(Warned(what_lacks(old.tag, found)))

    def _flip_back_on(
        self,
        connection: Connection,
        source: Source,
        old: Space | None,
        standby: str | None,
        shown: Sequence[str] | None = None,
    ) -> float:
        began = time.monotonic()
        ledger = self._workspace.ledger(connection)
        ledger.move_route(self.collection, before=self.new_tag, live=self.old_tag, standby=standby)
        live_view.publish(connection, source, old, ledger=ledger.schema, shown=shown)
        ledger.step_back(self.revision)
        self._event(ledger, "rollback", {"to": self.old_tag})
        return time.monotonic() - began

    def _abandon(self) -> None:
        with self._reported("abandon", self.new_tag) as done:
            source = self._recorded_source() if self._discard else None

            def change(connection: Connection) -> None:
                ledger = self._workspace.ledger(connection)
                if ledger.route(self.collection).candidate == self.new_tag:
                    ledger.set_candidate(self.collection, None)
                if source is not None:
                    self._drop_never_live(connection, ledger, source)
                self._event(ledger, "abandon", {"discarded": source is not None})

            self._locked(change)
            done("its vectors are gone" if self._discard else "its vectors are kept")

    def _drop_never_live(self, connection: Connection, ledger: Ledger, source: Source) -> None:
        if self.new_tag not in ledger.tags(self.collection):
            return
        # its tag may have been live under another revision
        if ledger.was_live(self.collection, self.new_tag):
            raise ScriptError(
                f"--discard is for a revision whose tag was never live; {self.new_tag} was.",
                state="Nothing was changed.",
                hint="Run it without --discard: the vectors are kept.",
            )
        table.drop_partition(connection, self._space(source))
        ledger.forget_tag(self.collection, self.new_tag)

    # A team's own statements -------------------------------------------------------------------------------------

    def execute(self, statement: Any) -> None:
        text = execute.as_text(statement)
        sha256 = execute.digest(text)
        self._statements += 1
        ordinal = self._statements

        def change(connection: Connection) -> None:
            ledger = self._workspace.ledger(connection)
            ran = ledger.statement_done(self.revision, self._step, ordinal)
            if ran == sha256:
                return
            if ran is not None:
                raise ScriptError(
                    f"Statement {ordinal} of {self._step}() in revision {self.revision} changed after it ran.",
                    state="Nothing was changed.",
                    hint="Take the change back, or put the new statement into a revision of its own.",
                )
            execute.run(connection, text)
            ledger.record_statement(self.revision, self._step, ordinal, sha256)
            self._event(ledger, "execute", {"step": self._step, "ordinal": ordinal, "sha256": sha256})

        try:
            self._locked(change)
        except DatabaseError as error:
            raise DatabaseError(
                f"Statement {ordinal} of {self._step}() in revision {self.revision} failed: {error.message}",
                state=error.state or "It left nothing behind; what stands before it in the script stays.",
                hint=f"Correct it (vecmig edit {self.revision}), then run the same command again: it goes on there.",
            ) from error

    # What the methods share --------------------------------------------------------------------------------------

    @property
    def _is_live(self) -> bool:
        """Whether reads use the new tag already: a flip is not repeated when a run is resumed."""
        with self._workspace.database.session() as connection:
            return self._workspace.ledger(connection).route(self.collection).live == self.new_tag

    def _inspect(self, collection: Collection | None = None) -> Source:
        """Look at the source as collections.yaml has it, and let triggers and live view follow it."""
        wanted = collection or self._workspace.collections.collection(self.collection)
        with self._workspace.database.session() as connection:
            source = find_source(self._workspace.ledger(connection), wanted)
            if self._step == "upgrade":
                live_view.refuse_foreign(connection, source)
                refuse_other_ledger(connection, source, self._workspace.database.schema)
                check_privileges(connection, source)
                check_keys(connection, source)
                self._warn_of_rows_without_key(without_key(connection, source), source)
        self._follow(source)
        return source

    def _warn_of_rows_without_key(self, rows: int, source: Source) -> None:
        if rows:
            what = f"{counted(rows, 'record')} of {source.schema}.{source.table}"
            self._workspace.listener(Warned(f"{what} without a key, which has NULL in it: left out"))

    def _follow(self, source: Source) -> None:
        self._workspace.follow(source)

    def _recorded_source(self) -> Source:
        """Look at the source as it was recorded: the way back depends on nothing that was edited since."""
        with self._workspace.database.session() as connection:
            ledger = self._workspace.ledger(connection)
            recorded = ledger.collection(self.collection)
            return find_source(ledger, recorded, expressions=False, even_replaced=True)

    def _space(self, source: Source) -> Space:
        return self._workspace.space(source, self.new_tag)

    def _old_space(self, connection: Connection, source: Source) -> Space | None:
        if self.old_tag is None:
            return None
        space = self._workspace.space(source, self.old_tag)
        table.require_partition(connection, space)
        return space

    def _check_route(self, source: Source) -> None:
        with self._workspace.database.session() as connection:
            ledger = self._workspace.ledger(connection)
            route = ledger.route(self.collection)
            check_recipe(ledger, self.new_tag, self._workspace.collections.recipe(self.new_tag))
        if route.live != self.old_tag:
            raise ScriptError(
                f"Revision {self.revision} starts from {self.old_tag or 'no tag'}, but {source.collection.name} reads "
                f"{route.live or 'no tag'}.",
                state="Nothing was changed.",
                hint=f"Correct old_tag (vecmig edit {self.revision}), or run the revisions between first.",
            )
        if route.candidate not in (None, self.new_tag):
            raise ScriptError(
                f"{self.collection} is already on its way to {route.candidate}.",
                state="Nothing was changed.",
                hint="Finish that revision with vecmig upgrade, or take it back with vecmig downgrade -1.",
            )

    def _verify_expanded(self, source: Source) -> None:
        with self._workspace.database.session() as connection:
            table.require_partition(connection, self._space(source))
            self._workspace.ledger(connection).tag(self.collection, self.new_tag)
            if source.tracked and not tracking_works(connection, source):
                raise DatabaseError(f"The triggers on {source.schema}.{source.table} are not there after expand.")

    def _verify_live(self, source: Source, tag: str | None) -> None:
        with self._workspace.database.session() as connection:
            route = self._workspace.ledger(connection).route(self.collection)
            aside = is_detached(connection, self._workspace.database.schema, self.collection)
            if route.live != tag or not (aside or live_view.reads_tag(connection, source, tag)):
                raise DatabaseError(
                    f"The route of {self.collection} says {route.live}, and its live view does not agree with {tag}.",
                    hint="Somebody changed one of them just now. Look at: vecmig status",
                )

    def _judge(self, gate: Gate, source: Source) -> Report:
        report = self._workspace.judge(gate, source, self.new_tag, self.old_tag)
        if not report.passed:
            raise _refused(self.collection, report)
        return report

    def _run_backfill(self, source: Source, embedder: Embedder, *, fleet: bool = False) -> Result:
        space = self._space(source)
        with self._workspace.database.session() as connection:
            table.require_partition(connection, space)

        ray = None
        if fleet and self._workspace.engine != "local":
            ray = self._workspace.fleet(self.collection, self.new_tag, revision=self.revision)
        return run_backfill(
            self._workspace.database,
            space,
            embedder,
            limit=self._limit,
            options=self._workspace.terms("backfill"),
            ray=ray,
            prepare=self._workspace.maintain(embedder, space),
            listener=self._workspace.listener,
        )

    def _embedder(self) -> AbstractContextManager[Embedder]:
        return self._workspace.worker(self.collection, self.new_tag, what="backfill", revision=self.revision)

    def _locked(self, change: Any) -> Any:
        return self._workspace.locked(change)

    def _start(self, ledger: Ledger) -> None:
        declared = self._declared
        ledger.start_revision(
            declared.revision, declared.collection, declared.old_tag, declared.new_tag, declared.checksum
        )

    def _event(self, ledger: Ledger, kind: str, data: Mapping[str, Any]) -> None:
        ledger.record_event(
            kind, revision=self.revision, collection=self._declared.collection, tag=self._declared.new_tag, data=data
        )

    def _advance(self, ledger: Ledger, phase: str) -> None:
        if PHASES.index(ledger.revisions()[self.revision].phase) < PHASES.index(phase):
            ledger.set_phase(self.revision, phase)
        if phase in ("backfilled", "indexed") and ledger.tag(self.collection, self.new_tag).state == "building":
            ledger.set_tag_state(self.collection, self.new_tag, "ready")

    @contextmanager
    def _reported(self, step: str, subject: str) -> Iterator[Any]:
        listener = self._workspace.listener
        began = time.monotonic()
        summary: list[str] = []
        listener(StepStarted(step, self.revision, self._declared.collection, subject))
        yield summary.append
        seconds = time.monotonic() - began
        listener(StepDone(step, self.revision, self._declared.collection, "".join(summary), seconds))


def _standby_below(ledger: Ledger, collection: str, tag: str | None) -> str | None:
    """Find the tag to keep as the way back once ``tag`` is live again: the one that it had replaced."""
    rows = [r for r in ledger.revisions().values() if r.applied and r.collection == collection and r.new_tag == tag]
    below = max(rows, key=lambda row: row.live_at or row.started_at).old_tag if rows else None
    known = ledger.tags(collection)
    return below if below in known and known[below].state != "retired" else None


def _backfill_summary(result: Result) -> str:
    coverage = result.coverage
    rate = result.written / result.seconds if result.seconds else 0
    records = f"{result.written} {noun(result.written, 'record')} embedded"
    parts = [records + (f" ({rate:,.0f}/s)" if result.written else "")]
    if result.rejected:
        parts.append(f"{result.rejected} rejected")
    return f"{', '.join(parts)}; {coverage.fresh} of {coverage.eligible} fresh"


def _index_summary(built: Build | None, size: int) -> str:
    megabytes = f"{size / 2**20:,.1f} MB"
    if built is None:
        return f"already there, {megabytes}"
    helpers = {0: "", 1: ", 1 parallel worker"}.get(built.workers, f", {built.workers} parallel workers")
    vectors = f"{built.vectors} {noun(built.vectors, 'vector')}"
    return f"{vectors}, {megabytes}; built with at most {built.memory_mb:,} MB of memory{helpers}"


def _refused(collection: str, report: Report) -> VecmigError:
    names = ", ".join(check.name for check in report.failed)
    return GateRefused(
        f"The gate of {collection} refuses the cutover to {report.tag}: {names}.",
        checks=report.checks,
        state="Nothing was changed: reads go on as before.",
        hint=report.remedies,
    )
