"""What a tag has on order: written down before the provider hears of it, and forgotten once it is collected."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import uuid4

from vecmig.backfill.batch_file import BatchFile
from vecmig.backfill.budget import Budget
from vecmig.embedders import BatchProvider, OrderedBatch
from vecmig.errors import EmbedderError, TerminalEmbedderError
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.batch_orders import BatchOrder, batch_orders, close_order, note_ids, texts_on_order, write_order
from vecmig.model.recipe import cost_usd
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.text import count, counted

T = TypeVar("T")
#: Seconds for which a batch that a killed run may have ordered is looked for before it is ordered anew.
_LOST_AFTER: Final = 30.0
#: Seconds until a batch that the provider's queue had no room for is ordered again: once it was at once, and at most.
_FIRST_QUEUE: Final = 2.0
_LONGEST_QUEUE: Final = 600.0
_QUEUE: Final = re.compile(r"Limit:\s*([\d,_]+)", re.IGNORECASE)


@dataclass(slots=True)
class Orders:
    """The orders of one tag. One thread uses it."""

    provider: BatchProvider
    stamps: Stamps
    revision: str
    #: US dollars for a million tokens.
    price: float
    #: What an order's estimate is taken from before it is sent; None where nothing has a price.
    budget: Budget | None
    session: ReconnectingSession
    #: Waits; what it raises ends the run.
    sleep: Callable[[float], None]
    open: list[BatchOrder] = field(default_factory=list, init=False)
    #: Of what is on order, the texts that had their vectors when it was looked at.
    answered: int = field(default=0, init=False)
    #: Most tokens of one order, where the provider's queue has shown how many it has room for.
    most_tokens: float = field(default=float("inf"), init=False)
    _queue_until: float = field(default=0.0, init=False)
    _queue_pause: float = field(default=0.0, init=False)

    @property
    def words(self) -> str:
        """What is on order, in words."""
        sent = [order for order in self.open if order.file is not None]
        texts, queued = sum(order.texts for order in sent), sum(order.batch is None for order in sent)
        room = f", {count(queued)} of them waiting for room in the provider's queue" if queued else ""
        return f"{counted(texts, 'text')} on order in {counted(len(sent), 'batch', 'batches')}{room}"

    @property
    def forget(self) -> str:
        """The command that gives up what is on order."""
        return f"vecmig batches --forget {shlex.quote(self.stamps.source.collection.name)}"

    def resume(self) -> None:
        """Take over what earlier runs have ordered, once it is known what became of what they were at.

        Raises:
            TerminalEmbedderError: it was ordered at another server.
        """
        stamps = self.stamps
        name = stamps.source.collection.name
        for order in self._run(lambda connection: batch_orders(connection, stamps.schema, name, stamps.tag)):
            if order.server != self.provider.address:
                raise TerminalEmbedderError(
                    f"Texts of {stamps.tag} are on order at {order.server}, and the recipe names "
                    f"{self.provider.address} now.",
                    state="Nothing was sent.",
                    hint=f"Write base_url: as it was to collect them, or give them up: {self.forget}",
                )
            if order.batch is not None or self._find(order):
                self.open.append(order)

    def _find(self, order: BatchOrder) -> bool:
        """Find out whether an order whose run was killed was placed; one that was not is forgotten."""
        assert order.ordered_at is not None, "it was read"
        batch = None
        if order.file is not None:
            age = max(0.0, time.time() - order.ordered_at.timestamp())
            until = time.monotonic() + _LOST_AFTER - age
            # a request that was on its way then may arrive yet
            while (batch := self.provider.find(order.id, order.ordered_at)) is None and time.monotonic() < until:
                self.sleep(1.0)
        if batch is None:
            self.close(order, tokens=0)
            return False
        # one that found no room is ordered again, at once
        self._note(order, order.file, None if batch.no_room else batch.id)
        return True

    def place(self, file: BatchFile) -> None:
        """Order what is in a file, and empty it.

        Raises:
            BudgetSpent: it would pass the budget.
        """
        assert file.upto is not None, "a record was read for it"
        if self.budget is not None:
            self.budget.reserve(file.tokens)
        order = BatchOrder(
            id=uuid4(),
            collection=self.stamps.source.collection.name,
            tag=self.stamps.tag,
            revision=self.revision,
            server=self.provider.address,
            after=file.after,
            upto=file.upto,
            texts=len(file.names),
            shared=file.shared,
            tokens=file.tokens,
            usd=0.0 if self.budget is None else cost_usd(self.price, file.tokens),
        )
        digests = bytes(file.digests)
        self._run(lambda connection: write_order(connection, self.stamps.schema, order, digests))
        self.open.append(order)
        try:
            self._note(order, self.provider.upload(file.file, file.size, order.id), None)
            self._order(order)
        except EmbedderError as error:
            if order.file is None or (isinstance(error, TerminalEmbedderError) and not self._heard(order)):
                # nothing comes of it
                self.close(order, tokens=0)
            if order.batch is None:
                raise
        file.empty()

    def _heard(self, order: BatchOrder) -> bool:
        """Return whether the provider has a batch of an order all the same, which it seemed to refuse."""
        batch = self.provider.find(order.id, datetime.now(UTC))
        if batch is not None:
            self._note(order, order.file, batch.id)
        return batch is not None

    def _order(self, order: BatchOrder) -> None:
        assert order.file is not None, "it was sent"
        self._note(order, order.file, self.provider.order(order.file, order.id).id)

    def texts(self) -> Iterator[str]:
        """Yield the digests of all texts that are on order; in memory are those of one order at a time."""
        for order in self.open:
            yield from self._run(lambda connection, of=order.id: texts_on_order(connection, self.stamps.schema, of))  # type: ignore[misc]

    def look(self) -> Iterator[tuple[BatchOrder, OrderedBatch]]:
        """Yield what is on order and how it stands, and order again what the provider's queue had no room for.

        Raises:
            TerminalEmbedderError: the provider knows one of the batches no more.
        """
        self.answered = 0
        for order in list(self.open):
            if order.batch is None:
                continue
            batch = self.provider.look(order.batch)
            if batch is None:
                raise TerminalEmbedderError(
                    f"The provider at {order.server} knows no batch {order.batch}, which {order.ordered_by} has "
                    f"ordered{'' if order.ordered_at is None else f' {order.ordered_at:%Y-%m-%d %H:%M} UTC'}.",
                    state="Nothing was ordered again.",
                    hint=f"Is the key of the same project as then? To give it up: {self.forget}",
                )
            self.answered += 0 if batch.ended else batch.answered
            yield order, batch
        queued = [order for order in self.open if order.batch is None]
        if queued and time.monotonic() >= self._queue_until:
            self._order(queued[0])

    def refused(self, order: BatchOrder, batch: OrderedBatch) -> None:
        """Heed that the provider did not take a batch; nothing is charged.

        Where its queue has no room it is ordered again later, or in smaller parts if it never will have.

        Raises:
            TerminalEmbedderError: it is for another reason.
        """
        others = any(other.batch is not None for other in self.open if other is not order)
        found = _QUEUE.search(batch.problem)
        room = int(re.sub(r"\D", "", found[1])) if found else order.tokens // 2
        if batch.no_room and (others or order.tokens <= room):
            self._note(order, order.file, None)
            self._queue_until = time.monotonic() + self._queue_pause
            self._queue_pause = min(max(2 * self._queue_pause, _FIRST_QUEUE), _LONGEST_QUEUE)
            return
        self.close(order, tokens=0)
        if not batch.no_room or order.texts == 1:
            why = batch.problem or "it does not say why"
            raise TerminalEmbedderError(
                f"The provider at {order.server} did not take batch {batch.id}: {why}.",
                state=f"Nothing is charged for its {counted(order.texts, 'text')}, which are pending again.",
                hint="Once that is mended, run the same command again.",
            )
        # others may be ordering meanwhile, and the estimate is not exact
        self.most_tokens = max(1, min(room, order.tokens) // 2)

    def close(self, order: BatchOrder, *, tokens: int) -> None:
        """Forget an order, and enter what the provider charges for it in place of the estimate."""
        usd = 0.0 if order.usd == 0 else order.usd * tokens / order.tokens

        def work(connection: Connection) -> None:
            with connection.transaction():
                close_order(connection, self.stamps.schema, order, tokens=tokens, usd=usd)

        self._run(work)
        self.open = [other for other in self.open if other is not order]
        self._queue_until, self._queue_pause = 0.0, 0.0
        if order.file is not None:
            self.provider.forget(order.file)

    def _note(self, order: BatchOrder, file: str | None, batch: str | None) -> None:
        """Keep the provider's ids of an order."""
        self._run(lambda connection: note_ids(connection, self.stamps.schema, order.id, file=file, batch=batch))
        order.file, order.batch = file, batch

    def _run(self, work: Callable[[Connection], T]) -> T:
        return self.session.run(work)
