"""Complete a tag by several processes: cut the source into key ranges, and hand them to workers on a Ray cluster."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, Self
from uuid import UUID

from vecmig.about import version
from vecmig.backfill.budget import CostAccount
from vecmig.backfill.cluster import Cluster, Dead, Lost, Needs, RayWorker, Ref
from vecmig.backfill.counters import Figures
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.run_options import no_other_runner, shared_recipe
from vecmig.backfill.worker import KeyRange, RangeResult, WorkerReport, WorkerTask
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import DatabaseUnreachable, Interrupted, VecmigError
from vecmig.events import Waiting, Warned
from vecmig.freshness.pending import split_keys
from vecmig.model.recipe import Recipe
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.source.keys import Key
from vecmig.text import counted

#: A range has no more records than this: it is what a lost worker leaves for another one to look through again.
_LARGEST_RANGE: Final = 20_000
#: And no fewer, so that a small source is not cut into crumbs.
_SMALLEST_RANGE: Final = 250
#: Ranges for each worker, so that the last one to end does not keep the others waiting for long.
_RANGES_EACH: Final = 8
#: Seconds between two looks at the workers, and at whether this is still the only runner.
_TICK: Final = 0.25
_ALONE_EVERY: Final = 1.0
#: Seconds after which it is told that a worker is silent.
_PATIENCE: Final = 10.0
#: Seconds that the workers have to put everything away.
_CLOSING: Final = 10.0
#: Workers that a range may cost; after that it is not tried again.
_MOST_LOST: Final = 4


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which workers complete a tag, and at whose cost."""

    #: The Ray cluster, as ``ray.init`` takes it; None for RAY_ADDRESS, or a new cluster on this host.
    address: str | None
    needs: Needs
    #: How many; None for as many as there is room for.
    workers: int | None
    account: CostAccount | None
    #: Gives, once the run is prepared, what refuses an embedder that is not the one which made the tag's vectors.
    check: Callable[[], Callable[[Embedder], None]]


@dataclass(slots=True)
class _WorkerHandle:
    """One worker, as the driver knows it."""

    ray_worker: RayWorker
    #: The process behind it, once it has been heard of, and what that process has done.
    id: UUID | None = None
    where: str = ""
    figures: Figures = field(default=Figures())
    heard_at: float = field(default_factory=time.monotonic)
    #: Its next report, when it was asked for, and what comes of the range that it was handed.
    report_ref: Ref | None = None
    asked_at: float = 0.0
    result_ref: Ref | None = None
    key_range: KeyRange | None = None
    promised: int | None = None
    #: Processes that were lost with this range.
    lost: int = 0


