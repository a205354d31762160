"""The threads of ``sync --watch`` that keep the tags of one collection complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue

from vecmig.backfill import LocalEngine, TagBackfill
from vecmig.backfill.tag_follower import FollowerEnded, PassResult, TagFollower
from vecmig.embedders import Limiter
from vecmig.events import Event
from vecmig.freshness.stamps import Stamps
from vecmig.homes import open_home
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_fill, prepare_tag, run_options
from vecmig.runner.verbs.sync import account

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
        follower = TagFollower(
            stamps, lambda limited_by: self._engine(stamps, limited_by), self._inbox.put, self._inbox.put
        )
        self._by_tag[stamps.tag] = follower
        follower.start()

    def let_go(self, tag: str) -> None:
        """Keep a tag no longer; what is in flight is finished."""
        follower = self._by_tag.pop(tag)
        follower.stop()
        self._leaving.append(follower)

    def forget(self, follower: TagFollower) -> None:
        """Forget one that has ended."""
        if follower in self._leaving:
            self._leaving.remove(follower)
        if self._by_tag.get(follower.stamps.tag) is follower:
            del self._by_tag[follower.stamps.tag]

    def stop(self) -> None:
        """Ask all of them to end."""
        for follower in (*self._leaving, *self._by_tag.values()):
            follower.stop()

    def join(self) -> None:
        """Wait until all of them have ended."""
        for follower in (*self._leaving, *self._by_tag.values()):
            follower.join()

    @contextmanager
    def _engine(self, stamps: Stamps, limited_by: Callable[[Limiter], None]) -> Iterator[LocalEngine]:
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
            prepare = prepare_tag(context, embedder, stamps)
            backfill = TagBackfill(context.database, home.stamps, embedder, options, self._inbox.put, prepare)
            with LocalEngine(backfill) as engine:
                yield engine
