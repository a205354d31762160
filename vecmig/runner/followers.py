"""The threads of ``sync --watch`` that keep the tags of one collection complete."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Final

from vecmig.backfill import LocalEngine, TagBackfill
from vecmig.backfill.tag_follower import FollowerEnded, PassResult, TagFollower
from vecmig.embedders import Embedder, Limiter
from vecmig.events import Event
from vecmig.freshness.stamps import Stamps
from vecmig.homes import open_home
from vecmig.operations.adopt import verify_adopted
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_fill, prepare_tag, run_options
from vecmig.runner.verbs.sync import account

#: Seconds between two times that what a tag takes over is counted.
_TELL_EVERY: Final = 60.0

Inbox = SimpleQueue[Event | PassResult | FollowerEnded]


class Followers:
    """One follower for each tag that is kept, and those that are finishing what is in flight."""

    def __init__(self, context: Context, inbox: Inbox) -> None:
        """Follow nothing yet; the followers tell the inbox."""
        self._context = context
        self._inbox = inbox
        self._by_tag: dict[str, TagFollower] = {}
        self._leaving: list[TagFollower] = []

    @property
    def tags(self) -> frozenset[str]:
        """The tags that are kept complete."""
        return frozenset(self._by_tag)

    @property
    def leaving(self) -> frozenset[str]:
        """The tags of those that are finishing."""
        return frozenset(follower.stamps.tag for follower in self._leaving)

    @property
    def busy(self) -> bool:
        """Whether one has something to do."""
        return any(follower.busy for follower in self._by_tag.values())

    def wake(self, *, whole: bool = False) -> None:
        """Have all of them look for what is pending; with ``whole`` in all records."""
        for follower in self._by_tag.values():
            follower.wake(whole=whole)

    def take_up(self, stamps: Stamps) -> None:
        """Begin to keep a tag complete."""
        spot_check = _SpotCheck(self._context, stamps)

        @contextmanager
        def open_engine(limited_by: Callable[[Limiter], None]) -> Iterator[LocalEngine]:
            with self._engine(stamps, limited_by, spot_check) as engine:
                yield engine

        follower = TagFollower(stamps, open_engine, self._inbox.put, self._inbox.put, after_pass=spot_check.after)
        self._by_tag[stamps.tag] = follower
        follower.start()

    def let_go(self, tag: str) -> None:
        """Keep a tag no longer; what is in flight is finished."""
        follower = self._by_tag.pop(tag)
        follower.stop()
        self._leaving.append(follower)

    def forget(self, follower: TagFollower) -> bool:
        """Forget one that has ended; return whether it was to go on."""
        if follower in self._leaving:
            self._leaving.remove(follower)
        kept = self._by_tag.get(follower.stamps.tag) is follower
        if kept:
            del self._by_tag[follower.stamps.tag]
        return kept

    def stop(self) -> None:
        """Ask all of them to end."""
        for follower in (*self._leaving, *self._by_tag.values()):
            follower.stop()

    def join(self) -> None:
        """Wait until all of them have ended."""
        for follower in (*self._leaving, *self._by_tag.values()):
            follower.join()

    @contextmanager
    def _engine(
        self, stamps: Stamps, limited_by: Callable[[Limiter], None], spot_check: _SpotCheck
    ) -> Iterator[LocalEngine]:
        """Open the engine of a follower; in the follower's thread."""
        context = replace(self._context, listener=self._inbox.put)
        name = stamps.source.collection.name
        with context.database.session() as connection:
            ledger = context.ledger(connection)
            home = open_home(ledger, stamps.source, stamps.tag)
            home.require()
            revision, what = account(ledger, name, stamps.tag)
        options = replace(run_options(context, "sync"), reconnect_wait=math.inf)
        with embedder_to_fill(context, name, stamps.tag, what=what, revision=revision) as embedder:
            limited_by(embedder.limiter)
            spot_check.embedder = embedder
            prepare = prepare_tag(context, embedder, stamps)
            backfill = TagBackfill(context.database, home.stamps, embedder, options, self._inbox.put, prepare)
            with LocalEngine(backfill) as engine:
                yield engine


class _SpotCheck:
    """Has what a tag takes over from the application compared with what its recipe gives, now and then."""

    def __init__(self, context: Context, stamps: Stamps) -> None:
        self._context = context
        self._stamps = stamps
        self._taken_over = 0
        self._next = 0.0
        self.embedder: Embedder | None = None

    def after(self, news: PassResult) -> None:
        """Tell of what was taken over, and have it looked at where it is time."""
        self._taken_over += news.done.adopted
        if self.embedder is None or not (news.whole or (self._taken_over and time.monotonic() >= self._next)):
            return
        verify_adopted(self._context, self._stamps, self.embedder, taken_over=self._taken_over)
        if self._taken_over:
            self._taken_over, self._next = 0, time.monotonic() + _TELL_EVERY
