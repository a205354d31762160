"""How a project stands, as values: its tags with their coverage, a rollback, the gate, and what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from vecmig.errors import UnsteadyExpression, VecmigError
from vecmig.freshness.changes import Lag, Outbox
from vecmig.freshness.coverage import Coverage
from vecmig.freshness.full_pass import FullPass
from vecmig.gate import Report
from vecmig.homes import IndexState
from vecmig.ledger.batch_orders import OnOrder
from vecmig.ledger.control import Control, Run
from vecmig.ledger.evals import EvalRun
from vecmig.ledger.failures import Failure
from vecmig.ledger.identity import SourceReplaced
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.rows import Route
from vecmig.ledger.spend import Spend
from vecmig.model.adoption import AdoptedTag
from vecmig.operations.rollback_gate import lacking
from vecmig.postgres.locks import Holder
from vecmig.published.detaching import Detached
from vecmig.runner.passing import Passed
from vecmig.runner.trust import TrustReport
from vecmig.runner.verbs.downgrade import DowngradeCommand
from vecmig.script import Conflict


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
    #: What it has adopted, and what a spot check found of that: at, good, of; None where it is only asserted.
    adopted: AdoptedTag | None = None
    verified: Mapping[str, Any] | None = None
    #: The same where it found vectors that are not the recipe's.
    refuted: Mapping[str, Any] | None = None
    #: Who changes texts and not the vectors that it follows: role, application, and of how many records.
    text_writers: tuple[tuple[str, str, int], ...] = ()
    #: Of what is stale or missing, what the application alone can make good.
    theirs: int = 0
    #: What of it is on order at a provider's Batch API; None where nothing is.
    on_order: OnOrder | None = None
    #: US dollars that its backfill may cost, by its recipe; None for no limit.
    budget_usd: float | None = None

    @property
    def lacking(self) -> int:
        """The records that a sync would bring up to date."""
        return self.coverage.stale + self.coverage.missing - self.theirs


@dataclass(frozen=True, slots=True)
class LaunchStatus:
    """The day on which a revision is to go live, beside what the backfill still takes. It decides nothing."""

    revision: str
    day: date
    #: How long the backfill takes from now on; 0 where all is embedded, None where no rate is known.
    seconds: float | None
    #: When that was measured.
    at: datetime

    @property
    def begins(self) -> datetime:
        """The beginning of the day, in UTC."""
        return datetime.combine(self.day, time(), UTC)

    @property
    def start_by(self) -> datetime | None:
        """When the backfill has to begin, or go on; None where that is not known, or nothing is left to do."""
        return self.begins - timedelta(seconds=self.seconds) if self.seconds else None

    @property
    def late(self) -> bool:
        """Whether the backfill would not come to its end before the day, by what is known."""
        return self.start_by is not None and self.start_by < self.at


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
    #: Whether a sync makes that good.
    mendable: bool = False
    #: What takes a downgrade to its end that was cut short; empty where none was.
    unfinished: str = ""
    #: Why its changes are found by scanning; empty where triggers tell of them.
    scanned: str = ""
    #: What writes to the source without firing the triggers, as (subscription or role, its name).
    silent: tuple[tuple[str, str], ...] = ()
    #: Who is at work on it, and what operators want of them.
    runs: tuple[Run, ...] = ()
    control: Control | None = None
    #: What a rollback would find; None where the live tag replaced none.
    rollback: RollbackStatus | None = None
    #: How much trust the live tag has earned; None where the tag before it has no vectors that could go.
    trust: TrustReport | None = None
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
    #: The revisions that an upgrade would run now, in that order, and those that it passes by until one is released.
    pending: tuple[str, ...] = ()
    held: tuple[Passed, ...] = ()
    #: Who holds its lock: an upgrade, a downgrade, …; and who holds that of a sync.
    runner: Holder | None = None
    syncer: Holder | None = None
    #: How its last run failed; None where it did not.
    failure: Failure | None = None
    #: The day on which its next revision is to go live; None where no script says one.
    launch: LaunchStatus | None = None
    #: What to add to collections.yaml, which has no recipe for a tag that must stay complete; empty where it has.
    missing_recipe: str = ""

    @property
    def complete(self) -> bool:
        """Whether it is complete, and each tag that must stay complete is."""
        lacking = sum(tag.lacking for tag in _maintained(self))
        told = self.problem is None and self.detached is None and not self.missing_recipe and not self.unfinished
        return told and lacking == 0 and not self.full_pass

    @property
    def unserved(self) -> bool:
        """Whether collections.yaml asks for another tag than reads use, and nobody decided that it waits."""
        decided = {passed.new_tag for passed in self.held}
        return self.wanted not in (None, self.route.live) and self.wanted not in decided

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
    def tried_again(self) -> bool:
        """Whether what failed last is at work again: a sync, or a run that moves the collection."""
        if self.failure is not None and self.failure.of_sync:
            return any(run.what == "sync" and run.state != "paused" for run in self.runs)
        return self.runner is not None or any(run.what != "sync" and run.state != "paused" for run in self.runs)

    @property
    def sync_at_work(self) -> str | None:
        """Where a sync is at work on it, be it once or as a service; None where none is."""
        return None if self.syncer is None else self.syncer.place


@dataclass(frozen=True, slots=True)
class RollbackStatus:
    """What a rollback of the live revision would find."""

    revision: str
    tag: str
    #: None where the vectors are gone.
    coverage: Coverage | None
    #: Largest share of the eligible records that the tag may lack.
    budget: float
    #: Whether the vectors were retired.
    retired: bool
    #: Of what it lacks, what the application alone can make good.
    theirs: int = 0
    #: What goes there, and the other revisions that it rolls back, such as one in progress.
    command: str = DowngradeCommand().command
    besides: tuple[str, ...] = ()

    @property
    def lacking(self) -> int:
        """Records that going back would lose, unless a sync comes first."""
        return lacking(self.coverage) if self.coverage else 0

    @property
    def kept_by_theirs(self) -> bool:
        """Whether it is refused, and stays so before the application has written vectors."""
        return self.coverage is not None and self.theirs > self.budget * self.coverage.eligible

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
class NextStep:
    """What to do next: a command, or what stands in its place, in words."""

    command: str | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The project."""

    database: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    pending: tuple[str, ...]
    #: What an upgrade passes by.
    passed: tuple[Passed, ...]
    #: Why nothing runs here before a person has put it right: a script or a recipe that was edited.
    obstacle: VecmigError | None
    #: The revisions that were ever started here, by id.
    revisions: Mapping[str, RevisionRow]
    collections: tuple[CollectionStatus, ...]
    #: What revisions have cost so far.
    spend: tuple[Spend, ...]
    measured_at: datetime
    #: Collections of which several revisions move on from the same one, and this database has not all of them.
    conflicts: tuple[Conflict, ...] = ()
    #: What takes it to the head of each collection.
    upgrade_command: str = "vecmig upgrade head"
    #: The scripts over patterns of collections by their id, each with the revisions that it is.
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What to do next.
    next: NextStep = NextStep()

    @property
    def settled(self) -> bool:
        """Whether nothing is pending: all revisions are applied, and reads use the tags that are asked for.

        What is on hold is not pending: somebody decided so.
        """
        ready = all(c.complete and not c.unserved for c in self.collections)
        return ready and not self.pending and self.obstacle is None

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
        return self.next.command

    @property
    def next_step(self) -> str:
        """The same for people: the command, or what else is to be done, or who does it already."""
        return self.next.command or self.next.words


def _maintained(collection: CollectionStatus) -> list[TagStatus]:
    return [tag for tag in collection.tags if tag.tag in collection.route.maintained]
