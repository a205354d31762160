"""All that a tag needs to be filled, open for as many passes as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final, Self

from vecmig.backfill.ahead import Ahead
from vecmig.backfill.memory import streaming
from vecmig.backfill.pipeline import Pipeline
from vecmig.backfill.supervisor import Supervisor
from vecmig.backfill.tally import Tally
from vecmig.backfill.terms import Terms
from vecmig.backfill.work import Job, ReadPage, batch_size, batches, jobs, whole_source
from vecmig.backfill.writers import Writers
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import EmbedderError, Interrupted
from vecmig.events import Listener, Waiting
from vecmig.store.connect import Connection, Database
from vecmig.store.lasting import Lasting
from vecmig.store.vectors import Space

#: Most batches at hand that wait for their next try, for each request that the provider bears at once.
_MOST_ASLEEP: Final = 14


class Filler:
    """A context that embeds and writes what a ``ReadPage`` finds pending, under a supervisor where the terms say so."""

    def __init__(
        self,
        database: Database,
        space: Space,
        embedder: Embedder,
        terms: Terms,
        listener: Listener,
        *,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """Open nothing yet.

        Args:
            database: where the source and the vectors are.
            space: the tag to fill.
            embedder: what makes its vectors.
            terms: what to heed beside the recipe.
            listener: told while the run stands still.
            prepare: called once, before the first batch: a pause and limits hold already, and the run shows.
        """
        self._database = database
        self._space = space
        self._embedder = embedder
        self._limiter = embedder.limiter
        self._terms = terms
        self._listener = listener
        self._concurrency = embedder.recipe.service.concurrency
        self._writers = Writers(space, self.session)
        self._prepare: Callable[[], None] | None = prepare
        self._supervisor: Supervisor | None = None
        self._open = ExitStack()
        self.tally = Tally(space, terms.what, listener)
        #: Used by one pass at a time; it opens with the first page.
        self._reader = self.session()

    def __enter__(self) -> Self:
        self._limiter.tune(self._concurrency)
        with ExitStack() as opening:
            opening.enter_context(streaming())
            opening.push(self._reader)
            opening.enter_context(self._writers)
            if self._terms.supervised:
                self._supervisor = opening.enter_context(
                    Supervisor(
                        self._database,
                        self._terms,
                        self._limiter,
                        concurrency=self._concurrency,
                        collection=self._space.source.collection.name,
                        standing=self.tally.standing,
                        listener=self._listener,
                    )
                )
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        failure = self._supervisor.failure if self._supervisor is not None else None
        if failure is not None and (error is None or isinstance(error, Abandoned)):
            raise failure from None

    def session(self, prepare: Callable[[Connection], None] = lambda _connection: None) -> Lasting:
        """Give a session that waits for a lost database as long as the terms say."""
        return Lasting(
            self._database,
            wait=self._terms.reconnect_wait,
            on_wait=self.tally.wait,
            prepare=prepare,
            sleep=self._limiter.sleep,
        )

    def whole_pass(self, limit: int | None = None) -> None:
        """Go once over the whole source."""
        self.one_pass(whole_source(self._space), limit)

    def one_pass(self, read: ReadPage, limit: int | None = None) -> None:
        """Embed and write what ``read`` finds, at most ``limit`` records.

        Raises:
            EmbedderError, DatabaseUnreachable: what was written stays, and another pass goes on from there.
            Interrupted: by SIGINT; what was in flight was written first.
        """
        slow = self.tally.slow
        pipeline = Pipeline(self._embedder, self._writers, self.tally.add, slow)
        work = batches(jobs(self._reader, read, self._embedder, slow, limit), self._embedder, self._batch_size)
        with Ahead(work, idle=slow.look) as ready:
            try:
                pipeline.run(self._prepared(ready), self._at_hand)
            except KeyboardInterrupt:
                self._listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
                with suppress(KeyboardInterrupt):
                    pipeline.rescue()
                raise self._interrupted(pipeline) from None
            except EmbedderError as error:
                pipeline.rescue()
                error.state = error.state or self.tally.kept
                raise
            except BaseException:
                pipeline.rescue()
                raise

    def _prepared(self, batches: Iterator[list[Job]]) -> Iterator[list[Job]]:
        for batch in batches:
            if self._prepare is not None:
                self._prepare()
                self._prepare = None
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
            state = f"What was written stays; {left} requests in flight were left, and are sent again next time."
        elif lost:
            state = (
                f"What was written stays; {lost} embedded records could not be written, and are sent again next time."
            )
        return self.tally.interrupted(state)
