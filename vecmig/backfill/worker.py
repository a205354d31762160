"""One process of a fleet: it fills the key ranges that it is handed, and tells how it goes. It knows nothing of Ray."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from vecmig.about import version
from vecmig.backfill.filler import Filler
from vecmig.backfill.patient import Account, patient_embedder
from vecmig.backfill.tally import Figures
from vecmig.backfill.terms import Terms
from vecmig.backfill.work import whole_source
from vecmig.embedders import Abandoned, Embedder
from vecmig.errors import Interrupted, VecmigError
from vecmig.events import Event, Waiting, Warned
from vecmig.store.connect import Database
from vecmig.store.locks import watched
from vecmig.store.vectors import Key, Space
from vecmig.tags import Recipe


@dataclass(frozen=True, slots=True)
class Span:
    """The records behind one key, up to another; None for the ends of the source."""

    after: Key | None
    upto: Key | None


@dataclass(frozen=True, slots=True)
class Order:
    """All that a worker needs to know; it holds secrets, so it is never shown."""

    #: The driver's vecmig; a worker's must be the same.
    version: str
    #: As the driver has it: the settings of its sessions are those of each worker's.
    database: Database = field(repr=False)
    space: Space
    #: This worker's share of it.
    recipe: Recipe
    account: Account | None
    terms: Terms
    #: Refuses an embedder that is not the one which made the tag's vectors.
    check: Callable[[Embedder], None]
    #: Pending records of the whole run.
    total: int
    #: Keys of the provider.
    environ: Mapping[str, str] = field(repr=False)
    #: Where Python finds the project's own modules.
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class News:
    """How a worker stands."""

    #: Another one after it was lost and started again.
    worker: UUID
    where: str
    figures: Figures
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """How the filling of one range ended."""

    news: News
    #: Records written or rejected in it.
    handled: int
    failure: VecmigError | None


class Worker:
    """Opens what it needs with the first range, the model above all, and keeps it open.

    One thread fills; others may ask for news and stop it meanwhile.
    """

    def __init__(self) -> None:
        self._id = uuid4()
        self._open = ExitStack()
        self._filler: Filler | None = None
        self._embedder: Embedder | None = None
        self._stopped = False
        self._turn = threading.Lock()
        self._warned: list[Event] = []
        self._waiting: Waiting | None = None

    def fill(self, order: Order, span: Span, limit: int | None = None) -> Filled:
        """Embed and write what is pending in a range; at most ``limit`` records.

        A failure is given back rather than raised, so that it arrives as what it is. After one, everything is closed.
        """
        failure: VecmigError | None = None
        before = 0
        try:
            filler = self._opened(order)
            before = filler.tally.handled
            filler.one_pass(whole_source(order.space, after=span.after, upto=span.upto), limit)
        except VecmigError as error:
            failure = error
            if self._filler is not None and error.state == self._filler.tally.kept:
                # the driver knows what all of them did
                error.state = ""
        except Abandoned:
            failure = Interrupted("The run is being ended.")
        news = self.news()
        if failure is not None:
            with suppress(VecmigError):
                self.close()
        return Filled(news, news.figures.written + news.figures.rejected - before, failure)

    def news(self) -> News:
        """Tell how it goes; each event is told once."""
        figures = self._filler.tally.figures if self._filler is not None else Figures()
        with self._turn:
            events = (*self._warned, *([self._waiting] if self._waiting is not None else []))
            self._warned, self._waiting = [], None
        return News(self._id, f"{platform.node()} (pid {os.getpid()})", figures, events)

    def stop(self) -> None:
        """Begin nothing more; what is in flight is finished and written."""
        self._stopped = True
        if self._embedder is not None:
            self._embedder.limiter.close()

    def close(self) -> None:
        """Let go of the model and the connections, and take the run off the list."""
        self._filler = self._embedder = None
        self._open.close()

    def _opened(self, order: Order) -> Filler:
        if self._stopped:
            raise Abandoned
        if self._filler is None:
            _require_same_version(order)
            sys.path.extend(place for place in order.path if place not in sys.path)
            with ExitStack() as opening:
                self._filler = self._new_filler(order, opening)
                self._open = opening.pop_all()
        return self._filler

    def _new_filler(self, order: Order, opening: ExitStack) -> Filler:
        database = order.database
        if database.lock_wait is not None:
            database = watched(database, lock_wait=database.lock_wait, tell=lambda who: self._listen(Waiting(who)))
        self._embedder = opening.enter_context(
            patient_embedder(
                database,
                order.space.tag,
                order.recipe,
                account=order.account,
                reconnect_wait=order.terms.reconnect_wait,
                provider_wait=order.terms.provider_wait,
                on_wait=lambda reason, seconds: self._listen(Waiting(reason.removesuffix("."), seconds)),
                environ=os.environ | dict(order.environ),
            )
        )
        embedder = self._embedder
        filler = Filler(
            database, order.space, embedder, order.terms, self._listen, prepare=lambda: order.check(embedder)
        )
        filler.tally.total = order.total
        opening.enter_context(filler)
        if self._stopped:
            raise Abandoned
        return filler

    def _listen(self, event: Event) -> None:
        with self._turn:
            if isinstance(event, Warned):
                self._warned.append(event)
            elif isinstance(event, Waiting):
                self._waiting = event


def _require_same_version(order: Order) -> None:
    if order.version != version():
        raise VecmigError(
            f"{platform.node()} has vecmig {version()}, and this run is of vecmig {order.version}.",
            state="Nothing was embedded there.",
            hint="Install the same version on every host of the Ray cluster.",
        )
