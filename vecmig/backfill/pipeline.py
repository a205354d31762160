"""Take batches through the embedder into the database, several at once, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Final

from vecmig.backfill.batches import Job
from vecmig.backfill.embed import embed
from vecmig.backfill.group_commit import GroupCommit
from vecmig.backfill.slow import Slow
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import EmbedderError
from vecmig.freshness.pending import PendingRecord

#: Seconds between two looks at how many batches may be on their way.
_TICK: Final = 0.2


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch that was embedded, and written as far as its records had not changed meanwhile."""

    embedded: int
    written: int
    rejected: Sequence[tuple[PendingRecord, str]]
    tokens: int
    #: What ended it early; what had been embedded by then is in the other fields.
    failure: EmbedderError | Abandoned | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The batches on their way to the provider and into the database."""

    embedder: Embedder
    group_commit: GroupCommit
    #: Told of every batch that landed, by the thread that runs the pipeline.
    landed: Callable[[BatchResult], None]
    #: Notes the record that takes several requests, and tells of it.
    slow: Slow
    futures: set[Future[BatchResult]] = field(default_factory=set)
    #: Records of batches that were embedded and could not be written.
    lost: list[int] = field(default_factory=list)
    #: What ended batches, other than that the run was being ended.
    failures: list[BaseException] = field(default_factory=list)

    def run(self, batches: Iterable[list[Job]], at_hand: Callable[[], int]) -> None:
        """Take all batches through.

        Args:
            batches: what to embed.
            at_hand: gives how many batches may be on their way; more than may be in flight, so that one which has to
                wait for its next try does not leave the provider idle.
        """
        try:
            for batch in batches:
                for part in self._parts(batch):
                    self.embedder.limiter.pace(len(part))
                    self._send(part)
                    self.land(at_most=lambda: at_hand() - 1)
        except Abandoned:
            # one of those on their way may hold the reason
            self.land(at_most=lambda: 0)
            raise
        self.land(at_most=lambda: 0)

    def _parts(self, batch: list[Job]) -> Iterable[list[Job]]:
        """Cut a batch that was packed before an operator asked for fewer records a second."""
        size = self.embedder.limiter.second(len(batch))
        return (batch[start : start + size] for start in range(0, len(batch), size))

    def _send(self, batch: list[Job]) -> None:
        """Embed and write a batch in a thread of its own, which does not hold the process when a provider hangs."""
        future: Future[BatchResult] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = self._take_through(batch)
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits for the batch
                self._fail(error)
                future.set_exception(error)
            else:
                if result.failure is not None:
                    self._fail(result.failure)
                future.set_result(result)

        self.futures.add(future)
        try:
            threading.Thread(target=work, name="vecmig-embed", daemon=True).start()
        except RuntimeError:
            # no more threads are to be had; nothing would ever land here
            self.futures.discard(future)
            raise

    def _fail(self, error: BaseException) -> None:
        """Let no other batch begin: the first failure ends the run, and a request more is one too many."""
        if not isinstance(error, Abandoned):
            self.failures.append(error)
        self.embedder.limiter.close()

    def _take_through(self, batch: list[Job]) -> BatchResult:
        with self.embedder.limiter.batch(), self._noted(batch):
            answer = embed(self.embedder, batch, self.group_commit.storage)
            try:
                written = self.group_commit.write(answer)
            except BaseException:
                self.lost.append(len(answer.embedded))
                raise
        return BatchResult(len(answer.embedded), written, answer.rejected, answer.tokens, answer.failure)

    def _noted(self, batch: list[Job]) -> AbstractContextManager[None]:
        first = batch[0]
        if len(first.chunks) <= self.embedder.max_batch:
            return nullcontext()
        return self.slow.step(first.record.key, f"its {len(first.chunks):,} chunks are being embedded and written")

    def land(self, *, at_most: Callable[[], int]) -> None:
        """Wait until no more than ``at_most`` batches are on their way; it is asked again and again."""
        while len(self.futures) > at_most():
            done, _ = wait(self.futures, timeout=_TICK, return_when=FIRST_COMPLETED)
            self.slow.look()
            for future in done:
                self.futures.discard(future)
                try:
                    result = future.result()
                    self.landed(result)
                    if result.failure is not None:
                        raise result.failure
                except Abandoned:
                    raise (self.failures or [Abandoned()])[0] from None

    def rescue(self) -> None:
        """Let what is in flight come to its end, whatever that is: it is paid for. What only waits is left.

        So is what a dead provider was sent.
        """
        limiter = self.embedder.limiter
        limiter.close()
        while len(self.futures) > limiter.in_vain:
            done, _ = wait(self.futures, timeout=_TICK, return_when=FIRST_COMPLETED)
            for future in done:
                self.futures.discard(future)
                with suppress(Exception, Abandoned):
                    self.landed(future.result())
