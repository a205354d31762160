"""Fill a tag by several processes: cut the source into key ranges, and hand them to workers on a Ray cluster."""

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
from vecmig.backfill.cluster import Cluster, Dead, Lost, Member, Needs, Ref
from vecmig.backfill.patient import Account, shared
from vecmig.backfill.supervisor import Supervisor
from vecmig.backfill.tally import Figures, Tally
from vecmig.backfill.terms import Terms, nobody_else
from vecmig.backfill.worker import Filled, News, Order, Span
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import DatabaseUnreachable, EmbedderError, Interrupted, VecmigError
from vecmig.events import Listener, Waiting, Warned
from vecmig.store.connect import Database
from vecmig.store.lasting import Lasting
from vecmig.store.vectors import Key, Space, split_keys
from vecmig.tags import Recipe

#: A range has no more records than this: it is what a lost worker leaves for another one to look through again.
_LARGEST_SPAN: Final = 20_000
#: And no fewer, so that a small source is not cut into crumbs.
_SMALLEST_SPAN: Final = 250
#: Ranges for each worker, so that the last one to end does not keep the others waiting for long.
_SPANS_EACH: Final = 8
#: Seconds between two looks at the workers, and at whether this is still the only runner.
_TICK: Final = 0.25
_ALONE_EVERY: Final = 1.0
#: Seconds after which it is told that a worker is silent.
_PATIENCE: Final = 10.0
#: Seconds that the workers have to put everything away.
_CLOSING: Final = 10.0
#: A range that has cost so many workers their life is not tried again.
_MOST_LOST: Final = 4


@dataclass(frozen=True, slots=True)
class Fleet:
    """Which workers fill a tag, and at whose cost."""

    #: The Ray cluster, as ``ray.init`` takes it; None for RAY_ADDRESS, or a new cluster on this host.
    address: str | None
    needs: Needs
    #: How many; None for as many as there is room for.
    workers: int | None
    account: Account | None
    #: Gives, once the run is prepared, what refuses an embedder that is not the one which made the tag's vectors.
    check: Callable[[], Callable[[Embedder], None]]


@dataclass(slots=True)
class _Hand:
    """One worker, as the driver knows it."""

    member: Member
    #: The process behind it, once it has been heard of, and what that process has done.
    id: UUID | None = None
    where: str = ""
    figures: Figures = field(default=Figures())
    heard_at: float = field(default_factory=time.monotonic)
    #: What it was asked, when, and what it is filling.
    asked: Ref | None = None
    asked_at: float = 0.0
    filling: Ref | None = None
    span: Span | None = None
    promised: int | None = None
    #: Processes that were lost with this range.
    lost: int = 0


