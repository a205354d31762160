"""Complete a tag in this process, with all that it takes open for as many passes as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final, Self

from vecmig.backfill.batches import Job, ReadPage, batch_size, batches, changed_records, jobs, whole_source
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.group_commit import GroupCommit
from vecmig.backfill.memory import streaming
from vecmig.backfill.pipeline import Pipeline
from vecmig.backfill.prefetch import Prefetch
from vecmig.backfill.seen_texts import SeenTexts
from vecmig.backfill.sharing import TextSharing
from vecmig.backfill.supervisor import RunSupervisor
from vecmig.backfill.taking_over import take_over
from vecmig.embedders import Abandoned
from vecmig.errors import Interrupted
from vecmig.events import Waiting
from vecmig.freshness.changes import count_due
from vecmig.freshness.coverage import has_vectors
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.text import counted, noun

#: Times that a pass goes over the records: for the first of each text, for those that wait for one, and for the rest.
_TURNS: Final = 3
#: The share of the records from which on it pays to look for their texts among all that the tag has.
_MANY: Final = 0.01
#: Most batches at hand that wait for their next try, for each request that the provider bears at once.
_MOST_ASLEEP: Final = 14


class LocalEngine:
    """An ``Engine`` that embeds and writes what a ``ReadPage`` finds pending."""

    def __init__(self, backfill: TagBackfill) -> None:
        """Open nothing yet."""
        self._backfill = backfill
        self._embedder = backfill.embedder
        self._limiter = backfill.embedder.limiter
        self._concurrency = backfill.embedder.recipe.service.concurrency
        self._group_commit = GroupCommit(backfill.stamps, self.session)
        self._prepared = False
        self._supervisor: RunSupervisor | None = None
        self._open = ExitStack()
        self.counters = backfill.new_counters()
        #: Used by one pass at a time; it opens with the first page.
        self._reader = self.session()

    def __enter__(self) -> Self:
        self._limiter.tune(self._concurrency)
        with ExitStack() as opening:
            opening.enter_context(streaming())
            opening.push(self._reader)
            opening.enter_context(self._group_commit)
            self._supervisor = self._backfill.supervisor(self.counters)
            if self._supervisor is not None:
                opening.enter_context(self._supervisor)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        failure = self._supervisor.failure if self._supervisor is not None else None
        if failure is not None and (error is None or isinstance(error, Abandoned)):
            raise failure from None

    def session(self, prepare: Callable[[Connection], None] | None = None) -> ReconnectingSession:
        """Return a session that waits for a lost database as long as the options say."""
        return self._backfill.session(self.counters, prepare)

    def whole_pass(self, limit: int | None = None) -> None:
        """Go once over the full source."""
        self.one_pass(whole_source(self._backfill.stamps), limit)

    def outbox_pass(self, limit: int | None = None) -> None:
        """Go once over the records that the outbox tells of."""
        many = self.counters.total > _MANY * self.counters.eligible
        self.one_pass(changed_records(self._backfill.stamps), limit, looks_up=many)

    def take_over(self, *, whole: bool) -> Sequence[int] | None:
        """Take over what the source itself has, where the tag has adopted that; see ``take_over``."""
        return take_over(self._reader, self._limiter, self.counters, whole=whole)

    def count_due(self) -> int:
        """Return how many changes are left, because the application or whoever clears the outbox holds them."""
        stamps = self._backfill.stamps
        return self._reader.run(lambda connection: count_due(connection, stamps)) if stamps.follows else 0

    def one_pass(self, read: ReadPage, limit: int | None = None, *, whole: bool = True, looks_up: bool = True) -> None:
        """Embed and write what ``read`` finds, at most ``limit`` records; a text that several have is bought once.

        Args:
            read: returns the records.
            limit: the most records; None for all.
            whole: whether several with one text wait for each other; for some changes that is not worth it.
            looks_up: whether they may be many, so that it pays to look for each text among all that the tag has.

        Raises:
            EmbedderError, DatabaseUnreachable: what was written stays, and another pass goes on from there.
            Interrupted: by SIGINT; what was in flight was written first.
        """
        stamps = self._backfill.stamps
        for turn in range(_TURNS if whole else 1):
            sharing = self._sharing(turn, looks_up) if whole else TextSharing(stamps, self._embedder, self._reader)
            try:
                self._go_through(sharing, read, limit)
            finally:
                sharing.close()
            if not sharing.waiting:
                break
            limit = None if limit is None else limit - sharing.passed

    def _sharing(self, turn: int, looks_up: bool) -> TextSharing:
        """Return how texts are shared: in the first turn the first of each is bought, which serves the others then."""
        stamps = self._backfill.stamps
        looks_up = turn > 0 or (looks_up and self._reader.run(lambda connection: has_vectors(connection, stamps)))
        seen = SeenTexts(self.counters.total) if turn < _TURNS - 1 else None
        return TextSharing(stamps, self._embedder, self._reader, looks_up, seen)

    def _go_through(self, sharing: TextSharing, read: ReadPage, limit: int | None, *, prepare: bool = True) -> None:
        """Take what ``read`` finds through the embedder of ``sharing``; ``prepare`` where that asks the provider."""
        slow, embedder = self.counters.slow, sharing.embedder
        pipeline = Pipeline(embedder, self._group_commit, self.counters.add, slow)
        pending = sharing.over(jobs(self._reader, read, embedder, slow, limit))
        with Prefetch(batches(pending, embedder, self._batch_size), idle=slow.look) as ready:
            try:
                pipeline.run(self._after_preparing(ready) if prepare else ready, self._at_hand)
            except KeyboardInterrupt:
                self._backfill.listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
                with suppress(KeyboardInterrupt):
                    pipeline.rescue()
                raise self._interrupted(pipeline) from None
            except BaseException:
                pipeline.rescue()
                raise

    def _after_preparing(self, batches: Iterator[list[Job]]) -> Iterator[list[Job]]:
        for batch in batches:
            if not self._prepared:
                self._backfill.prepare()
                self._prepared = True
            yield batch

    def _batch_size(self) -> int:
        most = batch_size(self._embedder, self._limiter.most or self._concurrency)
        return self._limiter.second(most)

    def _at_hand(self) -> int:
        """As many batches again as may be in flight, and more where some wait for their next try: the others have room.

        How many more follows from what the provider bears, so that an outage does not fill the memory with texts.
        """
        waiting = min(self._limiter.asleep, _MOST_ASLEEP * self._limiter.concurrency)
        return 2 * (self._limiter.most or self._concurrency) + waiting

    def _interrupted(self, pipeline: Pipeline) -> Interrupted:
        left, lost = len(pipeline.futures), sum(pipeline.lost)
        state = ""
        if left:
            requests, are = counted(left, "request"), noun(left, "was left, and is", "were left, and are")
            state = f"What was written stays; {requests} in flight {are} sent again next time."
        elif lost:
            records, are = counted(lost, "embedded record"), noun(lost, "is", "are")
            state = f"What was written stays; {records} could not be written, and {are} sent again next time."
        return self.counters.interrupted(state)
