"""The run itself: passes over the source until nothing is pending, several requests in flight at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from vecmig.backfill.ahead import Ahead
from vecmig.backfill.embed import Answer, embed
from vecmig.backfill.work import Job, batches, jobs
from vecmig.backfill.writers import Writers
from vecmig.embedders import Embedder
from vecmig.errors import EmbedderError, Interrupted
from vecmig.events import Listener, Progress, Waiting, Warned, ignore
from vecmig.store.changes import changed_since, forget_settled, snapshot
from vecmig.store.connect import Connection, Database
from vecmig.store.vectors import Coverage, Space, measure_coverage, sweep

#: Passes over the source in one run. Later passes take up what an application changed behind the first one.
_MOST_PASSES: Final = 5
#: Seconds between two reports of progress.
_REPORT_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did, and how complete the tag is now."""

    written: int
    rejected: int
    coverage: Coverage
    seconds: float
    tokens: int


@dataclass(slots=True)
class _Run:
    """The state of one run, held by the thread that began it."""

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
    #: Records that changed, went or were held between reading and writing: in this pass, and in the one before.
    refused: int = 0
    refused_before: float = math.inf
    tokens: int = 0
    reported: float = 0.0

    @property
    def handled(self) -> int:
        return self.written + self.rejected

    @property
    def reached(self) -> bool:
        return self.limit is not None and self.handled >= self.limit

    def add(self, landed: _Landed) -> None:
        answer = landed.answer
        self.written += landed.written
        self.rejected += len(answer.rejected)
        self.refused += len(answer.embedded) - landed.written
        self.tokens += answer.tokens
        for record, reason in answer.rejected[:3]:
            self.listener(Warned(f"Record {', '.join(record.key)} is rejected: {reason}"))
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
        with Writers(database, space) as writers:
            for _ in range(_MOST_PASSES):
                since, handled = snapshot(connection), run.handled
                _one_pass(database, writers, space, embedder, run)
                idle = run.handled == handled
                if run.reached or not _changed_behind(connection, space, run, since, idle=idle):
                    break
        run.report()
        _tidy(connection, maintained or (space,), listener)
    with database.session() as fresh:
        after = measure_coverage(fresh, space)
    return Result(run.written, run.rejected, after, time.monotonic() - started, run.tokens)


def _tidy(connection: Connection, spaces: Sequence[Space], listener: Listener) -> None:
    """Remove what no record stands behind any more, then forget the changes that are dealt with under every tag."""
    for space in spaces:
        kept = sweep(connection, space)
        if kept:
            listener(
                Warned(
                    f"{kept} records of {space.source.collection.name} have vectors under {space.tag} and no text any "
                    "more, although they did not change; nothing was deleted. Is text: in collections.yaml right?"
                )
            )
    forget_settled(connection, spaces)


def _changed_behind(connection: Connection, space: Space, run: _Run, since: str, *, idle: bool) -> bool:
    """Whether another pass may find more: records were refused, or changed since; after an idle pass there is none."""
    refused, before = run.refused, run.refused_before
    run.refused, run.refused_before = 0, refused
    if refused or idle:
        # records that an application keeps locked or keeps changing would be paid for in every pass
        return 0 < refused < before
    return not space.source.tracked or changed_since(connection, space.source, space.schema, since) > 0


def _one_pass(database: Database, writers: Writers, space: Space, embedder: Embedder, run: _Run) -> None:
    concurrency = embedder.recipe.service.concurrency
    flying = _Flying(embedder, writers, run)
    left = None if run.limit is None else run.limit - run.handled
    with Ahead(batches(jobs(database, space, embedder, left), embedder)) as ready:
        try:
            for batch in ready:
                flying.send(batch)
                flying.land(at_most=concurrency - 1)
            flying.land(at_most=0)
        except KeyboardInterrupt:
            run.listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
            with suppress(KeyboardInterrupt):
                flying.rescue()
            raise _interrupted(run, len(flying.futures)) from None
        except EmbedderError as error:
            flying.rescue()
            error.state = error.state or f"{run.written} records were embedded by this run, and stay."
            raise
        except BaseException:
            flying.rescue()
            raise


@dataclass(frozen=True, slots=True)
class _Landed:
    """A batch that was embedded, and written as far as its records had not changed meanwhile."""

    answer: Answer
    written: int


@dataclass(frozen=True, slots=True)
class _Flying:
    """The batches on their way to the provider and into the database."""

    embedder: Embedder
    writers: Writers
    run: _Run
    futures: set[Future[_Landed]] = field(default_factory=set)

    def send(self, batch: list[Job]) -> None:
        """Embed and write a batch in a thread of its own, which does not hold the process when a provider hangs."""
        future: Future[_Landed] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                answer = embed(self.embedder, batch, self.writers.storage)
                future.set_result(_Landed(answer, self.writers.write(answer)))
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the batch
                future.set_exception(error)

        self.futures.add(future)
        threading.Thread(target=work, name="vecmig-embed", daemon=True).start()

    def land(self, *, at_most: int) -> None:
        """Wait until no more than ``at_most`` batches are on their way."""
        while len(self.futures) > at_most:
            done, _ = wait(self.futures, return_when=FIRST_COMPLETED)
            for future in done:
                self.futures.discard(future)
                self.run.add(future.result())

    def rescue(self) -> None:
        """Let the batches on their way come to their end, whatever that is: they are paid for."""
        while self.futures:
            wait(self.futures)
            for future in list(self.futures):
                self.futures.discard(future)
                if future.exception() is None:
                    self.run.add(future.result())


def _interrupted(run: _Run, left: int) -> Interrupted:
    state = "What was in flight was finished and written; nothing is paid for twice."
    if left:
        state = f"What was written stays; {left} requests in flight were left, and are sent again next time."
    hint = "To go on, run the same command again."
    return Interrupted(f"Interrupted after {run.written} records.", state=state, hint=hint)