class Crew:
    """A context that goes over a source with a fleet. The cluster is started when there is something to do."""

    def __init__(
        self,
        database: Database,
        space: Space,
        embedder: Embedder,
        terms: Terms,
        listener: Listener,
        *,
        fleet: Fleet,
        prepare: Callable[[], None],
    ) -> None:
        """Start nothing yet; the arguments are those of ``Filler``, whose work the fleet does."""
        self._database = database
        self._space = space
        self._recipe = embedder.recipe
        self._limiter = embedder.limiter
        self._prepare = prepare
        self._fleet = fleet
        self._terms = terms
        self._listener = listener
        self._open = ExitStack()
        self._cluster: Cluster | None = None
        self._hands: list[_Hand] = []
        self._order: Order | None = None
        self._spans: deque[Span] = deque()
        self._looked_at = 0.0
        self.tally = Tally(space, terms.what, listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._close()
        finally:
            self._open.close()

    def session(self) -> Lasting:
        """Give a session that waits for a lost database as long as the terms say."""
        return Lasting(self._database, wait=self._terms.reconnect_wait, on_wait=self.tally.wait)

    # The work ----------------------------------------------------------------------------------------------------

    def whole_pass(self, limit: int | None = None) -> None:
        """Embed and write what is pending in the whole source, at most ``limit`` records.

        Raises:
            EmbedderError, DatabaseUnreachable: what was written stays, and another run goes on from there.
            Interrupted: by SIGINT; what was in flight was written first.
        """
        if self.tally.total == 0 and not self._hands:
            return
        try:
            cluster = self._started()
            self._spans.extend(self._cut(len(self._hands)))
            self._work(cluster, None if limit is None else self.tally.handled + limit)
        except KeyboardInterrupt:
            self._listener(Waiting("what is in flight is being finished; Ctrl-C again leaves it"))
            left = self._finish()
            raise self.tally.interrupted(left) from None
        except EmbedderError as error:
            self._finish()
            error.state = error.state or self.tally.kept
            raise
        except BaseException:
            self._finish()
            raise

    def _started(self) -> Cluster:
        """Connect to the cluster and start the workers, once."""
        if self._cluster is None:
            self._supervise_preparing()
            fleet = self._fleet
            self._listener(Waiting("the workers are being started on Ray"))
            cluster = self._open.enter_context(Cluster(fleet.address, fleet.needs, fleet.workers))
            workers = fleet.workers or cluster.room()
            workers = min(workers, sum(1 for _ in self._cut(workers)))
            self._order = self._new_order(workers)
            self._hands = [_Hand(cluster.start_worker()) for _ in range(workers)]
            self._cluster = cluster
        return self._cluster

    def _supervise_preparing(self) -> None:
        """Prepare where a pause holds and the run shows; the workers do that for themselves."""
        supervisor = Supervisor(
            self._database,
            self._terms,
            self._limiter,
            concurrency=self._recipe.service.concurrency,
            collection=self._space.source.collection.name,
            standing=self.tally.standing,
            listener=self._listener,
        )
        try:
            with supervisor if self._terms.supervised else nullcontext():
                self._prepare()
        except Abandoned:
            raise supervisor.failure or Interrupted("The run is being ended.") from None

    def _new_order(self, workers: int) -> Order:
        terms = replace(self._terms, workers=workers, still_alone=nobody_else)
        return Order(
            version=version(),
            # a watch is of one process, and a worker begins one of its own
            database=replace(self._database, url=self._database.url_on_this_host, watch=None),
            space=self._space,
            recipe=shared(self._recipe, workers),
            account=self._fleet.account,
            terms=terms,
            check=self._fleet.check(),
            total=self.tally.total,
            environ=_keys(self._recipe),
            path=tuple(sys.path),
        )

    def _cut(self, workers: int) -> Iterator[Span]:
        """Cut the source into ranges."""
        records = self.tally.eligible
        parts = max(-(-records // _LARGEST_SPAN), min(workers * _SPANS_EACH, records // _SMALLEST_SPAN), 1)
        with self.session() as session:
            keys = session.run(lambda connection: split_keys(connection, self._space.source, parts))
        ends: list[Key | None] = [None, *keys, None]
        return (Span(after, upto) for after, upto in pairwise(ends))

    def _work(self, cluster: Cluster, until: int | None) -> None:
        """Hand out the ranges until all are filled, or so many records are handled."""
        while True:
            self._hand_out(until)
            if not self._busy and (not self._spans or self._left(until) == 0):
                return
            self._look(cluster)
            self._still_alone()
            self._tell_of_silence()

    @property
    def _busy(self) -> list[_Hand]:
        return [hand for hand in self._hands if hand.filling is not None]

    def _left(self, until: int | None) -> int | None:
        """Give how many records may be handed out yet; None for no limit."""
        if until is None:
            return None
        return max(0, until - self.tally.handled - sum(hand.promised or 0 for hand in self._busy))

    def _hand_out(self, until: int | None) -> None:
        assert self._order is not None, "the cluster is started"
        for hand in self._hands:
            left = self._left(until)
            if not self._spans or left == 0:
                return
            if hand.id is not None and hand.filling is None:
                hand.span = self._spans.popleft()
                hand.lost = 0
                hand.promised = None if left is None else -(-left // len(self._hands))
                hand.filling = hand.member.fill(self._order, hand.span, hand.promised)

    # What the workers tell ---------------------------------------------------------------------------------------

    def _look(self, cluster: Cluster, *, ending: bool = False) -> None:
        """Hear what the workers tell; while the run is being ended, their failures are no news."""
        now = time.monotonic()
        for hand in self._hands:
            if hand.asked is None and now - hand.asked_at >= 2 * _TICK:
                hand.asked, hand.asked_at = hand.member.news(), now
        by_ref = {ref: hand for hand in self._hands for ref in (hand.asked, hand.filling) if ref is not None}
        if not by_ref:
            time.sleep(_TICK)
            return
        for ref in cluster.wait(list(by_ref), _TICK):
            try:
                self._heard(cluster, by_ref[ref], ref)
            except VecmigError:
                if not ending:
                    raise

    def _heard(self, cluster: Cluster, hand: _Hand, ref: Ref) -> None:
        if ref == hand.asked:
            hand.asked = None
            try:
                self._take(hand, cluster.answer(ref))
            except Dead:
                if hand.id is None:
                    raise
            except Lost:
                # Ray starts it again, and the range that it was filling too
                pass
            return
        span, promised = hand.span, hand.promised
        hand.filling = hand.span = hand.promised = None
        assert span is not None, "it was filling one"
        filled = cluster.answer(ref)
        assert isinstance(filled, Filled), "that is what fill() gives"
        self._take(hand, filled.news)
        if filled.failure is not None:
            raise filled.failure
        if promised is not None and filled.handled >= promised:
            # it stopped for the limit's sake: there may be more in this range
            self._spans.appendleft(span)

    def _take(self, hand: _Hand, news: News | Filled | None) -> None:
        assert isinstance(news, News), "that is what news() gives"
        if hand.id not in (None, news.worker):
            self._listener(Warned(f"The worker on {hand.where} was lost; {news.where} takes over what it was filling."))
            hand.figures = Figures()
            hand.lost += 1
            if hand.span is not None and hand.lost >= _MOST_LOST:
                raise _given_up(hand.span)
        hand.id, hand.where, hand.heard_at = news.worker, news.where, time.monotonic()
        for event in news.events:
            self._listener(event)
        done = news.figures.since(hand.figures)
        # two answers may come in another order than they were given
        if done.is_progress:
            hand.figures = news.figures
            self.tally.count(done)

    def _tell_of_silence(self) -> None:
        long_ago = time.monotonic() - _PATIENCE
        silent = [hand.where for hand in self._busy if hand.heard_at < long_ago]
        if silent:
            self._listener(Waiting(f"no word from the worker on {', '.join(silent)}"))
        elif all(hand.id is None and hand.heard_at < long_ago for hand in self._hands):
            self._listener(Waiting(f"Ray has started no worker yet; one needs {self._fleet.needs}"))

    def _still_alone(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= _ALONE_EVERY:
            self._looked_at = now
            # whoever reads and writes finds out that the database is away, and decides how long to wait
            with suppress(DatabaseUnreachable):
                self._terms.still_alone()

    # The end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> str:
        """Let the workers finish what they have in flight; say what was left where they could not."""
        cluster = self._cluster
        self._spans.clear()
        try:
            while cluster is not None and self._busy:
                for hand in self._busy:
                    # again each time: a worker that was lost has been started anew and knows nothing of it
                    hand.member.stop()
                self._look(cluster, ending=True)
        except KeyboardInterrupt:
            left = len(self._busy)
            return f"What was written stays; {left} workers were left, and what they had in flight is sent again."
        return ""

    def _close(self) -> None:
        """Let the idle workers put everything away."""
        if self._cluster is None:
            return
        closing = [hand.member.close() for hand in self._hands if hand.id is not None and hand.filling is None]
        until = time.monotonic() + _CLOSING
        while closing and time.monotonic() < until:
            done = self._cluster.wait(closing, _TICK)
            closing = [ref for ref in closing if ref not in done]


def _keys(recipe: Recipe) -> dict[str, str]:
    """Give the variables of this process that the provider needs."""
    if recipe.provider != "openai":
        return {}
    return {name: os.environ[name] for name in recipe.service.variables if name in os.environ}


def _given_up(span: Span) -> VecmigError:
    after = "the first" if span.after is None else f"behind {', '.join(span.after)}"
    upto = "the last" if span.upto is None else ", ".join(span.upto)
    return VecmigError(
        f"{_MOST_LOST} workers in a row were lost over the records from {after} to {upto}.",
        state="What was written stays, and the next run goes on from there.",
        hint="They may need more memory than there is: fewer --workers, or a smaller max_batch in the recipe.",
    )
