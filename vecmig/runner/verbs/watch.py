"""The sync that goes on until it is told to stop: it follows the outbox, the routes, and whatever becomes of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Final

from vecmig.backfill.tag_follower import FollowerEnded, PassResult
from vecmig.config import Config
from vecmig.errors import Blocked, DatabaseUnreachable, Interrupted, VecmigError, together
from vecmig.events import Event, Listener, Noted, ignore
from vecmig.freshness.changes import Look, look
from vecmig.ledger.install import ensure
from vecmig.ledger.schema import installed_version
from vecmig.postgres.locks import runner_locks
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.runner.collection_watch import CollectionWatch
from vecmig.runner.failures import failures_kept
from vecmig.runner.followers import Followers, Inbox
from vecmig.runner.project import Project
from vecmig.runner.verbs.sync import project_for

#: Longest wait, in seconds, for a database that cannot be reached.
_LONGEST_PAUSE: Final = 5.0


def watch_sync(
    config: Config,
    collections: Sequence[str] = (),
    *,
    every: float = 1.0,
    full_every: float = 3600.0,
    provider_wait: float = math.inf,
    max_cost: float | None = None,
    listener: Listener = ignore,
) -> dict[tuple[str, str], int]:
    """Keep every tag complete until KeyboardInterrupt, which ends it in order: what is in flight is finished.

    Args:
        config: the project.
        collections: which ones; empty for all in collections.yaml, those included that get their first tag later.
        every: seconds between two looks at the outbox.
        full_every: seconds between two passes over the full source; 0 for one at the beginning only.
        provider_wait: seconds for which a provider that answers no request is waited for, whatever the project says.
        max_cost: US dollars that this run may cost, all tags together.
        listener: told of what happens, from this thread; only Waiting may come from another one.

    Returns:
        How many records were embedded, by collection and tag.

    Raises:
        LockHeld: another sync is at work, or took over.
        EmbedderError: a provider was waited for in vain, or the cost is reached.
        ConfigError: collections.yaml is not what the database has.
        VecmigError: the worst of why each collection cannot go on; one alone is left alone, and tried again.
        DatabaseUnreachable: at the beginning; later it is waited for.
        Interrupted: by a second KeyboardInterrupt, before all that was in flight came to its end.
    """
    project = project_for(replace(config, provider_wait=provider_wait), listener, max_cost)
    names = [project.collections.collection(name).name for name in collections or project.collections.collections]
    with project.database.session() as connection:
        installed = installed_version(connection, project.database.schema)
    if installed:
        ensure(project.database)
    with runner_locks(project.database, names, what="sync --watch", kind="sync") as locks:
        holding = project.holding(locks)
        try:
            # of each collection that was left alone it is kept already
            with failures_kept(holding, "sync --watch", names, but=_NoneGoesOn):
                return Service(holding, names, every=every, full_every=full_every).run()
        except _NoneGoesOn as end:
            raise end.why from None


class _NoneGoesOn(VecmigError):
    """Every collection was left alone."""

    def __init__(self, why: VecmigError) -> None:
        super().__init__(why.message)
        self.why = why


class Service:
    """Looks at the routes and the outbox again and again, and has each collection followed by what is seen."""

    def __init__(self, project: Project, names: Sequence[str], *, every: float, full_every: float) -> None:
        """Begin nothing yet."""
        self._inbox: Inbox = SimpleQueue()
        self._project = project
        self._every = every
        self._session = ReconnectingSession(
            project.database,
            wait=math.inf,
            on_wait=project.context.wait,
            prepare=lambda _connection: self._ask_of_all(),
        )
        self._collections = {
            name: CollectionWatch(
                name,
                project,
                self._session,
                Followers(project.context, self._inbox),
                every=every,
                full_every=full_every or math.inf,
            )
            for name in names
        }
        self._pause = 0.0
        self._written: Counter[tuple[str, str]] = Counter()

    def run(self) -> dict[tuple[str, str], int]:
        """Go on until KeyboardInterrupt."""
        try:
            with self._session:
                while True:
                    self._patiently()
        except KeyboardInterrupt:
            self._project.listener(Noted("what is in flight is being finished"))
            self._stop()
        except BaseException:
            self._stop()
            raise
        return dict(self._written)

    def _patiently(self) -> None:
        """Do one round; a database that is gone, and a lock, is waited for as long as it takes."""
        try:
            self._project.locks.ensure()
            for name, seen in self._look().items():
                self._collections[name].follow(seen)
            self._end_if_none_goes_on()
            self._listen(self._every)
            self._end_if_none_goes_on()
            self._pause = 0.0
        except (DatabaseUnreachable, Blocked) as error:
            self._pause = min(max(2 * self._pause, self._every), _LONGEST_PAUSE)
            self._project.context.wait(error.message, self._pause)
            time.sleep(self._pause)

    def _end_if_none_goes_on(self) -> None:
        """End where every collection is left alone, and none of them for what may be over without a restart."""
        troubles = [one.trouble for one in self._collections.values() if one.trouble is not None]
        if len(troubles) == len(self._collections) and not any(one.waits for one in self._collections.values()):
            raise _NoneGoesOn(together(troubles))

    def _look(self) -> dict[str, Look]:
        def ask(connection: Connection) -> dict[str, Look]:
            since = {collection.name: collection.since for collection in self._collections.values()}
            return look(connection, self._project.database.schema, since)

        return self._session.run(ask)

    def _ask_of_all(self) -> None:
        """Take all that waits for news: behind a new connection there may be another cluster, with smaller numbers.

        A database that was restored, or upgraded by a dump, counts its transactions from the beginning again.
        """
        for collection in self._collections.values():
            collection.since = None

    def _listen(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._hear(self._inbox.get(timeout=left))
            except Empty:
                return

    def _hear(self, news: Event | PassResult | FollowerEnded) -> None:
        match news:
            case PassResult():
                self._count(news)
                self._collections[news.follower.stamps.source.collection.name].add(news)
            case FollowerEnded():
                self._collections[news.follower.stamps.source.collection.name].ended(news)
            case _:
                self._project.listener(news)

    def _count(self, news: PassResult) -> None:
        stamps = news.follower.stamps
        self._written[stamps.source.collection.name, stamps.tag] += news.done.written

    def _stop(self) -> None:
        """Let the followers finish what is in flight.

        Raises:
            Interrupted: by KeyboardInterrupt meanwhile.
        """
        try:
            for collection in self._collections.values():
                collection.followers.stop()
            for collection in self._collections.values():
                collection.followers.join()
        except KeyboardInterrupt:
            state = "What was written stays; requests in flight were left, and are sent again next time."
            raise Interrupted("Interrupted.", state=state, hint="To go on, run the same command again.") from None
        while not self._inbox.empty():
            news = self._inbox.get()
            if isinstance(news, PassResult):
                self._count(news)
