"""How everything stands: tags with their coverage, the gate beside them, and what to run next. Reads only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from vecmig.check import By
from vecmig.config import Config
from vecmig.errors import ConfigError, DatabaseError, UnsteadyExpression, VecmigError
from vecmig.freshness.change_tracking import trigger_names
from vecmig.freshness.changes import Lag, Outbox, lag, outbox
from vecmig.freshness.coverage import Coverage, count_records, count_vectors, measure_coverage
from vecmig.freshness.full_pass import FullPass, needed_full_pass
from vecmig.gate import Report
from vecmig.homes import IndexState, coverage_of, open_home
from vecmig.inventory.auditing import silent_writers
from vecmig.inventory.exposure import exposures
from vecmig.ledger.control import Control, Run, read_control, runs
from vecmig.ledger.evals import EvalRun, latest_of_each
from vecmig.ledger.identity import SourceReplaced, find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import RevisionRow, Route, TagRow
from vecmig.ledger.spend import Spend, spent
from vecmig.model.gate import Gate
from vecmig.operations.judging import measure
from vecmig.operations.missing import disagreements
from vecmig.operations.rollback_gate import lacking
from vecmig.postgres.sessions import Connection
from vecmig.published.detaching import Detached, all_detached, is_detached
from vecmig.runner.project import Project
from vecmig.runner.steps import by_collection
from vecmig.runner.trust import Earned, earned, live_revision, old_retired
from vecmig.runner.verbs.downgrade import DowngradeCommand, downgrade_of
from vecmig.source.checks import without_key
from vecmig.source.relations import exists
from vecmig.source.source import Source

_SYNC: Final = "vecmig sync"


@dataclass(frozen=True, slots=True)
class TagStatus:
    """One tag of a collection."""

    tag: str
    state: str
    dims: int
    #: Records that have vectors, and the vectors.
    records: int
    vectors: int
    coverage: Coverage
    index: IndexState
    #: The changes that it lacks; none where nothing tells of them.
    lag: Lag
    #: The last run of each suite, without what each query came to.
    evals: tuple[EvalRun, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """One collection."""

    name: str
    route: Route
    #: The tag that collections.yaml asks for.
    wanted: str | None
    records: int
    eligible: int
    tags: tuple[TagStatus, ...]
    outbox: Outbox
    #: The changes that the live or the standby tag lacks; before there is one of them, those that the candidate lacks.
    lag: Lag
    #: The gate of the revision in progress, without the canary, which needs the embedder.
    gate: tuple[RevisionRow, Report] | None
    #: What is wrong with the collection itself, such as a source that does not exist, or a live view that does not
    #: read the live tag.
    problem: VecmigError | None = None
    #: Why its changes are found by scanning; empty where triggers tell of them.
    scanned: str = ""
    #: What writes to the source without firing the triggers, as (subscription or role, its name).
    silent: tuple[tuple[str, str], ...] = ()
    #: Who is at work on it, and what operators want of them.
    runs: tuple[Run, ...] = ()
    control: Control | None = None
    #: What a rollback would find; None where the live tag replaced none.
    way_back: WayBack | None = None
    #: How much trust the live tag has earned; None where the tag before it has no vectors that could go.
    earned: Earned | None = None
    #: Tags whose retirement was begun and cut short.
    half_retired: tuple[str, ...] = ()
    #: Why all records are to be compared with their vectors, which the next sync does.
    full_pass: tuple[FullPass, ...] = ()
    #: Rows that have NULL in their key, and are left out.
    without_key: int = 0
    #: What collections.yaml calls otherwise than the database does.
    notes: tuple[str, ...] = ()
    #: Since when its live view stepped aside for a migration of the source; None where it did not.
    detached: Detached | None = None

    @property
    def complete(self) -> bool:
        """Whether it is complete, and each tag that must stay complete is."""
        lacking = sum(t.coverage.stale + t.coverage.missing for t in _maintained(self))
        return self.problem is None and lacking == 0 and not self.full_pass and self.detached is None

    @property
    def replaced(self) -> bool:
        """Whether another relation has the source's name, of which a person has to say what it is."""
        return isinstance(self.problem, SourceReplaced)

    @property
    def blocked_by(self) -> str | None:
        """The command without which nothing else helps; None where there is none."""
        if self.detached is not None:
            return f"vecmig view attach {shlex.quote(self.name)}"
        return self.problem.command if isinstance(self.problem, SourceReplaced) else None

    @property
    def sync_at_work(self) -> Run | None:
        """The sync that is at work on it, be it once or as a service."""
        return next((run for run in self.runs if run.what == "sync"), None)


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a rollback of the live revision would find."""

    revision: str
    tag: str
    #: None where the vectors are gone.
    coverage: Coverage | None
    #: Largest share of the eligible records that the tag may lack.
    budget: float
    #: Whether the vectors were retired.
    retired: bool
    #: What goes there, and the other revisions that it rolls back, such as one in progress.
    command: str = DowngradeCommand().command
    besides: tuple[str, ...] = ()

    @property
    def lacking(self) -> int:
        """Records that going back would lose, unless a sync comes first."""
        return lacking(self.coverage) if self.coverage else 0

    @property
    def share(self) -> float:
        """The share of the eligible records that going back would not lose, from 0 to 1."""
        if self.coverage is None or not self.coverage.eligible:
            return 1.0 if self.coverage else 0.0
        return (self.coverage.eligible - self.lacking) / self.coverage.eligible

    @property
    def ready(self) -> bool:
        """Whether ``vecmig downgrade`` would go there now."""
        return self.coverage is not None and self.lacking <= self.budget * self.coverage.eligible


@dataclass(frozen=True, slots=True)
class Status:
    """The project."""

    database: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    pending: tuple[str, ...]
    #: The revisions that were ever started here, by id.
    revisions: Mapping[str, RevisionRow]
    collections: tuple[CollectionStatus, ...]
    #: What revisions have cost so far.
    spend: tuple[Spend, ...]
    measured_at: datetime

    @property
    def settled(self) -> bool:
        """Whether nothing is pending: all revisions are applied, and reads use the tags that are asked for."""
        served = all(c.wanted is None or c.route.live == c.wanted for c in self.collections)
        return not self.pending and served and all(c.complete for c in self.collections)

    @property
    def problems(self) -> tuple[tuple[CollectionStatus, VecmigError], ...]:
        """What is wrong with collections that are in use, or never could be; a source may be still to be made.

        First come sources that were replaced: nothing else can be done before.
        """
        return tuple(
            (c, c.problem)
            for c in sorted(self.collections, key=lambda c: not c.replaced)
            if c.problem and (c.route.live or c.route.candidate or isinstance(c.problem, UnsteadyExpression))
        )

    @property
    def next_command(self) -> str | None:
        """What to run next; None if nothing is pending, or no command helps: see ``settled`` and ``next_step``."""
        return self._next[0]

    @property
    def next_step(self) -> str:
        """The same for people: the command, or what else is to be done, or who does it already."""
        command, words = self._next
        return command or words

    @property
    def _next(self) -> tuple[str | None, str]:
        """The next command, and what to say where there is none."""
        if self.settled:
            return None, "nothing to do"
        for collection in self.collections:
            if collection.blocked_by:
                return collection.blocked_by, ""
        for collection in self.collections:
            blocker = collection.gate[1].waits_for if collection.gate else None
            remedy = blocker.remedy if blocker is not None else None
            if remedy is not None:
                return self._sync([collection]) if remedy.by is By.SYNC else (remedy.command, remedy.text)
        if any(c.gate is not None for c in self.collections) or self.pending:
            upgrade = "vecmig upgrade heads" if len(self.heads) > 1 else "vecmig upgrade head"
            # a paused backfill would wait before it had embedded anything
            return _resume([c for c in self.collections if c.gate is not None]) or upgrade, ""
        if any(c.wanted is not None and c.route.live != c.wanted for c in self.collections):
            return "vecmig revision", ""
        if any(c.problem is not None and not c.tags for c in self.collections):
            return None, "correct what stands above"
        return self._sync([c for c in self.collections if not c.complete])

    def _sync(self, incomplete: Sequence[CollectionStatus]) -> tuple[str | None, str]:
        """Bring collections up to date; beside a sync that is at work, another one would be refused."""
        idle = [c for c in incomplete if c.sync_at_work is None]
        paused = _resume(incomplete)
        if paused is not None:
            return paused, ""
        if not any(c.sync_at_work for c in self.collections):
            return _SYNC, ""
        if idle:
            return " ".join([_SYNC, *(shlex.quote(c.name) for c in idle)]), ""
        who = ", ".join(
            dict.fromkeys(f"{c.sync_at_work.host} (pid {c.sync_at_work.pid})" for c in incomplete if c.sync_at_work)
        )
        # what is gone it makes again; collections.yaml it has read when it began
        if any(isinstance(c.problem, ConfigError) for c in incomplete):
            return None, f"end the sync at {who}, then run: {_SYNC}"
        return None, f"nothing to run: the sync at {who} is at work on it"


def status(config: Config) -> Status:
    """Measure everything now. Nothing is cached, and nothing is written."""
    project = Project(config)
    with project.database.session() as connection, connection.transaction():
        # one snapshot, so that the figures of one page agree with each other
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None
        ledger = Ledger(connection, project.database.schema)
        rows = ledger.revisions.all()
        heads = project.current(rows)
        pending = project.way_up("heads", rows)
        schema = project.database.schema
        found = [_collection(project, connection, ledger, name) for name in sorted(project.collections.collections)]
        at_work, aside = runs(connection, schema), all_detached(connection, schema)
        return Status(
            database=project.database.safe_url,
            current=heads,
            heads=project.scripts.map.heads,
            pending=tuple(script.id for script in pending),
            revisions=rows,
            collections=tuple(
                replace(
                    one,
                    runs=tuple(run for run in at_work if run.collection == one.name),
                    control=read_control(connection, schema, one.name),
                    detached=aside.get(one.name),
                )
                for one in found
            ),
            spend=tuple(spent(connection, schema)),
            measured_at=row[0],
        )


def _collection(project: Project, connection: Connection, ledger: Ledger, name: str) -> CollectionStatus:
    collection = project.collections.collection(name)
    try:
        with connection.transaction():
            source = find_source(ledger, collection)
    except (ConfigError, DatabaseError) as error:
        return CollectionStatus(
            name, ledger.routes.of(name), collection.tag, 0, 0, (), Outbox(0, None), Lag(), None, error
        )
    evals = latest_of_each(connection, project.database.schema, name)
    tags = tuple(
        replace(_tag(ledger, source, row), evals=tuple(evals.get(row.tag, ())))
        for row in ledger.tags.of(name).values()
        if row.state != "retired"
    )
    if tags:
        records, eligible = tags[0].coverage.records, tags[0].coverage.eligible
    else:
        records, eligible = count_records(connection, source)
    known = ledger.tags.of(name)
    way_back = _way_back(project, ledger, {tag.tag: tag for tag in tags}, name)
    waiting = outbox(connection, source, project.database.schema) if ledger.installed else Outbox(0, None)
    return CollectionStatus(
        name=name,
        route=ledger.routes.of(name),
        wanted=collection.tag,
        records=records,
        eligible=eligible,
        tags=tags,
        outbox=waiting,
        lag=_lag(project, connection, source, ledger.routes.of(name), tags),
        gate=_gate(project, connection, ledger, source),
        problem=_disagreement(connection, ledger, source, rights=True),
        scanned=source.scanned,
        silent=tuple(silent_writers(connection, source, trigger_names(source))) if source.tracked else (),
        way_back=way_back,
        earned=earned(project, connection, ledger, source) if way_back and way_back.coverage else None,
        half_retired=_half_retired(project, connection, source, known),
        without_key=without_key(connection, source),
        full_pass=needed_full_pass(connection, project.database.schema, name),
        notes=source.notes,
    )


def _way_back(project: Project, ledger: Ledger, there: Mapping[str, TagStatus], name: str) -> WayBack | None:
    row = live_revision(ledger, name)
    if row is None or row.old_tag is None:
        return None
    gate = (project.scripts[row.id].gate if row.id in project.scripts.map else None) or Gate()
    tag = there.get(row.old_tag)
    coverage = tag.coverage if tag is not None and tag.state != "gone" else None
    retired = old_retired(ledger, row)
    down = downgrade_of(project, ledger.revisions.all(), row.id)
    return WayBack(
        row.id, row.old_tag, None if retired else coverage, gate.freshness_budget, retired, down.command, down.besides
    )


def _half_retired(
    project: Project, connection: Connection, source: Source, known: Mapping[str, TagRow]
) -> tuple[str, ...]:
    retired = [tag for tag, row in known.items() if row.state == "retired"]
    return tuple(tag for tag in retired if exists(connection, project.context.space(source, tag).relation))


def _disagreement(
    connection: Connection, ledger: Ledger, source: Source, *, rights: bool = False
) -> VecmigError | None:
    """Say where collections.yaml, the ledger and the live view tell different things, and rights if they are asked."""
    name = source.collection.name
    route = ledger.routes.of(name)
    live = route.live
    try:
        changed = ledger.collections.edited(source)
    except DatabaseError as error:
        return error
    found = exposures(connection, source, ledger.schema) if rights else []
    if changed and not found:
        return ConfigError(
            f"text, where, change_tracking or live_columns of {name} was changed in collections.yaml; triggers and "
            "live view do not follow it yet.",
            hint="Run: vecmig sync",
        )
    found += disagreements(connection, ledger, source, route, aside=is_detached(connection, ledger.schema, name))
    recorded = ledger.collections.recorded(name)
    if recorded is not None and recorded.widened(source):
        found.append("the key is wider now than that of the vectors")
    if live is not None and not open_home(ledger, source, live).index().usable:
        found.append(f"the index of the live tag {live} is gone or invalid")
    if live is not None or route.candidate is not None:
        return DatabaseError(f"Of {name}, {'; '.join(found)}.", hint="Run: vecmig sync") if found else None
    return None


def _tag(ledger: Ledger, source: Source, row: TagRow) -> TagStatus:
    home = open_home(ledger, source, row.tag, kind=row.home)
    connection, space = home.session, home.stamps
    if not home.exists():
        return TagStatus(row.tag, "gone", row.dims, 0, 0, coverage_of(home), IndexState(), Lag())
    vectors, with_vectors = count_vectors(connection, space)
    return TagStatus(
        tag=row.tag,
        state=row.state,
        dims=row.dims,
        records=with_vectors,
        vectors=vectors,
        coverage=measure_coverage(connection, space),
        index=home.index(),
        lag=lag(connection, [space]),
    )


def _lag(project: Project, connection: Connection, source: Source, route: Route, tags: tuple[TagStatus, ...]) -> Lag:
    """Measure what reads are behind, or would be after a rollback; a candidate is only on its way."""
    there = {tag.tag for tag in tags if tag.state != "gone"}
    read = [tag for tag in (route.live, route.standby) if tag in there] or [
        tag for tag in (route.candidate,) if tag in there
    ]
    return lag(connection, [project.context.space(source, tag) for tag in read])


def _gate(
    project: Project, connection: Connection, ledger: Ledger, source: Source
) -> tuple[RevisionRow, Report] | None:
    row = by_collection(ledger.revisions.all()).get(source.collection.name)
    if row is None or row.new_tag is None or row.id not in project.scripts.map:
        return None
    home = open_home(ledger, source, row.new_tag)
    if not home.exists():
        return None
    old = open_home(ledger, source, row.old_tag) if row.old_tag else None
    gate = project.scripts[row.id].gate or Gate()
    followed = _disagreement(connection, ledger, source) is None
    return row, measure(project.context, gate, home, old, followed=followed)


def _resume(collections: Sequence[CollectionStatus]) -> str | None:
    """Let those go on that are paused; None where none is."""
    paused = [shlex.quote(c.name) for c in collections if c.control is not None and c.control.paused]
    return f"vecmig resume {' '.join(paused)}" if paused else None


def _maintained(collection: CollectionStatus) -> list[TagStatus]:
    return [tag for tag in collection.tags if tag.tag in collection.route.maintained]
