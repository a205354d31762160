"""Query the other tag too, for a share of the searches and in the background, and keep what the two answers share."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vecmig.errors import DatabaseError, DatabaseUnreachable, VecmigError
from vecmig.homes import Hit
from vecmig.ledger.rows import TagRow
from vecmig.ledger.shadows import Shadowed, record
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Database
from vecmig.published.pool import fetch_timed, make_ready
from vecmig.reader.metrics import overlap, rank_biased_overlap
from vecmig.reader.snapshots import tag_row
from vecmig.reader.steps import Answer, SearchRequest, prepared

#: Searches that may wait to be asked again; more are let go.
MOST_WAITING: Final = 100
#: Seconds that ``close`` gives to what waits still, and after which an idle thread ends with its connection.
GRACE: Final = 2.0
_IDLE: Final = 60.0

_log = logging.getLogger("vecmig.reader")


class Shadow:
    """A thread of its own asks the other tag. It never slows an answer nor fails one: what it cannot do, it drops.

    ``lost`` counts what was dropped.
    """

    def __init__(self, database: Database, embed: Callable[[TagRow, str], NDArray[np.float32]]) -> None:
        self._database = database
        self._embed = embed
        self._waiting: deque[tuple[SearchRequest, Answer]] = deque()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: Version of each route under which nothing can be kept.
        self._refused: dict[str, int] = {}
        self.lost = 0

    def consider(self, request: SearchRequest, answer: Answer) -> None:
        """Have a share of the searches that the live tag answered asked again."""
        route = answer.snapshot.route
        other = route.shadow
        if other is None or request.text is None or request.tag is not None or answer.tag != route.live:
            return
        if random.random() >= route.shadow_share:  # noqa: S311  # a share of the traffic, no secret
            return
        with self._news:
            if (
                self._closed
                or len(self._waiting) >= MOST_WAITING
                or self._refused.get(request.collection) == route.version
            ):
                self.lost += 1
                return
            self._waiting.append((request, answer))
            self._news.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="vecmig-shadow", daemon=True)
                self._thread.start()

    def close(self, *, wait: bool = True) -> None:
        """Return what waits still a moment, then end. A provider that hangs is not waited for."""
        with self._news:
            self._closed = True
            self._news.notify()
            thread = self._thread
        if thread is not None and wait:
            thread.join(GRACE)
        if wait:
            with self._news:
                self.lost += len(self._waiting)
                self._waiting.clear()

    def _work(self) -> None:
        # as the live tag's search has it, or their times could not be compared
        session = ReconnectingSession(self._database, prepare=make_ready)
        try:
            while (work := self._next()) is not None:
                self._ask_again(session, *work)
        finally:
            session.__exit__(None, None, None)

    def _next(self) -> tuple[SearchRequest, Answer] | None:
        with self._news:
            while not self._waiting:
                if self._closed or not self._news.wait(_IDLE):
                    self._thread = None
                    return None
            return self._waiting.popleft()

    def _ask_again(self, session: ReconnectingSession, request: SearchRequest, answer: Answer) -> None:
        try:
            compared = self._compared(session, request, answer)
            session.run(lambda connection: record(connection, self._database.schema, compared))
        except Exception as error:  # noqa: BLE001  # it must never be felt by the application
            with self._news:
                self.lost += 1
            if isinstance(error, DatabaseError) and not isinstance(error, DatabaseUnreachable):
                self._refuse(answer, error)

    def _refuse(self, answer: Answer, error: DatabaseError) -> None:
        """SearchRequest no more until the route is set again: the other tag would be asked, and paid, for nothing."""
        route = answer.snapshot.route
        if self._refused.get(route.collection) != route.version:
            self._refused[route.collection] = route.version
            _log.warning("shadow reads of %s cannot be kept: %s", route.collection, error.message)

    def _compared(self, session: ReconnectingSession, request: SearchRequest, answer: Answer) -> Shadowed:
        hits: list[Hit] | None = None
        seconds, error = 0.0, None
        try:
            hits, seconds = self._other(session, request, answer)
        except VecmigError as failure:
            error = type(failure).__name__
        text, route = request.text or "", answer.snapshot.route
        live, other = _keys(answer.hits), _keys(hits or [])
        return Shadowed(
            collection=request.collection,
            live_tag=answer.tag,
            other_tag=route.shadow or "",
            k=request.k,
            overlap=None if error else overlap(live, other, request.k),
            rbo=None if error else rank_biased_overlap(live, other),
            top_changed=None if error else live[:1] != other[:1],
            live_ms=answer.seconds * 1000,
            other_ms=None if error else seconds * 1000,
            error=error,
            query_hash=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32],
            query=text if route.keep_queries else None,
        )

    def _other(self, session: ReconnectingSession, request: SearchRequest, answer: Answer) -> tuple[list[Hit], float]:
        """Return the answer of the other tag, and how long it took on its connection, in seconds."""
        row = tag_row(answer.snapshot, answer.snapshot.route.shadow or "")
        vector = self._embed(row, request.text or "")
        search = prepared(request, answer.snapshot, row.tag)
        values = search.values(vector, request.params)
        fetched = session.run(lambda connection: fetch_timed(connection, search, values))
        return search.hits(fetched.rows), fetched.seconds


def _keys(hits: Sequence[Hit]) -> list[tuple[Any, ...]]:
    """Return the records in their order, each once."""
    return list(dict.fromkeys(hit.key for hit in hits))
