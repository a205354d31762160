"""Complete a tag through the provider's Batch API: order what is pending, wait for it, and write what came."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from vecmig.backfill.backfill_embedder import patient_retry
from vecmig.backfill.batch_file import Answers, BatchFile, CollectedEmbedder, OrderingEmbedder
from vecmig.backfill.batches import Job, batches, jobs, whole_source
from vecmig.backfill.budget import Budget, CostAccount
from vecmig.backfill.embed import embed
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.local_engine import LocalEngine
from vecmig.backfill.ordering import Orders
from vecmig.backfill.pipeline import BatchResult
from vecmig.backfill.seen_texts import SeenTexts
from vecmig.backfill.sharing import TextSharing
from vecmig.embedders import OrderedBatch, open_batches
from vecmig.errors import EmbedderError, Pending, TerminalEmbedderError, TransientEmbedderError
from vecmig.events import Noted, Waiting, Warned
from vecmig.freshness.coverage import has_vectors
from vecmig.ledger.batch_orders import BatchOrder
from vecmig.text import count, counted

#: Texts up to which what is left once a batch came is not worth another one, and is asked for.
_FEW: Final = 1_000
#: Seconds between two looks at what is on order: the first, and the longest.
_FIRST_LOOK: Final = 1.0
_LONGEST_LOOK: Final = 60.0
#: How often a batch is written of which an application holds records, each time for as long as a write waits for these.
_TRIES: Final = 6
#: Batches in a row that came to nothing, after which no other one is ordered.
_FRUITLESS: Final = 2


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a backfill orders."""

    revision: str
    #: Where its cost goes; None where nothing has a price.
    account: CostAccount | None
    #: Whether to wait for what was ordered.
    wait: bool = True
    #: Where keys are looked up.
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)


