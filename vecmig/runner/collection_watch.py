"""One collection of ``sync --watch``: its route, its changes and its objects are followed, whatever becomes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from vecmig.backfill.tag_follower import FollowerEnded, PassResult
from vecmig.errors import (
    Blocked,
    DatabaseError,
    DatabaseUnreachable,
    OutOfRoom,
    SourceMissing,
    TerminalEmbedderError,
    UsageError,
    VecmigError,
)
from vecmig.events import Event, Noted, StepDone, Waiting, Warned
from vecmig.freshness.change_tracking import has_function
from vecmig.freshness.changes import Look, forget_settled, lag, look
from vecmig.inventory.standing import Standing, standing
from vecmig.ledger.identity import SourceReplaced
from vecmig.operations.following import inspect
from vecmig.postgres.locks import runner_at_work
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.runner.failures import keep_failure, succeeded
from vecmig.runner.followers import Followers
from vecmig.runner.project import Project
from vecmig.runner.verbs.sync import build_indexes, gone, left_to_runner, prepare, record
from vecmig.runner.watched import (
    SCAN_EVERY,
    CollectionChanged,
    Done,
    bypassed,
    is_otherwise,
    require_same,
    waits,
)
from vecmig.source.source import Source

#: How many times as long as a pass over a source that nothing tells the changes of took the next one waits.
_SCAN_REST: Final = 20.0
#: Seconds between two looks at whether triggers, view, function and partitions are as they were, at least.
_STANDING_EVERY: Final = 3.0
#: Seconds until a collection that cannot go on is tried again: first, doubled, and at most.
_FIRST_RETRY: Final = 3.0
_LONGEST_RETRY: Final = 60.0
#: How many times as long as the outbox took to be cleared it is left alone then.
_FORGET_REST: Final = 10.0
#: Seconds after which it is told what was done, where the work has no end.
_TELL_EVERY: Final = 5.0
#: What a collection is left alone for.
_OF_ONE: Final = (UsageError, DatabaseError, TerminalEmbedderError)


@dataclass(slots=True, eq=False)
class CollectionWatch:
    """Has a follower for each tag that is to be kept, and makes good what somebody dropped."""

    name: str
    project: Project
    session: ReconnectingSession
    followers: Followers
    #: Seconds between two looks, and between two passes over the full source.
    every: float
    full_every: float
    #: From when on changes are news; None to take all that waits for news.
    since: str | None = None
    _source: Source | None = None
    #: Why its changes are found by scanning; empty where triggers tell of them.
    _scanned: str = ""
    #: Times of the clock: of the next pass over the full source, and before which the outbox is not cleared again.
    _full_at: float = 0.0
    _forget_at: float = 0.0
    #: How its objects stood when they were looked at last, and before when they are not looked at again.
    _standing: Standing | None = None
    _standing_at: float = 0.0
    #: Why it could not go on when it was tried last; the time before which it is left alone, and for how long then.
    trouble: VecmigError | None = None
    _again_at: float = 0.0
    _retry_after: float = _FIRST_RETRY
    #: The newest note of a full pass that was answered, and the time before which no other one is.
    _answered: int = 0
    _answer_at: float = 0.0
    #: What the followers did since it was told last.
    _done: Done = field(default_factory=Done)
    #: The tags of which it was told that they are kept complete.
    _told: set[str] = field(default_factory=set)
    #: The tags that are left to somebody else, as it was told.
    _left: dict[str, Noted] = field(default_factory=dict)

    def follow(self, seen: Look) -> None:
        """Do what the look at it asks for; where it cannot go on, it is left alone, and tried again ever more rarely.

        Raises:
            VecmigError: what is not for this collection alone, or what only a restart helps.
        """
        if time.monotonic() < self._again_at:
            return
        try:
            self._follow(seen)
        except (Blocked, CollectionChanged, OutOfRoom):
            raise
        except (UsageError, DatabaseError) as error:
            # a renaming may have come between two looks
            if isinstance(error, DatabaseError) and self._is_otherwise():
                self._let_go_of_all()
            else:
                self._leave(error)
        else:
            if not self.followers.tags:
                self.trouble = None

    @property
    def waits(self) -> bool:
        """Whether it may go on without a restart: a table may come back, and a person may say what a source is."""
        return isinstance(self.trouble, SourceMissing | SourceReplaced)

    def _is_otherwise(self) -> bool:
        """Whether its source is otherwise than when it was looked at; one that cannot be looked at is not."""
        try:
            return self._source is not None and is_otherwise(self.project.context, self._source)
        except (UsageError, DatabaseError):
            return False

    def _leave(self, error: VecmigError) -> None:
        """Leave it alone for a while, and say why, once."""
        context = self.project.context
        try:
            # what it is may be said better: a table that is gone, a text that names a column which is
            inspect(context, context.collections.collection(self.name))
        except (UsageError, DatabaseError) as better:
            error = better
        self._let_go_of_all()
        if self.trouble is None or self.trouble.message != error.message:
            self._retry_after = _FIRST_RETRY
            self._tell(Warned(f"{self.name} is left alone: {error.message} {error.hint}".strip()))
            keep_failure(self.project, "sync --watch", [self.name], error)
        self.trouble = error
        self._again_at = time.monotonic() + self._retry_after
        if not isinstance(error, SourceReplaced):
            # whoever answers what a source is waits for it to go on
            self._retry_after = min(2 * self._retry_after, _LONGEST_RETRY)

    def _follow(self, seen: Look) -> None:
        """Have a follower for each tag that is to be kept, and wake those for which there is something to do."""
        now = time.monotonic()
        tags = self._tags_to_keep(seen)
        for tag in self.followers.tags.difference(tags):
            self._let_go(tag)
            if tag not in self._left:
                self._tell(Noted(f"{self.name}: {tag} needs to be complete no more"))
        if not tags:
            return
        if due := self._full_pass_due(now, seen.full_pass):
            self._standing, self._standing_at = None, 0.0
        source = self._stand(seen)
        if due:
            self._wake(whole=True)
        elif seen.changed:
            self._wake()
        if now >= self._full_at:
            self.project.context.tidy(self.name)
            self._full_at = time.monotonic() + (max(SCAN_EVERY, self.every) if self._scanned else self.full_every)
        self.since = seen.at
        if new := [tag for tag in tags if tag not in self.followers.tags | self.followers.leaving]:
            # it may have adopted vectors since the source was looked at
            source = self._inspect(seen)
        for tag in new:
            self._take_up(source, tag)
        with self._tolerating():
            self._forget(source)

    def _full_pass_due(self, now: float, newest: int) -> bool:
        """Whether the first pass was begun, and another one is due: by the clock, or because it was noted as needed."""
        noted = newest > self._answered and now >= self._answer_at
        if noted:
            self._answered, self._answer_at = newest, now + SCAN_EVERY
        return self._full_at > 0 and (noted or now >= self._full_at)

    @contextmanager
    def _tolerating(self) -> Iterator[None]:
        """Pass over a tag whose vectors went away since the last look; the next one tells of it."""
        try:
            yield
        except DatabaseError:
            if self.followers.tags <= set(self._maintained()):
                raise

    def _maintained(self) -> tuple[str, ...]:
        schema = self.project.database.schema
        seen = self.session.run(lambda connection: look(connection, schema, {self.name: self.since})).get(self.name)
        return seen.route.maintained if seen else ()

    def _tags_to_keep(self, seen: Look) -> list[str]:
        """Return the tags to keep: the candidate only if its backfill is done, and no runner is at work on it."""
        candidate = seen.route.candidate
        left: Noted | None = None
        if candidate is not None and not seen.filled:
            left = Noted(f"{self.name}: {candidate} is left to its backfill, until that is complete")
        elif candidate is not None:
            schema = self.project.database.schema
            runner = self.session.run(lambda connection: runner_at_work(connection, schema, self.name))
            left = left_to_runner(self.name, candidate, runner) if runner else None
        if left is not None and candidate is not None and candidate not in self._left:
            self._tell(left)
        self._left = {candidate: left} if left is not None and candidate is not None else {}
        return [tag for tag in seen.route.maintained if tag not in self._left]

    # The source and its objects ----------------------------------------------------------------------------------

    def _stand(self, seen: Look) -> Source:
        """See every few seconds whether the objects are as they were, and make good what somebody dropped."""
        known, now = self._source, time.monotonic()
        if known is None:
            source = self._source = self._inspect(seen)
            self._mend(source, seen)
            return source
        require_same(known, seen)
        if now < self._standing_at:
            return known
        self._standing_at = now + max(_STANDING_EVERY, self.every)
        before, stands = self._standing, self.session.run(lambda connection: standing(connection, known))
        self._standing = stands
        if stands == before:
            return known
        source = self._inspect(seen)
        try:
            self._mend(source, seen)
        except Blocked as error:
            # what can be embedded is embedded meanwhile
            self._standing = None
            self.project.context.wait(error.message, _STANDING_EVERY)
        if before is not None and stands.parts != before.parts:
            # rows came or went with a table, and no trigger fires for that
            self._wake(whole=True)
        return source

    def _inspect(self, seen: Look) -> Source:
        """Look at the source; what works by the source as it was ends, and begins again with a pass over all of it.

        What collections.yaml says otherwise than the database is not for a service: it may be as old as the service,
        and would take the changes of a newer one back.
        """
        context = self.project.context
        before, source = self._source, inspect(context, context.collections.collection(self.name))
        require_same(source, seen)
        if before is not None and replace(before, columns=source.columns) != source:
            self._let_go_of_all()
        self._source = source
        return source

    def _mend(self, source: Source, seen: Look) -> None:
        # collections.yaml may have been followed by somebody else since the look
        # vecmig untrack beside it is meant: a sync that begins later, or an upgrade, installs the triggers again
        schema = self.project.database.schema
        untracked = (
            self._standing is not None
            and source.tracked
            and not self.session.run(lambda connection: has_function(connection, schema, self.name))
        )
        missing = [] if untracked else prepare(self.project.context, source, edits=False)
        build_indexes(self.project, source, (seen.route.live, seen.route.standby))
        scanned = source.scanned or ("it is untracked" if untracked else "")
        scanned = scanned or self.session.run(lambda connection: bypassed(connection, source))
        if scanned and scanned != self._scanned:
            self._tell(
                Noted(f"changes of {self.name} are found by scanning, every {SCAN_EVERY:g} s at most: {scanned}")
            )
        if scanned != self._scanned:
            self._full_at = 0.0
        if missing or scanned != self._scanned:
            self._wake(whole=True)
        self._scanned = scanned

    # Its followers -----------------------------------------------------------------------------------------------

    def _wake(self, *, whole: bool = False) -> None:
        self._done.begin()
        self.followers.wake(whole=whole)

    def _take_up(self, source: Source, tag: str) -> None:
        self._done.begin()
        self.followers.take_up(self.project.context.stamps(source, tag))
        if tag not in self._told:
            self._told.add(tag)
            self._tell(Noted(f"{self.name}: {tag} is kept complete"))

    def _let_go(self, tag: str) -> None:
        self.followers.let_go(tag)
        self._told.discard(tag)

    def _let_go_of_all(self) -> None:
        """Forget a source as it was; the next round begins again with a pass over all of it."""
        for tag in self.followers.tags:
            self._let_go(tag)
        self._source, self._full_at = None, 0.0

    def add(self, news: PassResult) -> None:
        """Enter what a follower has done."""
        tag, done = news.follower.stamps.tag, news.done
        self._done.add(tag, done)
        if done.is_progress and any(base == tag for _, base in news.follower.stamps.source.derived):
            self._wake()
        if self._scanned:
            self._full_at = max(self._full_at, time.monotonic() + _SCAN_REST * news.seconds)
        if news.whole:
            record(self.project.context, self.name, tag, done)
            succeeded(self.project, "sync --watch", [self.name])
            if self.trouble is not None:
                self.trouble, self._retry_after = None, _FIRST_RETRY
                self._tell(Noted(f"{self.name} goes on"))

    def ended(self, news: FollowerEnded) -> None:
        """Forget a follower that has ended; where it cannot begin again, leave the collection alone for a while.

        Raises:
            VecmigError: what is not for this collection alone, or what only a restart helps.
        """
        source, tag, failure = news.follower.stamps.source, news.follower.stamps.tag, news.failure
        kept = self.followers.forget(news.follower)
        if failure is None:
            return
        if isinstance(failure, DatabaseUnreachable | Blocked):
            self._tell(Waiting(failure.message.removesuffix(".")))
        elif isinstance(failure, DatabaseError) and tag not in self._maintained():
            self._tell(gone(self.name, tag))
        elif isinstance(failure, DatabaseError) and self._is_otherwise():
            if self._source == source:
                self._let_go_of_all()
        elif isinstance(failure, OutOfRoom) or not isinstance(failure, _OF_ONE):
            raise failure
        elif kept:
            self._leave(failure)

    # What is behind ----------------------------------------------------------------------------------------------

    def _forget(self, source: Source) -> None:
        """Clear the outbox of what the followers have done, and tell of it."""
        began, done = time.monotonic(), self._done
        if not done.to_forget or began < self._forget_at:
            return
        takes_over = source.followed is not None or source.derived
        if takes_over and self.followers.busy and began - done.began < _TELL_EVERY:
            # a follower that takes vectors over would pass by the rows of the outbox that are locked for this
            return
        schema = self.project.database.schema
        self.session.run(lambda connection: forget_settled(connection, source, schema))
        self._forget_at = time.monotonic() + _FORGET_REST * (time.monotonic() - began)
        done.to_forget = False
        if self.followers.busy and began - done.began < _TELL_EVERY:
            return
        if done.words:
            tags = [self.project.context.stamps(source, tag) for tag in self.followers.tags]
            behind = self.session.run(lambda connection: lag(connection, tags))
            summary = f"{self.name}: {done.words}; {waits(behind)}"
            self._tell(StepDone("sync", "", self.name, summary, time.monotonic() - done.began))
        self._done = Done()

    def _tell(self, event: Event) -> None:
        self.project.listener(event)
