"""Complete a tag by several processes: cut the source into key ranges, and hand them to workers on a Ray cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Self

from vecmig.about import version
from vecmig.backfill.budget import CostAccount
from vecmig.backfill.cluster import Cluster, Needs
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.ray_workers import WorkerPool
from vecmig.backfill.run_options import no_other_runner, shared_recipe
from vecmig.backfill.worker import KeyRange, WorkerTask
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import DatabaseUnreachable, Interrupted
from vecmig.events import Waiting
from vecmig.freshness.pending import split_keys
from vecmig.model.recipe import Recipe
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.source.keys import Key

#: A range has no more records than this: it is what a lost worker leaves for another one to look through again.
_LARGEST_RANGE: Final = 20_000
#: And no fewer, so that a small source is not cut into crumbs.
_SMALLEST_RANGE: Final = 250
#: Ranges for each worker, so that the last one to end does not keep the others waiting for long.
_RANGES_EACH: Final = 8
#: Seconds between two looks at whether this is still the only runner.
_ALONE_EVERY: Final = 1.0


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


class RayEngine:
    """An ``Engine`` that hands the work to Ray workers. The cluster is started when there is something to do."""

    def __init__(self, backfill: TagBackfill, ray: RayOptions) -> None:
        """Start nothing yet."""
        self._backfill = backfill
        self._ray = ray
        self._recipe = backfill.embedder.recipe
        self._listener = backfill.listener
        self._open = ExitStack()
        self._pool: WorkerPool | None = None
        self._checked_at = 0.0
        self.counters = backfill.new_counters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._pool is not None:
                self._pool.close()
        finally:
            self._open.close()

    def session(self) -> ReconnectingSession:
        """Return a session that waits for a lost database as long as the options say."""
        return self._backfill.session(self.counters)

    def whole_pass(self, limit: int | None = None) -> None:
        """Go once over the full source, range by range."""
        if self.counters.total == 0 and self._pool is None:
            return
        try:
            pool = self._started()
            pool.add(self._cut(len(pool)))
            self._work(pool, None if limit is None else self.counters.handled + limit)
        except KeyboardInterrupt:
            self._listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
            left = self._pool.finish() if self._pool is not None else ""
            raise self.counters.interrupted(left) from None
        except BaseException:
            if self._pool is not None:
                self._pool.finish()
            raise

    def _started(self) -> WorkerPool:
        """Connect to the cluster and start the workers, once."""
        if self._pool is None:
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
            self._pool = WorkerPool(cluster, workers, self._new_task(workers), self.counters, self._listener)
        return self._pool

    def _new_task(self, workers: int) -> WorkerTask:
        options = replace(self._backfill.options, workers=workers, still_alone=no_other_runner)
        return WorkerTask(
            version=version(),
            # a watch is of one process, and a worker begins one of its own
            database=replace(self._backfill.database, url=self._backfill.database.url_on_this_host, watch=None),
            stamps=self._backfill.stamps,
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
            keys = session.run(lambda connection: split_keys(connection, self._backfill.stamps.source, parts))
        ends: list[Key | None] = [None, *keys, None]
        return (KeyRange(after, upto) for after, upto in pairwise(ends))

    def _work(self, pool: WorkerPool, until: int | None) -> None:
        """Hand out the ranges until all are done, or ``until`` records are handled."""
        while pool.hand_out(until):
            pool.hear()
            now = time.monotonic()
            if now - self._checked_at >= _ALONE_EVERY:
                self._checked_at = now
                # whoever reads and writes finds out that the database is away, and decides how long to wait
                with suppress(DatabaseUnreachable):
                    self._backfill.options.still_alone()
            pool.tell_silence(self._ray.needs)


def _keys(recipe: Recipe) -> dict[str, str]:
    """Return the variables of this process that the provider needs."""
    if recipe.provider != "openai":
        return {}
    return {name: os.environ[name] for name in recipe.service.variables if name in os.environ}
