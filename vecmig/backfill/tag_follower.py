"""Keep a tag complete for as long as it is wanted: embed what the outbox tells, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from vecmig.backfill.batches import whole_source
from vecmig.backfill.counters import Figures
from vecmig.backfill.local_engine import LocalEngine
from vecmig.backfill.run import finish_full_pass
from vecmig.embedders import Abandoned, Limiter
from vecmig.errors import EmbedderError, Interrupted
from vecmig.events import Listener
from vecmig.freshness.changes import free
from vecmig.freshness.pending import Page, read_changed
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import find_coverage
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key

#: Seconds between two looks at whether anything ended the run from outside.
_TICK: Final = 1.0
#: After a read of the outbox for nothing a follower rests this many times as long, up to this many seconds.
_REST: Final = 4.0
_LONGEST_REST: Final = 10.0
#: Seconds until records that were paid for and could not be written are tried again: first, doubled, and at most.
_FIRST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 60.0


@dataclass(frozen=True, slots=True)
class PassResult:
    """What one pass of a follower did."""

    follower: TagFollower
    done: Figures
    #: Whether it went over the full source, not only over the outbox.
    whole: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class FollowerEnded:
    """A follower came to its end, and why, unless it was told to stop."""

    follower: TagFollower
    failure: BaseException | None


#: Yields an open engine; told of its limiter before the first request.
OpenEngine = Callable[[Callable[[Limiter], None]], AbstractContextManager[LocalEngine]]


class TagFollower:
    """Keeps one tag complete: goes over the full source when it begins, then over the outbox when it is woken.

    Its thread holds the engine, so the model stays loaded and the connections stay open. What it does is told to
    ``tell``, from that thread.
    """

    def __init__(
        self,
        stamps: Stamps,
        open_engine: OpenEngine,
        tell: Callable[[PassResult | FollowerEnded], None],
        listener: Listener,
        *,
        after_pass: Callable[[PassResult], None],
    ) -> None:
        self.stamps = stamps
        self._open_engine = open_engine
        self._tell = tell
        self._listener = listener
        #: Called with each pass, in the follower's thread, while the engine is open.
        self._after_pass = after_pass
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"vecmig-follow-{stamps.tag}", daemon=True)
        #: What to do next: None for nothing, False for the outbox, True for the full source.
        self._next_pass: bool | None = True
        self._busy = True
        self._stopping = False
        self._limiter: Limiter | None = None
        #: Of the pass that goes on: records that were left out because they are held, and seconds spent on looking.
        self._held = 0
        self._looking = 0.0
        self._rest_until = 0.0
        self._again_at: float | None = None
        self._retry_after = _FIRST_RETRY
        #: When the last pass over the full source ended.
        self._whole_at: datetime | None = None

    def start(self) -> None:
        """Begin, with a pass over the full source."""
        self._thread.start()

    def wake(self, *, whole: bool = False) -> None:
        """Ask for another pass, after the one that may be going on."""
        with self._changed:
            self._next_pass = bool(self._next_pass) or whole
            self._busy = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Ask it to finish what is in flight, and to end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._limiter is not None:
            self._limiter.close()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether there is a pass to come to its end."""
        return self._busy

    # In its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            with self._open_engine(self._limited_by) as engine:
                with engine.session() as session:
                    engine.counters.expect(session.run(lambda connection: find_coverage(connection, self.stamps)), None)
                try:
                    while (whole := self._next()) is not None:
                        self._pass(engine, whole=whole)
                except EmbedderError as error:
                    error.state = error.state or engine.counters.kept
                    raise
        except BaseException as error:  # noqa: BLE001  # handed to whoever listens
            failure = error
        self._busy = False
        self._tell(
            FollowerEnded(self, None if self._stopping or isinstance(failure, Abandoned | Interrupted) else failure)
        )

    def _limited_by(self, limiter: Limiter) -> None:
        self._limiter = limiter
        if self._stopping:
            limiter.close()

    def _next(self) -> bool | None:
        """Wait for something to do, and take it; None at the end. A limiter that was closed is the end too."""
        with self._changed:
            while not self._stopping and not (self._limiter and self._limiter.closed):
                now = time.monotonic()
                if self._again_at is not None and self._again_at <= now:
                    self._next_pass = bool(self._next_pass)
                if self._next_pass is not None and self._rest_until <= now:
                    whole, self._next_pass, self._again_at = self._next_pass, None, None
                    return whole
                self._changed.wait(_TICK if self._next_pass is None else min(_TICK, self._rest_until - now))
        return None

    def _pass(self, engine: LocalEngine, *, whole: bool) -> None:
        began, counters = time.monotonic(), engine.counters
        counters.again()
        self._held, self._looking = 0, 0.0
        before = counters.figures
        try:
            noted = engine.take_over(whole=whole)
            self._held += engine.count_due()
            if self.stamps.buys:
                engine.one_pass(whole_source(self.stamps) if whole else self._outbox, whole=whole)
        except BaseException:
            self._tell(PassResult(self, counters.figures.since(before), False, time.monotonic() - began))
            raise
        if whole:
            with engine.session() as session:
                session.run(lambda connection: finish_full_pass(connection, self.stamps, self._listener, noted))
            self._whole_at = datetime.now(UTC)
        done = counters.figures.since(before)
        seconds = time.monotonic() - began
        self._plan(done)
        result = PassResult(self, done, whole, seconds)
        self._after_pass(result)
        counters.rest(self._idle)
        with self._changed:
            self._busy = self._next_pass is not None
        self._tell(result)

    @property
    def _idle(self) -> str:
        """Say why there is nothing to do, in the words of ``vecmig status``, and no more than is known."""
        noted = "no change is noted" if self.stamps.source.tracked else "no change was found"
        return f"{noted}; last full pass {self._whole_at:%Y-%m-%d %H:%M:%S} UTC" if self._whole_at else noted

    def _plan(self, done: Figures) -> None:
        """Say when to look again at what could not be written, and how long to rest after a look that was for nothing.

        Records that an application held were not paid for: they are looked at again in the next round. Those that
        were, and had changed or were held when they were to be written, are tried again ever more rarely.
        """
        idle = not (done.written or done.rejected or done.adopted)
        self._rest_until = time.monotonic() + (min(_REST * self._looking, _LONGEST_REST) if idle else 0.0)
        if done.refused:
            self._again_at = time.monotonic() + self._retry_after
            self._retry_after = min(self._retry_after * 2, _LONGEST_RETRY)
        else:
            self._retry_after = _FIRST_RETRY
            self._again_at = time.monotonic() + _FIRST_RETRY if self._held else None

    def _outbox(self, connection: Connection, after: Key | None, size: int) -> Page:
        began = time.monotonic()
        page = read_changed(connection, self.stamps, after, size)
        pending = tuple(free(connection, self.stamps, page.pending))
        self._looking += time.monotonic() - began
        self._held += len(page.pending) - len(pending)
        return replace(page, pending=pending)
