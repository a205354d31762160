"""One process of a Ray backfill: it embeds the key ranges that it is handed, and reports. It knows nothing of Ray."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from vecmig.about import version
from vecmig.backfill.backfill_embedder import open_backfill_embedder
from vecmig.backfill.batches import whole_source
from vecmig.backfill.budget import CostAccount
from vecmig.backfill.counters import Figures
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.local_engine import LocalEngine
from vecmig.backfill.run_options import RunOptions
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import Interrupted, VecmigError
from vecmig.events import Event, Waiting, Warned
from vecmig.freshness.stamps import Stamps
from vecmig.model.recipe import Recipe
from vecmig.postgres.locks import watched
from vecmig.postgres.sessions import Database
from vecmig.source.keys import Key


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The records behind one key, up to another; None for the ends of the source."""

    after: Key | None
    upto: Key | None


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """All that a worker needs to know; it holds secrets, so it is never shown."""

    #: The driver's vecmig; a worker's must be the same.
    version: str
    #: As the driver has it: the settings of its sessions are those of each worker's.
    database: Database = field(repr=False)
    stamps: Stamps
    #: This worker's share of it.
    recipe: Recipe
    account: CostAccount | None
    options: RunOptions
    #: Refuses an embedder that is not the one which made the tag's vectors.
    check: Callable[[Embedder], None]
    #: Pending records of the run.
    total: int
    #: Keys of the provider.
    environ: Mapping[str, str] = field(repr=False)
    #: Where Python finds the project's own modules.
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a worker stands."""

    #: Another one after it was lost and started again.
    worker: UUID
    where: str
    figures: Figures
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class RangeResult:
    """How the work on one range ended."""

    report: WorkerReport
    #: Records written or rejected in it.
    handled: int
    failure: VecmigError | None


class Worker:
    """Opens what it needs with the first range, the model above all, and keeps it open.

    One thread embeds; others may ask for a report and stop it meanwhile.
    """

    def __init__(self) -> None:
        self._id = uuid4()
        self._open = ExitStack()
        self._engine: LocalEngine | None = None
        self._embedder: Embedder | None = None
        self._stopped = False
        self._turn = threading.Lock()
        self._warned: list[Event] = []
        self._waiting: Waiting | None = None

    def run(self, task: WorkerTask, key_range: KeyRange, limit: int | None = None) -> RangeResult:
        """Embed and write what is pending in a range; at most ``limit`` records.

        A failure is returned rather than raised, so that it arrives as what it is. After one, everything is closed.
        """
        failure: VecmigError | None = None
        before = 0
        try:
            engine = self._opened(task)
            before = engine.counters.handled
            engine.one_pass(whole_source(task.stamps, after=key_range.after, upto=key_range.upto), limit, whole=False)
        except VecmigError as error:
            failure = error
        except Abandoned:
            failure = Interrupted("The run is being ended.")
        report = self.report()
        if failure is not None:
            with suppress(VecmigError):
                self.close()
        return RangeResult(report, report.figures.written + report.figures.rejected - before, failure)

    def report(self) -> WorkerReport:
        """Return how it goes; each event is reported once."""
        figures = self._engine.counters.figures if self._engine is not None else Figures()
        with self._turn:
            events = (*self._warned, *([self._waiting] if self._waiting is not None else []))
            self._warned, self._waiting = [], None
        return WorkerReport(self._id, f"{platform.node()} (pid {os.getpid()})", figures, events)

    def stop(self) -> None:
        """Begin nothing more; what is in flight is finished and written."""
        self._stopped = True
        if self._embedder is not None:
            self._embedder.limiter.close()

    def close(self) -> None:
        """Let go of the model and the connections, and take the run off the list."""
        self._engine = self._embedder = None
        self._open.close()

    def _opened(self, task: WorkerTask) -> LocalEngine:
        if self._stopped:
            raise Abandoned
        if self._engine is None:
            if task.version != version():
                raise VecmigError(
                    f"{platform.node()} has vecmig {version()}, and this run is of vecmig {task.version}.",
                    state="Nothing was embedded there.",
                    hint="Install the same version on every host of the Ray cluster.",
                )
            sys.path.extend(place for place in task.path if place not in sys.path)
            with ExitStack() as opening:
                self._engine = self._new_engine(task, opening)
                self._open = opening.pop_all()
        return self._engine

    def _new_engine(self, task: WorkerTask, opening: ExitStack) -> LocalEngine:
        database = task.database
        if database.lock_wait is not None:
            database = watched(
                database,
                lock_wait=database.lock_wait,
                tell=lambda reason, cause: self._listen(Waiting(reason, cause=cause)),
            )
        self._embedder = opening.enter_context(
            open_backfill_embedder(
                database,
                task.stamps.tag,
                task.recipe,
                account=task.account,
                reconnect_wait=task.options.reconnect_wait,
                provider_wait=task.options.provider_wait,
                on_wait=lambda reason, seconds: self._listen(Waiting(reason.removesuffix("."), seconds)),
                environ=os.environ | dict(task.environ),
            )
        )
        embedder = self._embedder
        backfill = TagBackfill(
            database, task.stamps, embedder, task.options, self._listen, prepare=lambda: task.check(embedder)
        )
        engine = LocalEngine(backfill)
        engine.counters.total = task.total
        opening.enter_context(engine)
        if self._stopped:
            raise Abandoned
        return engine

    def _listen(self, event: Event) -> None:
        with self._turn:
            if isinstance(event, Warned):
                self._warned.append(event)
            elif isinstance(event, Waiting):
                self._waiting = event
