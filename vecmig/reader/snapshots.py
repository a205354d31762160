"""What a reader knows of each collection, and how it hears that reads have moved to another tag."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vecmig.errors import DatabaseUnreachable, NotRecorded, VecmigError
from vecmig.homes import Search
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Route, TagRow
from vecmig.postgres.notify import Wakeup, announced, listen
from vecmig.postgres.sessions import Connection, Database, Outdated, settle_transaction, translated
from vecmig.source.source import Source

#: Seconds between two looks at the routes where no announcement can come.
POLL_SECONDS: Final = 1.0
#: The same where one can: a connection may be dead without a word.
HEARTBEAT_SECONDS: Final = 5.0
#: Seconds that ``close`` gives to the thread: a look may hang on a lock or a dead connection.
GRACE: Final = 2.0
_MOST_SEARCHES: Final = 256


@dataclass(frozen=True, slots=True)
class CollectionSnapshot:
    """One collection as the database has it."""

    source: Source
    schema: str
    route: Route
    tags: Mapping[str, TagRow]
    #: Differs as soon as the ledger says anything else about the collection.
    digest: str
    #: When the look at the ledger began that found it so: of two looks the later one is right.
    began: float
    #: When this was last known, or had to be taken, to be so.
    read_at: float
    #: Seconds that a search waits for a lock; None where that is for the application's session to say.
    lock_wait: float | None = None
    _searches: dict[Any, Search] = field(default_factory=dict, repr=False, compare=False)

    def search(self, key: Any, make: Callable[[], Search]) -> Search:
        """Return a search that was put together before, or make it."""
        search = self._searches.get(key)
        if search is None:
            if len(self._searches) >= _MOST_SEARCHES:
                self._searches.clear()
            search = self._searches[key] = make()
        return search


class Snapshots:
    """The latest snapshot of each collection, kept by a thread that listens for the moment when reads move.

    Where no connection can listen (behind a pooler, on a hot standby), the thread looks again every POLL_SECONDS; while
    it has no connection, callers look for themselves when a snapshot is older than twice that. Any thread may ask.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshots: dict[str, CollectionSnapshot] = {}
        #: How many callers load each collection now: an announcement may come while that is done for the first time.
        self._loading: Counter[str] = Counter()
        #: When the thread last tried to look at a collection and was refused: from then on its snapshot is not current.
        self._refused: dict[str, float] = {}
        self._turn = threading.Lock()
        self._closed: bool = False
        #: Until when the snapshots are current by what the thread has heard.
        self._current_until = 0.0
        self._thread: threading.Thread | None = None
        self._bell: Wakeup | None = None
        #: How the routes are kept now: "listening", "polling", or "" while the thread has no connection.
        self.kept_by = ""

    def get(self, collection: str) -> CollectionSnapshot | None:
        """Return the snapshot if it is not too old; None where it has to be looked up."""
        snapshot = self._snapshots.get(collection)
        if snapshot is None or snapshot.began < self._refused.get(collection, 0.0):
            return None
        return snapshot if time.monotonic() < max(self._current_until, snapshot.read_at + 2 * POLL_SECONDS) else None

    def load(self, collection: str, *, again: bool = False) -> CollectionSnapshot:
        """Look a collection up; its snapshot is kept where the ledger is as it was, unless it is to be read ``again``.

        Raises:
            DatabaseError: the database does not know it, or does not answer and never did.
        """
        with self._turn:
            self._loading[collection] += 1
        self._attend()
        try:
            with self._database.session() as connection:
                return self._look(connection, collection, again=again)
        except DatabaseUnreachable:
            before = self._snapshots.get(collection)
            # the searches have connections of their own; without any, they will say so
            if before is None or again:
                raise
            return self._keep(replace(before, read_at=time.monotonic()))
        finally:
            with self._turn:
                self._loading[collection] -= 1
                # without those that no caller loads
                self._loading = +self._loading

    def close(self, *, wait: bool = True) -> None:
        """End the listening. A look that hangs is not waited for: its thread ends by itself when it goes on."""
        self._closed = True
        with self._turn:
            thread, bell = self._thread, self._bell
        if bell is not None:
            with suppress(OSError):
                bell.ring()
        if thread is not None and wait:
            thread.join(GRACE)

    def _look(self, connection: Connection, collection: str, *, again: bool = False) -> CollectionSnapshot:
        began = time.monotonic()
        with translated(self._database.safe_url), connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # the session is the application's
            settle_transaction(connection, self._database.lock_wait)
            ledger = Ledger(connection, self._database.schema)
            digest = ledger.routes.digest(collection)
            before = None if again else self._snapshots.get(collection)
            if before is not None and digest == before.digest:
                return self._keep(replace(before, began=began, read_at=time.monotonic()))
            source = find_source(ledger, ledger.collections.get(collection), even_replaced=True, changes=False)
            route, tags = ledger.routes.of(collection), ledger.tags.of(collection)
        now, lock_wait = time.monotonic(), self._database.lock_wait
        return self._keep(
            CollectionSnapshot(source, ledger.schema, route, tags, digest, began, read_at=now, lock_wait=lock_wait)
        )

    def _keep(self, snapshot: CollectionSnapshot) -> CollectionSnapshot:
        with self._turn:
            present = self._snapshots.get(snapshot.route.collection)
            # Whoever began to look first may come last. The route's version tells nothing: a failover may reset it.
            if present is not None and snapshot.began < present.began:
                if snapshot.digest != present.digest:
                    return present
                snapshot = replace(snapshot, began=present.began)
            self._snapshots[snapshot.route.collection] = snapshot
        return snapshot

    # The thread ----------------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        with self._turn:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._bell = Wakeup()
            self._thread = threading.Thread(target=self._hear, args=[self._bell], name="vecmig-routes", daemon=True)
            self._thread.start()

    def _hear(self, bell: Wakeup) -> None:
        while not self._closed:
            with suppress(VecmigError), self._database.session() as connection:
                # look at the routes whenever one was announced, and every now and then
                hears = listen(connection, Ledger(connection, self._database.schema).routes.channel)
                pause = HEARTBEAT_SECONDS if hears else POLL_SECONDS
                while not self._closed:
                    # also the first time: what was announced before this one listened was not heard
                    with self._turn:
                        names = {*self._snapshots, *self._loading}
                    for collection in names:
                        self._refresh(connection, collection)
                    self._current_until, self.kept_by = (
                        time.monotonic() + 2 * pause,
                        "listening" if hears else "polling",
                    )
                    self._rest(bell, pause, connection if hears else None)
            self._current_until, self.kept_by = 0.0, ""
            if not self._closed:
                bell.wait(POLL_SECONDS)
        with self._turn:
            bell.close()
            self._bell = None

    def _rest(self, bell: Wakeup, pause: float, connection: Connection | None) -> None:
        """Wait for an announcement, at most that many seconds."""
        again = time.monotonic() + pause
        while not self._closed and (left := again - time.monotonic()) > 0:
            if connection is not None and announced(connection):
                return
            bell.wait(left, connection)

    def _refresh(self, connection: Connection, collection: str) -> None:
        began = time.monotonic()
        try:
            self._look(connection, collection)
        except DatabaseUnreachable:
            raise
        except VecmigError:
            # It may pass, as a timeout does, or stay: the next search looks for itself, and says what is wrong.
            if collection in self._snapshots:
                self._refused[collection] = began


class NoSuchTag(Outdated, NotRecorded):
    """A tag that is not known: it may have come since, and may have been mistyped."""


def tag_row(snapshot: CollectionSnapshot, tag: str) -> TagRow:
    """Return the tag of a collection, as it is recorded.

    Raises:
        NoSuchTag: there is none of that name.
        Outdated: its vectors were retired.
    """
    row = snapshot.tags.get(tag)
    if row is None:
        raise NoSuchTag(
            f"Collection {snapshot.route.collection} has no tag {tag}.",
            hint=f"Its tags are: {', '.join(snapshot.tags) or 'none yet; run: vecmig upgrade head'}",
        )
    if row.state == "retired":
        raise Outdated(f"The vectors of {tag} were retired.", hint="Run: vecmig status")
    return row


def live_tag_of(snapshot: CollectionSnapshot) -> str:
    """Return the live tag of a collection.

    Raises:
        Outdated: none is live.
    """
    if snapshot.route.live is None:
        raise Outdated(f"No tag of {snapshot.route.collection} is live.", hint="Run: vecmig upgrade head")
    return snapshot.route.live
