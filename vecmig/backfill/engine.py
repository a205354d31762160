"""The run itself: passes over the source until nothing is pending, several requests in flight, one writer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from vecmig.backfill.ahead import Ahead
from vecmig.backfill.embed import Answer, embed
from vecmig.backfill.work import batches, jobs
from vecmig.embedders import Embedder
from vecmig.errors import Interrupted
from vecmig.events import Listener, Progress, Warned, ignore
from vecmig.store.changes import changed_since, forget_settled, now
from vecmig.store.connect import Connection, Database
from vecmig.store.vectors import Coverage, Space, measure_coverage, reject_records, sweep, write_records

#: Passes over the source in one run. Later passes take up what an application changed behind the first one.
_MOST_PASSES: Final = 5
#: Seconds between two reports of progress.
_REPORT_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did, and how complete the tag is now."""

    written: int
    rejected: int
    swept: int
    coverage: Coverage
    seconds: float
    tokens: int


@dataclass(slots=True)
class _Run:
    """The state of one run, held by the thread that writes."""

    collection: str
    tag: str
    total: int
    fresh: int
    eligible: int
    listener: Listener
    limit: int | None
    started: float = field(default_factory=time.monotonic)
    written: int = 0
    rejected: int = 0
    #: Records that changed, or went, between reading and writing.
    refused: int = 0
    tokens: int = 0
    reported: float = 0.0

    @property
    def handled(self) -> int:
        return self.written + self.rejected

    @property
    def reached(self) -> bool:
        return self.limit is not None and self.handled >= self.limit

    def add(self, answer: Answer, written: int) -> None:
        self.written += written
        self.rejected += len(answer.rejected)
        self.refused += len(answer.embedded) - written
        self.tokens += answer.tokens
        if time.monotonic() - self.reported >= _REPORT_EVERY:
            self.report()

    def report(self) -> None:
        self.reported = time.monotonic()
        elapsed = max(self.reported - self.started, 1e-9)
        coverage = min(1.0, (self.fresh + self.written) / self.eligible) if self.eligible else 1.0
        self.listener(
            Progress(
                self.collection, self.tag, self.written, self.total, self.rejected, self.written / elapsed, coverage
            )
        )


def backfill(
    database: Database,
    space: Space,
    embedder: Embedder,
    *,
    maintained: Sequence[Space] = (),
    limit: int | None = None,
    listener: Listener = ignore,
) -> Result:
    """Embed every pending record of a space, and say how complete it is afterwards.

    Args:
        database: where the source and the vectors are.
        space: the tag to complete.
        embedder: what makes this tag's vectors.
        maintained: the spaces that must all be fresh before the outbox forgets a change.
        limit: stop after about this many records; None for all.
        listener: told of the progress, from this thread only.

    Raises:
        EmbedderError: the provider failed; what was written stays and the next run goes on from there.
        DatabaseUnreachable: the connection broke; the same holds.
        Interrupted: by SIGINT; what was in flight was written first.
    """
    started = time.monotonic()
    with database.session() as connection:
        before = measure_coverage(connection, space)
        pending = before.eligible - before.fresh - before.rejected
        run = _Run(
            space.source.collection.name,
            space.tag,
            pending if limit is None else min(pending, limit),
            before.fresh,
            before.eligible,
            listener,
            limit,
        )
        for _ in range(_MOST_PASSES):
            since, handled = now(connection), run.handled
            _one_pass(database, connection, space, embedder, run)
            if run.handled == handled or run.reached or not _changed_behind(connection, space, run, since):
                break
        run.report()
        swept = sweep(connection, space)
        forget_settled(connection, maintained or (space,))
    with database.session() as fresh:
        after = measure_coverage(fresh, space)
    return Result(run.written, run.rejected, swept, after, time.monotonic() - started, run.tokens)


def _changed_behind(connection: Connection, space: Space, run: _Run, since: datetime) -> bool:
    refused, run.refused = run.refused, 0
    if refused or not space.source.tracked:
        return True
    return changed_since(connection, space.source, space.schema, since) > 0


def _one_pass(database: Database, connection: Connection, space: Space, embedder: Embedder, run: _Run) -> None:
    concurrency = embedder.recipe.service.concurrency
    flying: set[Future[Answer]] = set()

    def land(*, at_most: int) -> None:
        while len(flying) > at_most:
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                flying.discard(future)
                _write(connection, space, run, future.result())

    left = None if run.limit is None else run.limit - run.handled
    packed = batches(jobs(database, space, embedder, left), embedder)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="vecmig-embed") as pool, Ahead(packed) as ready:
        try:
            for batch in ready:
                flying.add(pool.submit(embed, embedder, batch))
                land(at_most=concurrency - 1)
            land(at_most=0)
        except KeyboardInterrupt:
            land(at_most=0)
            raise Interrupted(
                f"Interrupted after {run.written} records.",
                state="What was in flight was finished and written; nothing is paid for twice.",
                hint="To go on, run the same command again.",
            ) from None
        except BaseException:
            # what the provider has answered is paid for: write it before giving up
            for future in flying:
                if future.cancel() or future.exception() is not None:
                    continue
                _write(connection, space, run, future.result())
            raise


def _write(connection: Connection, space: Space, run: _Run, answer: Answer) -> None:
    written = write_records(connection, space, answer.embedded) if answer.embedded else 0
    if answer.rejected:
        reject_records(connection, space, answer.rejected)
        for record, reason in answer.rejected[:3]:
            run.listener(Warned(f"Record {', '.join(record.key)} is rejected: {reason}"))
    run.add(answer, written)