class BatchEngine(LocalEngine):
    """An ``Engine`` that orders texts at half the price, and asks for the few that are left then.

    Each order is written down before the provider hears of it, with the records that it is for: whatever happens to a
    run, the next one collects what was ordered, once.
    """

    def __init__(self, backfill: TagBackfill, options: BatchOptions) -> None:
        """Open nothing yet."""
        super().__init__(backfill)
        self._options = options
        self._stamps = backfill.stamps
        self._fruitless = 0

    def whole_pass(self, limit: int | None = None) -> None:
        """Order what is pending in the full source, at most ``limit`` records, and write what comes.

        Raises:
            Pending: something is on order, and is not to be waited for.
            EmbedderError, DatabaseUnreachable: what was written stays, and the next run collects what was ordered.
            Interrupted: by SIGINT; likewise.
        """
        with self._orders() as orders:
            try:
                if self._order_and_collect(orders, limit):
                    return
            except KeyboardInterrupt:
                state = f"{orders.words}: they come whether or not vecmig waits." if orders.open else ""
                raise self.counters.interrupted(state) from None
            except EmbedderError as error:
                if orders.open and not error.state:
                    error.state = f"{self.counters.kept} {orders.words}."
                raise
        # the few that are left
        super().whole_pass(limit)

    @contextmanager
    def _orders(self) -> Iterator[Orders]:
        """Open what knows the orders of earlier runs, and places others."""
        limiter, recipe, account = self._limiter, self._embedder.recipe, self._options.account
        retry = patient_retry(limiter, self._backfill.options.provider_wait, self.counters.wait)
        with ExitStack() as stack:
            provider = open_batches(recipe, environ=self._options.environ, retry=retry, limiter=limiter)
            stack.callback(provider.close)
            budget = None
            if account is not None:
                price = recipe.service.backfill_price
                budget = stack.enter_context(Budget(self.session(), self._stamps.schema, account, price=price))
            orders = Orders(
                provider,
                self._stamps,
                self._options.revision,
                recipe.service.backfill_price,
                budget,
                self._reader,
                limiter.sleep,
            )
            orders.resume()
            yield orders

    def _order_and_collect(self, orders: Orders, limit: int | None) -> bool:
        """Go on until nothing is pending that can be ordered; return whether nothing is left to be asked for."""
        ordering = self._embedder.recipe.service.batch
        self._collect_ended(orders)
        while True:
            waiting = self._order(orders, limit) if ordering else 0
            if waiting is None:
                return False
            again, left = _FIRST_LOOK, False
            while orders.open:
                self._wait(orders, again)
                left |= self._collect_ended(orders)
                again = min(again * 1.5, _LONGEST_LOOK)
            if not (ordering and (left or waiting)):
                return ordering

    def _order(self, orders: Orders, limit: int | None) -> int | None:
        """Order what is pending and not on order; write what the tag has vectors of already.

        Returns:
            How many records wait for the vector of another one; None where so few are left that they are asked for.
        """
        seen = SeenTexts(self.counters.total + sum(order.texts for order in orders.open))
        for digest in orders.texts():
            seen.add(digest)
        looks_up = self._reader.run(lambda connection: has_vectors(connection, self._stamps))
        sharing = TextSharing(self._stamps, self._embedder, self._reader, looks_up, seen)
        file = BatchFile(orders)
        orderer = OrderingEmbedder(self._embedder, file)
        try:
            found = jobs(self._reader, whole_source(self._stamps), self._embedder, self.counters.slow, limit)
            for batch in self._after_preparing(batches(sharing.over(found), orderer)):
                self._limiter.stand_by()
                self._take_through(orderer, batch)
                file.note(batch, sharing.digests)
            if 0 < len(file.names) <= _FEW and (looks_up or orders.open):
                # they are asked for once all that is on order came
                return sharing.waiting + 1 if orders.open else None
            if file.names:
                orders.place(file)
        finally:
            file.close()
            sharing.close()
        return sharing.waiting

    def _take_through(self, orderer: OrderingEmbedder, batch: list[Job]) -> None:
        """Write what of a batch needs no order: records that have all vectors, and those that are rejected."""
        answer = embed(orderer, batch, self._group_commit.storage)
        if answer.embedded or answer.rejected:
            written = self._group_commit.write(answer)
            self.counters.add(BatchResult(len(answer.embedded), written, answer.rejected, 0))
        if answer.failure is not None:
            raise answer.failure

    def _wait(self, orders: Orders, seconds: float) -> None:
        """Wait until the next look.

        Raises:
            Pending: it is not to be waited for.
        """
        if not self._options.wait:
            raise Pending(
                f"{orders.words}.",
                state=self.counters.kept if self.counters.written else "",
                hint="To collect them, run the same command again; they come within 24 h.",
            )
        self.counters.waits_for = reason = f"{orders.words}, {count(orders.answered)} answered"
        self._backfill.listener(Waiting(reason, cause="batches"))
        self._limiter.sleep(seconds)

    def _collect_ended(self, orders: Orders) -> bool:
        """Look at what is on order, and collect what came; return whether texts of it are pending still."""
        left = False
        for order, batch in orders.look():
            if batch.status == "failed":
                orders.refused(order, batch)
                left |= order not in orders.open
            elif batch.ended:
                left |= self._collect(orders, order, batch)
        return left

    def _collect(self, orders: Orders, order: BatchOrder, batch: OrderedBatch) -> bool:
        """Write what came of a batch, and forget the order; return whether texts of it are pending still."""
        with Answers(self._embedder.recipe.dims, order.texts) as answers:
            try:
                answers.fetch(orders.provider, batch)
            except TerminalEmbedderError as error:
                error.hint = f"To give them up, and order their texts again: {orders.forget}"
                raise
            good, refused = len(answers.places), len(answers.refused)
            # where none came, it need not be the texts' doing that they are refused
            if good:
                self._write(CollectedEmbedder(self._embedder, answers), order)
            orders.close(order, tokens=answers.charged(order.tokens / order.texts))
        orders.provider.forget(*batch.files)
        self._fruitless = 0 if good else self._fruitless + 1
        self._tell(batch, order.texts, good, list(answers.refused.values()))
        if answers.failure is not None:
            raise answers.failure
        if batch.status == "cancelled":
            raise TerminalEmbedderError(
                f"Batch {batch.id} was cancelled at the provider.",
                state=f"{count(good)} of its {counted(order.texts, 'text')} had been answered by then.",
                hint="To order the rest again, run the same command again.",
            )
        return order.texts > good + (refused if good else 0)

    def _write(self, collected: CollectedEmbedder, order: BatchOrder) -> None:
        """Write the vectors that came for the records of an order, as far as their texts are what was ordered.

        What an application holds is tried again: its vectors are paid for, and nowhere else afterwards.
        """
        for _ in range(_TRIES):
            refused = self.counters.refused
            self._write_once(collected, order)
            if self.counters.refused == refused:
                break

    def _write_once(self, collected: CollectedEmbedder, order: BatchOrder) -> None:
        sharing = TextSharing(self._stamps, collected, self._reader, looks_up=order.shared)
        try:
            self._go_through(
                sharing, whole_source(self._stamps, after=order.after, upto=order.upto), None, prepare=False
            )
        finally:
            sharing.close()

    def _tell(self, batch: OrderedBatch, texts: int, good: int, refused: list[str]) -> None:
        """Tell what came of a batch.

        Raises:
            EmbedderError: nothing came of several in a row, or the provider refuses each of the texts.
        """
        words = f"Batch {batch.id} is {batch.status}: {count(good)} of {counted(texts, 'text')} answered"
        if good == texts:
            self._backfill.listener(Noted(f"{words}."))
            return
        self._backfill.listener(Warned(f"{words}, {count(len(refused))} refused; the rest is pending."))
        if refused and not good:
            raise TerminalEmbedderError(
                f"None of the {counted(texts, 'text')} of batch {batch.id} got a vector. {refused[0]}",
                state="Nothing is charged for them.",
                hint="Check the recipe; without batch: true it is asked for each, and says more.",
            )
        if self._fruitless == _FRUITLESS:
            raise TransientEmbedderError(
                f"{self._fruitless} batches in a row came to nothing; the last one, {batch.id}, is {batch.status}.",
                hint="Run the same command again later, or take batch: true out of the recipe.",
            )
