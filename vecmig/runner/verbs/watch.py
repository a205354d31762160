"""The sync that goes on until it is told to stop: it follows the outbox, the routes, and whatever becomes of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Final

from vecmig.backfill import LocalEngine, TagBackfill
from vecmig.backfill.tag_follower import FollowerEnded, PassResult, TagFollower
from vecmig.config import Config
from vecmig.embedders import Limiter
from vecmig.errors import Blocked, DatabaseError, DatabaseUnreachable, Interrupted
from vecmig.events import Event, Listener, Noted, StepDone, Waiting, Warned, ignore
from vecmig.freshness.change_tracking import has_function
from vecmig.freshness.changes import Lag, Look, forget_settled, lag, look
from vecmig.freshness.stamps import Space
from vecmig.homes import open_home
from vecmig.inventory.standing import standing
from vecmig.ledger.identity import SourceReplaced
from vecmig.ledger.schema import ensure, installed_version
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_fill, prepare_tag, run_options
from vecmig.operations.following import inspect
from vecmig.postgres.locks import runner_at_work, runner_locks
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.runner.verbs.sync import account, build_indexes, gone, left_to_runner, prepare, project_for, record
from vecmig.runner.watched import SCAN_EVERY, Watched, bypassed, is_otherwise, require_same, waits
from vecmig.source.source import Source

#: How many times as long as a pass over a source that nothing tells the changes of took the next one waits.
_SCAN_REST: Final = 20.0
#: Seconds between two looks at whether triggers, view, function and partitions are as they were, at least.
_STANDING_EVERY: Final = 3.0
#: Seconds between two looks at whether a person has said what a source is.
_ASK_EVERY: Final = 3.0
#: Longest wait, in seconds, for a database that cannot be reached.
_LONGEST_PAUSE: Final = 5.0
#: How many times as long as the outbox took to be cleared it is left alone then.
_FORGET_REST: Final = 10.0
#: Seconds after which it is told what was done, where the work has no end.
_TELL_EVERY: Final = 5.0


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
        EmbedderError: the provider will refuse every further request, was waited for in vain, or the cost is reached.
        ConfigError: collections.yaml is not what the database has.
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
        return Service(project.holding(locks), names, every=every, full_every=full_every).run()


class Service:
    """Looks at the routes and the outbox, has a follower for each tag, and clears the outbox of what they have done."""

    def __init__(self, project: Project, names: Sequence[str], *, every: float, full_every: float) -> None:
        """Begin nothing yet."""
        self._inbox: SimpleQueue[Event | PassResult | FollowerEnded] = SimpleQueue()
        self._project = project
        self._every = every
        self._full_every = full_every or math.inf
        self._collections = {name: Watched(name) for name in names}
        self._leaving: list[TagFollower] = []
        self._session = ReconnectingSession(
            project.database,
            wait=math.inf,
            on_wait=project.context.wait,
            prepare=lambda _connection: self._ask_of_all(),
        )
        self._pause = 0.0
        self._written: dict[tuple[str, str], int] = {}

    @property
    def _context(self) -> Context:
        return self._project.context

    def run(self) -> dict[tuple[str, str], int]:
        """Go on until KeyboardInterrupt."""
        try:
            with self._session:
                while True:
                    self._patiently()
        except KeyboardInterrupt:
            self._tell(Noted("what is in flight is being finished"))
            self._stop()
        except BaseException:
            self._stop()
            raise
        return self._written

    # What one round does -----------------------------------------------------------------------------------------

    def _patiently(self) -> None:
        """Do one round; a database that is gone, and a lock, is waited for as long as it takes."""
        try:
            self._round()
            self._listen(self._every)
            self._pause = 0.0
        except (DatabaseUnreachable, Blocked) as error:
            self._pause = min(max(2 * self._pause, self._every), _LONGEST_PAUSE)
            self._context.wait(error.message, self._pause)
            time.sleep(self._pause)

    def _round(self) -> None:
        self._project.locks.ensure()
        for name, found in self._look().items():
            mine = self._collections[name]
            if mine.asked and time.monotonic() < mine.ask_at:
                continue
            try:
                self._follow(mine, found)
                mine.asked = ""
            except SourceReplaced as error:
                self._ask(mine, error)
            except Blocked:
                raise
            except DatabaseError:
                # a renaming may have come between two looks
                if mine.source is None or not is_otherwise(self._context, mine.source):
                    raise
                self._let_go_of_all(mine)

    def _ask(self, mine: Watched, error: SourceReplaced) -> None:
        """Leave a collection alone until a person has said what its source is, which is asked once."""
        self._let_go_of_all(mine)
        mine.ask_at = time.monotonic() + _ASK_EVERY
        if mine.asked != error.message:
            mine.asked = error.message
            self._tell(Warned(f"{error.message} {error.hint}"))

    def _let_go_of_all(self, mine: Watched) -> None:
        """Forget a source as it was; the next round begins again with a pass over all of it."""
        for tag in tuple(mine.followers):
            self._let_go(mine, tag)
        mine.source, mine.full_at = None, 0.0

    def _look(self) -> dict[str, Look]:
        def ask(connection: Connection) -> dict[str, Look]:
            since = {one.name: one.since for one in self._collections.values()}
            return look(connection, self._project.database.schema, since)

        return self._session.run(ask)

    def _ask_of_all(self) -> None:
        """Take all that waits for news: behind a new connection there may be another cluster, with smaller numbers.

        A database that was restored, or upgraded by a dump, counts its transactions from the beginning again.
        """
        for one in self._collections.values():
            one.since = None

    def _follow(self, mine: Watched, found: Look) -> None:
        """Have a follower for each tag that is to be kept, and wake those for which there is something to do."""
        now = time.monotonic()
        wanted = self._wanted(mine, found)
        for tag in set(mine.followers) - set(wanted):
            self._let_go(mine, tag)
            if tag not in mine.left:
                self._tell(Noted(f"{mine.name}: {tag} needs to be complete no more"))
        if not wanted:
            return
        if due := mine.full_pass_due(now, found.full_pass):
            mine.standing, mine.standing_at = None, 0.0
        source = self._stand(mine, found)
        if due:
            self._wake(mine, whole=True)
        elif found.changed:
            self._wake(mine)
        if now >= mine.full_at:
            mine.full_at = time.monotonic() + (max(SCAN_EVERY, self._every) if mine.scanned else self._full_every)
        mine.since = found.at
        leaving = {
            follower.space.tag for follower in self._leaving if follower.space.source.collection.name == mine.name
        }
        for tag in wanted:
            if tag not in mine.followers and tag not in leaving:
                self._take_up(mine, source, tag)
        with self._tolerating(mine):
            self._forget(mine, source)

    @contextmanager
    def _tolerating(self, mine: Watched) -> Iterator[None]:
        """Pass over a tag whose vectors went away since the last look; the next one tells of it."""
        try:
            yield
        except DatabaseError:
            if set(mine.followers) <= set(self._maintained(mine.name)):
                raise

    def _wanted(self, mine: Watched, found: Look) -> list[str]:
        """Return the tags to keep: the candidate only if its backfill is done, and no runner is at work on it."""
        candidate = found.route.candidate
        left: Noted | None = None
        if candidate is not None and not found.filled:
            left = Noted(f"{candidate} is left to its backfill, until that is complete")
        elif candidate is not None:
            schema = self._project.database.schema
            runner = self._session.run(lambda connection: runner_at_work(connection, schema, mine.name))
            left = left_to_runner(candidate, runner) if runner else None
        if left is not None and candidate is not None and candidate not in mine.left:
            self._tell(left)
        mine.left = {candidate: left} if left is not None and candidate is not None else {}
        return [tag for tag in found.route.maintained if tag not in mine.left]

    def _stand(self, mine: Watched, found: Look) -> Source:
        """See every few seconds whether the objects are as they were, and make good what somebody dropped."""
        known, now = mine.source, time.monotonic()
        if known is None:
            source = mine.source = self._inspect(mine, found)
            self._mend(mine, source, found)
            return source
        require_same(known, found)
        if now < mine.standing_at:
            return known
        mine.standing_at = now + max(_STANDING_EVERY, self._every)
        seen = self._session.run(lambda connection: standing(connection, known))
        before, mine.standing = mine.standing, seen
        if seen == before:
            return known
        source = self._inspect(mine, found)
        try:
            self._mend(mine, source, found)
        except Blocked as error:
            # what can be embedded is embedded meanwhile
            mine.standing = None
            self._context.wait(error.message, _STANDING_EVERY)
        if before is not None and seen.parts != before.parts:
            # rows came or went with a table, and no trigger fires for that
            self._wake(mine, whole=True)
        return source

    def _inspect(self, mine: Watched, found: Look) -> Source:
        """Look at the source; what works by the source as it was ends, and begins again with a pass over all of it.

        What collections.yaml says otherwise than the database is not for a service: it may be as old as the service,
        and would take the changes of a newer one back.
        """
        before, source = mine.source, inspect(self._context, self._context.collections.collection(mine.name))
        require_same(source, found)
        if before is not None and replace(before, columns=source.columns) != source:
            mine.full_at = 0.0
            for tag in tuple(mine.followers):
                self._let_go(mine, tag)
        mine.source = source
        return source

    def _mend(self, mine: Watched, source: Source, found: Look) -> None:
        # collections.yaml may have been followed by somebody else since the look
        # vecmig untrack beside it is meant: a sync that begins later, or an upgrade, installs the triggers again
        untracked = mine.standing is not None and source.tracked and self._is_untracked(mine)
        missing = [] if untracked else prepare(self._context, source, edits=False)
        build_indexes(self._project, source, (found.route.live, found.route.standby))
        scanned = source.scanned or ("it is untracked" if untracked else "")
        scanned = scanned or self._session.run(lambda connection: bypassed(connection, source))
        if scanned and scanned != mine.scanned:
            self._tell(
                Noted(f"changes of {mine.name} are found by scanning, every {SCAN_EVERY:g} s at most: {scanned}")
            )
        if scanned != mine.scanned:
            mine.full_at = 0.0
        if missing or scanned != mine.scanned:
            self._wake(mine, whole=True)
        mine.scanned = scanned

    def _is_untracked(self, mine: Watched) -> bool:
        schema = self._project.database.schema
        return not self._session.run(lambda connection: has_function(connection, schema, mine.name))

    def _wake(self, mine: Watched, *, whole: bool = False) -> None:
        mine.began = mine.began or time.monotonic()
        for follower in mine.followers.values():
            follower.wake(whole=whole)

    def _take_up(self, mine: Watched, source: Source, tag: str) -> None:
        space = self._context.space(source, tag)
        follower = TagFollower(
            space, lambda limited_by: self._engine(space, limited_by), self._inbox.put, self._inbox.put
        )
        mine.followers[tag] = follower
        mine.began = mine.began or time.monotonic()
        follower.start()
        if tag not in mine.told:
            mine.told.add(tag)
            self._tell(Noted(f"{mine.name}: {tag} is kept complete"))

    def _let_go(self, mine: Watched, tag: str) -> None:
        follower = mine.followers.pop(tag)
        mine.told.discard(tag)
        follower.stop()
        self._leaving.append(follower)

    @contextmanager
    def _engine(self, space: Space, limited_by: Callable[[Limiter], None]) -> Iterator[LocalEngine]:
        """Open the engine of a follower; in the follower's thread."""
        context = replace(self._context, listener=self._inbox.put)
        name = space.source.collection.name
        with context.database.session() as connection:
            ledger = context.ledger(connection)
            home = open_home(ledger, space.source, space.tag)
            home.require()
            revision, what = account(ledger, name, space.tag)
        options = replace(run_options(context, "sync"), reconnect_wait=math.inf)
        with embedder_to_fill(context, name, space.tag, what=what, revision=revision) as embedder:
            limited_by(embedder.limiter)
            prepare = prepare_tag(context, embedder, space)
            backfill = TagBackfill(context.database, home.stamps, embedder, options, self._inbox.put, prepare)
            with LocalEngine(backfill) as engine:
                yield engine

    # What the followers tell ---------------------------------------------------------------------------------------

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
                self._add(news)
            case FollowerEnded():
                self._ended(news)
            case _:
                self._project.listener(news)

    def _tell(self, event: Event) -> None:
        self._project.listener(event)

    def _add(self, news: PassResult) -> None:
        space = news.follower.space
        name, tag = space.source.collection.name, space.tag
        mine, done = self._collections[name], news.done
        mine.to_forget = True
        self._written[name, tag] = self._written.get((name, tag), 0) + done.written
        mine.done[tag] = mine.done.get(tag, 0) + done.written
        mine.rejected += done.rejected
        if mine.scanned:
            mine.full_at = max(mine.full_at, time.monotonic() + _SCAN_REST * news.seconds)
        if news.whole and (done.written or done.rejected):
            record(self._context, name, tag, done.written, done.rejected)

    def _ended(self, news: FollowerEnded) -> None:
        follower = news.follower
        name, tag = follower.space.source.collection.name, follower.space.tag
        if follower in self._leaving:
            self._leaving.remove(follower)
        mine = self._collections[name]
        if mine.followers.get(tag) is follower:
            del mine.followers[tag]
        failure = news.failure
        if failure is None:
            return
        if isinstance(failure, DatabaseUnreachable | Blocked):
            self._tell(Waiting(failure.message.removesuffix(".")))
        elif isinstance(failure, DatabaseError) and tag not in self._maintained(name):
            self._tell(gone(name, tag))
        elif isinstance(failure, DatabaseError) and is_otherwise(self._context, follower.space.source):
            if mine.source == follower.space.source:
                self._let_go_of_all(mine)
        else:
            if isinstance(failure, DatabaseError):
                # what it was may be said better: a text that names a column which is gone
                inspect(self._context, self._context.collections.collection(name))
            raise failure

    def _maintained(self, name: str) -> tuple[str, ...]:
        found = self._look().get(name)
        return found.route.maintained if found else ()

    # What is behind ----------------------------------------------------------------------------------------------

    def _forget(self, mine: Watched, source: Source) -> None:
        """Clear the outbox of what the followers have done, and tell of it."""
        began = time.monotonic()
        if not mine.to_forget or began < mine.forget_at:
            return
        schema = self._project.database.schema
        self._session.run(lambda connection: forget_settled(connection, source, schema))
        mine.forget_at = time.monotonic() + _FORGET_REST * (time.monotonic() - began)
        mine.to_forget = False
        if any(follower.busy for follower in mine.followers.values()) and began - mine.began < _TELL_EVERY:
            return
        if any(mine.done.values()) or mine.rejected:
            self._tell(StepDone("sync", "", mine.name, self._summary(mine, source), time.monotonic() - mine.began))
        mine.done, mine.rejected, mine.began = {}, 0, 0.0

    def _summary(self, mine: Watched, source: Source) -> str:
        spaces = [self._context.space(source, tag) for tag in mine.followers]

        def measure(connection: Connection) -> Lag:
            return lag(connection, spaces)

        behind = self._session.run(measure)
        parts = [f"{count:,} embedded under {tag}" for tag, count in mine.done.items() if count]
        if mine.rejected:
            parts.append(f"{mine.rejected:,} rejected")
        return f"{mine.name}: {', '.join(parts)}; {waits(behind)}"

    # The end -----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Let the followers finish what is in flight.

        Raises:
            Interrupted: by KeyboardInterrupt meanwhile.
        """
        followers = [
            *self._leaving,
            *(follower for one in self._collections.values() for follower in one.followers.values()),
        ]
        try:
            for follower in followers:
                follower.stop()
            for follower in followers:
                follower.join()
        except KeyboardInterrupt:
            state = "What was written stays; requests in flight were left, and are sent again next time."
            raise Interrupted("Interrupted.", state=state, hint="To go on, run the same command again.") from None
        while not self._inbox.empty():
            news = self._inbox.get()
            if isinstance(news, PassResult):
                space, done = news.follower.space, news.done
                place = space.source.collection.name, space.tag
                self._written[place] = self._written.get(place, 0) + done.written
