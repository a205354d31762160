"""The workers of a Ray backfill as the driver sees them: who works on which range, and what each of them reports."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from vecmig.backfill.cluster import Cluster, Dead, Lost, RayWorker, Ref
from vecmig.backfill.counters import Counters, Figures
from vecmig.backfill.worker import KeyRange, RangeResult, WorkerReport, WorkerTask
from vecmig.errors import VecmigError
from vecmig.events import Listener, Waiting, Warned
from vecmig.text import counted

#: Seconds between two looks at the workers.
_TICK: Final = 0.25
#: Seconds after which it is told that a worker is silent.
_PATIENCE: Final = 10.0
#: Seconds that the workers have to put everything away.
_CLOSING: Final = 10.0
#: Workers that a range may cost; after that it is not tried again.
_MOST_LOST: Final = 4


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


class WorkerPool:
    """The workers of one run, and the ranges that wait for one of them. Used by one thread."""

    def __init__(
        self, cluster: Cluster, workers: int, task: WorkerTask, counters: Counters, listener: Listener
    ) -> None:
        """Start the workers; each begins when the cluster has room for it.

        Args:
            cluster: where to start them.
            workers: how many.
            task: what all of them work on.
            counters: count what they do.
            listener: told of what they report.
        """
        self._cluster = cluster
        self._task = task
        self._counters = counters
        self._listener = listener
        self._key_ranges: deque[KeyRange] = deque()
        self._workers = [_WorkerHandle(cluster.start_worker()) for _ in range(workers)]

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, key_ranges: Iterable[KeyRange]) -> None:
        """Have ranges wait to be handed out."""
        self._key_ranges.extend(key_ranges)

    def hand_out(self, until: int | None) -> bool:
        """Hand ranges to idle workers; return whether there is more to come.

        Args:
            until: hand out none that would take more records than that; None for all.
        """
        for worker in self._workers:
            left = self._left(until)
            if not self._key_ranges or left == 0:
                break
            if worker.id is not None and worker.result_ref is None:
                worker.key_range = self._key_ranges.popleft()
                worker.lost = 0
                worker.promised = None if left is None else -(-left // len(self._workers))
                worker.result_ref = worker.ray_worker.run(self._task, worker.key_range, worker.promised)
        return bool(self._busy) or bool(self._key_ranges and self._left(until) != 0)

    def hear(self, *, ending: bool = False) -> None:
        """Hear what the workers report; while the run is being ended, their failures are not raised.

        Raises:
            VecmigError: a worker failed.
        """
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
        for ref in self._cluster.wait(list(by_ref), _TICK):
            try:
                self._heard(by_ref[ref], ref)
            except VecmigError:
                if not ending:
                    raise

    def tell_silence(self, needs: object) -> None:
        """Tell of workers that have been silent for long; ``needs`` is what one takes of the cluster."""
        long_ago = time.monotonic() - _PATIENCE
        silent = [worker.where for worker in self._busy if worker.heard_at < long_ago]
        if silent:
            self._listener(Waiting(f"no word from the worker on {', '.join(silent)}"))
        elif all(worker.id is None and worker.heard_at < long_ago for worker in self._workers):
            self._listener(Waiting(f"Ray has started no worker yet; one needs {needs}"))

    def finish(self) -> str:
        """Let the workers finish what they have in flight; say what was left where they could not."""
        self._key_ranges.clear()
        try:
            while self._busy:
                for worker in self._busy:
                    # again each time: a worker that was lost has been started again and knows nothing of it
                    worker.ray_worker.stop()
                self.hear(ending=True)
        except KeyboardInterrupt:
            left = counted(len(self._busy), "worker was", "workers were")
            return f"What was written stays; {left} left, and what was in flight there is sent again."
        return ""

    def close(self) -> None:
        """Let the idle workers put everything away."""
        idle = (worker for worker in self._workers if worker.id is not None and worker.result_ref is None)
        closing = [worker.ray_worker.close() for worker in idle]
        until = time.monotonic() + _CLOSING
        while closing and time.monotonic() < until:
            done = self._cluster.wait(closing, _TICK)
            closing = [ref for ref in closing if ref not in done]

    @property
    def _busy(self) -> list[_WorkerHandle]:
        return [worker for worker in self._workers if worker.result_ref is not None]

    def _left(self, until: int | None) -> int | None:
        """Return how many records may be handed out yet; None for no limit."""
        if until is None:
            return None
        return max(0, until - self._counters.handled - sum(worker.promised or 0 for worker in self._busy))

    def _heard(self, worker: _WorkerHandle, ref: Ref) -> None:
        if ref == worker.report_ref:
            worker.report_ref = None
            try:
                self._take(worker, self._cluster.answer(ref))
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
        result = self._cluster.answer(ref)
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
            self._counters.count(done)


def _given_up(key_range: KeyRange) -> VecmigError:
    after = "the first" if key_range.after is None else f"behind {', '.join(key_range.after)}"
    upto = "the last" if key_range.upto is None else ", ".join(key_range.upto)
    return VecmigError(
        f"{_MOST_LOST} workers in a row were lost over the records from {after} to {upto}.",
        state="What was written stays, and the next run goes on from there.",
        hint="They may need more memory than there is: fewer --workers, or a smaller max_batch in the recipe.",
    )