class RayEngine:
    """An ``Engine`` that hands the work to Ray workers. The cluster is started when there is something to do."""

    def __init__(self, backfill: TagBackfill, ray: RayOptions) -> None:
        """Start nothing yet."""
        self._backfill = backfill
        self._ray = ray
        self._recipe = backfill.embedder.recipe
        self._listener = backfill.listener
        self._open = ExitStack()
        self._cluster: Cluster | None = None
        self._workers: list[_WorkerHandle] = []
        self._task: WorkerTask | None = None
        self._key_ranges: deque[KeyRange] = deque()
        self._checked_at = 0.0
        self.counters = backfill.new_counters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._close()
        finally:
            self._open.close()

    def session(self) -> ReconnectingSession:
        """Return a session that waits for a lost database as long as the options say."""
        return self._backfill.session(self.counters)

    # The work ----------------------------------------------------------------------------------------------------

    def whole_pass(self, limit: int | None = None) -> None:
        """Go once over the full source, range by range."""
        if self.counters.total == 0 and not self._workers:
            return
        try:
            cluster = self._started()
            self._key_ranges.extend(self._cut(len(self._workers)))
            self._work(cluster, None if limit is None else self.counters.handled + limit)
        except KeyboardInterrupt:
            self._listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
            left = self._finish()
            raise self.counters.interrupted(left) from None
        except BaseException:
            self._finish()
            raise

    def _started(self) -> Cluster:
        """Connect to the cluster and start the workers, once."""
        if self._cluster is None:
            # prepare where a pause holds and the run shows; the workers do that for themselves
            supervisor = self._backfill.supervisor(self.counters)
            try:
                with supervisor or nullcontext():
                    self._backfill.prepare()
            except Abandoned:
                failure = supervisor.failure if supervisor is not None else None
                raise failure or Interrupted("The run is being ended.") from None
            ray = self._ray
            self._listener(Waiting("the workers are being started on Ray"))
            cluster = self._open.enter_context(Cluster(ray.address, ray.needs, ray.workers))
            workers = ray.workers or cluster.room()
            workers = min(workers, sum(1 for _ in self._cut(workers)))
            self._task = self._new_task(workers)
            self._workers = [_WorkerHandle(cluster.start_worker()) for _ in range(workers)]
            self._cluster = cluster
        return self._cluster

    def _new_task(self, workers: int) -> WorkerTask:
        options = replace(self._backfill.options, workers=workers, still_alone=no_other_runner)
        return WorkerTask(
            version=version(),
            # a watch is of one process, and a worker begins one of its own
            database=replace(self._backfill.database, url=self._backfill.database.url_on_this_host, watch=None),
            space=self._backfill.space,
            recipe=shared_recipe(self._recipe, workers),
            account=self._ray.account,
            options=options,
            check=self._ray.check(),
            total=self.counters.total,
            environ=_keys(self._recipe),
            path=tuple(sys.path),
        )

    def _cut(self, workers: int) -> Iterator[KeyRange]:
        """Cut the source into ranges."""
        records = self.counters.eligible
        parts = max(-(-records // _LARGEST_RANGE), min(workers * _RANGES_EACH, records // _SMALLEST_RANGE), 1)
        with self.session() as session:
            keys = session.run(lambda connection: split_keys(connection, self._backfill.space.source, parts))
        ends: list[Key | None] = [None, *keys, None]
        return (KeyRange(after, upto) for after, upto in pairwise(ends))

    def _work(self, cluster: Cluster, until: int | None) -> None:
        """Hand out the ranges until all are done, or ``until`` records are handled."""
        while True:
            self._hand_out(until)
            if not self._busy and (not self._key_ranges or self._left(until) == 0):
                return
            self._look(cluster)
            now = time.monotonic()
            if now - self._checked_at >= _ALONE_EVERY:
                self._checked_at = now
                # whoever reads and writes finds out that the database is away, and decides how long to wait
                with suppress(DatabaseUnreachable):
                    self._backfill.options.still_alone()
            long_ago = time.monotonic() - _PATIENCE
            silent = [worker.where for worker in self._busy if worker.heard_at < long_ago]
            if silent:
                self._listener(Waiting(f"no word from the worker on {', '.join(silent)}"))
            elif all(worker.id is None and worker.heard_at < long_ago for worker in self._workers):
                self._listener(Waiting(f"Ray has started no worker yet; one needs {self._ray.needs}"))

    @property
    def _busy(self) -> list[_WorkerHandle]:
        return [worker for worker in self._workers if worker.result_ref is not None]

    def _left(self, until: int | None) -> int | None:
        """Return how many records may be handed out yet; None for no limit."""
        if until is None:
            return None
        return max(0, until - self.counters.handled - sum(worker.promised or 0 for worker in self._busy))

    def _hand_out(self, until: int | None) -> None:
        assert self._task is not None, "the cluster is started"
        for worker in self._workers:
            left = self._left(until)
            if not self._key_ranges or left == 0:
                return
            if worker.id is not None and worker.result_ref is None:
                worker.key_range = self._key_ranges.popleft()
                worker.lost = 0
                worker.promised = None if left is None else -(-left // len(self._workers))
                worker.result_ref = worker.ray_worker.run(self._task, worker.key_range, worker.promised)

    # What the workers tell ---------------------------------------------------------------------------------------

    def _look(self, cluster: Cluster, *, ending: bool = False) -> None:
        """Hear what the workers tell; while the run is being ended, their failures are not raised."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.report_ref is None and now - worker.asked_at >= 2 * _TICK:
                worker.report_ref, worker.asked_at = worker.ray_worker.report(), now
        by_ref = {
            ref: worker for worker in self._workers for ref in (worker.report_ref, worker.result_ref) if ref is not None
        }
        if not by_ref:
            time.sleep(_TICK)
            return
        for ref in cluster.wait(list(by_ref), _TICK):
            try:
                self._heard(cluster, by_ref[ref], ref)
            except VecmigError:
                if not ending:
                    raise

    def _heard(self, cluster: Cluster, worker: _WorkerHandle, ref: Ref) -> None:
        if ref == worker.report_ref:
            worker.report_ref = None
            try:
                self._take(worker, cluster.answer(ref))
            except Dead:
                if worker.id is None:
                    raise
            except Lost:
                # Ray starts it again, and the range that it worked on too
                pass
            return
        key_range, promised = worker.key_range, worker.promised
        worker.result_ref = worker.key_range = worker.promised = None
        assert key_range is not None, "it was handed one"
        result = cluster.answer(ref)
        assert isinstance(result, RangeResult), "that is what run() returns"
        self._take(worker, result.report)
        if result.failure is not None:
            raise result.failure
        if promised is not None and result.handled >= promised:
            # it stopped for the limit's sake: there may be more in this range
            self._key_ranges.appendleft(key_range)

    def _take(self, worker: _WorkerHandle, report: WorkerReport | RangeResult | None) -> None:
        assert isinstance(report, WorkerReport), "that is what report() returns"
        if worker.id not in (None, report.worker):
            self._listener(Warned(f"The worker on {worker.where} was lost; {report.where} takes over its range."))
            worker.figures = Figures()
            worker.lost += 1
            if worker.key_range is not None and worker.lost >= _MOST_LOST:
                raise _given_up(worker.key_range)
        worker.id, worker.where, worker.heard_at = report.worker, report.where, time.monotonic()
        for event in report.events:
            self._listener(event)
        done = report.figures.since(worker.figures)
        # two answers may come in another order than they were given
        if done.is_progress:
            worker.figures = report.figures
            self.counters.count(done)

    # The end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> str:
        """Let the workers finish what they have in flight; say what was left where they could not."""
        cluster = self._cluster
        self._key_ranges.clear()
        try:
            while cluster is not None and self._busy:
                for worker in self._busy:
                    # again each time: a worker that was lost has been started again and knows nothing of it
                    worker.ray_worker.stop()
                self._look(cluster, ending=True)
        except KeyboardInterrupt:
            left = counted(len(self._busy), "worker was", "workers were")
            return f"What was written stays; {left} left, and what was in flight there is sent again."
        return ""

    def _close(self) -> None:
        """Let the idle workers put everything away."""
        if self._cluster is None:
            return
        closing = [
            worker.ray_worker.close() for worker in self._workers if worker.id is not None and worker.result_ref is None
        ]
        until = time.monotonic() + _CLOSING
        while closing and time.monotonic() < until:
            done = self._cluster.wait(closing, _TICK)
            closing = [ref for ref in closing if ref not in done]


def _keys(recipe: Recipe) -> dict[str, str]:
    """Return the variables of this process that the provider needs."""
    if recipe.provider != "openai":
        return {}
    return {name: os.environ[name] for name in recipe.service.variables if name in os.environ}


def _given_up(key_range: KeyRange) -> VecmigError:
    after = "the first" if key_range.after is None else f"behind {', '.join(key_range.after)}"
    upto = "the last" if key_range.upto is None else ", ".join(key_range.upto)
    return VecmigError(
        f"{_MOST_LOST} workers in a row were lost over the records from {after} to {upto}.",
        state="What was written stays, and the next run goes on from there.",
        hint="They may need more memory than there is: fewer --workers, or a smaller max_batch in the recipe.",
    )
