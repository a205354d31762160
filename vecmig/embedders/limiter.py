"""Say when the next request to a provider may go, and learn from its answers how many at once it bears."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from vecmig.embedders.minute import Minute, Sent
from vecmig.embedders.pulse import Pulse
from vecmig.embedders.rate_headers import wait_by_headers
from vecmig.errors import EmbedderError, TransientEmbedderError

#: Seconds that the headers of one answer may keep requests back.
_LONGEST_HOLD: Final = 60.0
#: Seconds between two looks at what a thread waits for, in case it is not woken.
_LOOK: Final = 1.0


class Abandoned(Exception):
    """The run is being ended: whoever waits for its turn gets none."""


class Spend(Protocol):
    """Keeps count of what requests cost."""

    def reserve(self, tokens: int) -> None:
        """Enter a request before it is sent; raises EmbedderError where it would pass the budget."""

    def settle(self, reserved: int, taken: int) -> None:
        """Correct it by what the answer says."""


@dataclass(slots=True)
class Ticket:
    """One request that was let through; whoever sends it writes down what the answer tells."""

    #: What was let through, the estimate that it is made of, and where it counts.
    tokens: int
    estimate: int
    sent: Sent
    #: Tokens that the provider counted; None where it does not say.
    taken: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    """The slot of one thread: it is kept from the first answer until what was paid for is written."""

    holds: bool = False
    paid: bool = False
    #: Whether it needs none.
    beside: bool = False


class Limiter:
    """Lets requests through: few enough in flight, few enough a minute with their tokens, none while it is held.

    The number in flight follows what the provider bears, as DCTCP's window does (RFC 8257): after each round of
    answers it grows by one, and shrinks by half the share of them that were refused. So a provider that is
    overloaded is relieved at once, and one that refuses a fifth of all requests for reasons of its own is not starved.
    A request that is refused waits by itself; it holds up no other.

    Any thread may call any method.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        spend: Spend | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        #: Told of each slot that is given back: one thread can use it, and to wake all of them costs more than sending.
        self._freed = threading.Condition(lock)
        self._mine = threading.local()
        self._clock = clock
        self._spend = spend
        self._requests = Minute(requests_per_minute)
        self._tokens = Minute(tokens_per_minute)
        self._most: float = concurrency or math.inf
        self._window: float = self._most
        self._taken = 0
        self._answers = self._refusals = 0
        self._not_before = 0.0
        self._max_rate: float | None = None
        self._paced_until = 0.0
        self._holds: dict[str, str] = {}
        self._kept_back: str | None = None
        self._pulse = Pulse(clock)
        self._paid_in_flight = 0
        #: When those that sleep wake up.
        self._tries: list[float] = []
        #: The most tokens that the provider counted for each that was estimated.
        self._scale = 1.0
        self._closed = False

    # What the run wants ------------------------------------------------------------------------------------------

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight now; 0 where nothing limits them."""
        return 0 if math.isinf(self._window) else max(1, int(self._window))

    @property
    def most(self) -> int:
        """The most requests in flight that were asked for; 0 where nothing limits them."""
        return 0 if math.isinf(self._most) else int(self._most)

    @property
    def tokens_per_minute(self) -> int | None:
        """The most tokens a minute; a request must not have more."""
        return self._tokens.limit

    @property
    def reason(self) -> str | None:
        """Why requests are kept back, other than that enough are in flight; None where they are not."""
        with self._changed:
            return next(iter(self._holds.values()), self._kept_back)

    @property
    def trouble(self) -> str | None:
        """How the last request failed, if none was answered since."""
        return self._pulse.trouble

    @property
    def silence(self) -> str | None:
        """For how long the provider has said nothing to what is in flight, in words; None where that is not long."""
        with self._changed:
            return self._pulse.silence()

    @property
    def waits_for(self) -> str | None:
        """What the provider is waited for, in words: its silence, or how it failed and when the next try is."""
        with self._changed:
            again = max(0.0, min(self._tries) - self._clock()) if self._tries else None
            return self._pulse.words(again)

    @property
    def in_vain(self) -> int:
        """How many requests that may be left are in flight at a dead provider: one has failed, and now it is silent.

        Those of batches that were paid for in part are not among them.
        """
        with self._changed:
            dead = self._pulse.trouble is not None and self._pulse.silence() is not None
            return self._pulse.in_flight - self._paid_in_flight if dead else 0

    def silent_for(self) -> float:
        """Return the seconds for which the provider has answered no request, counted from the first that failed."""
        with self._changed:
            return self._pulse.silent_for()

    @property
    def asleep(self) -> int:
        """How many threads ``sleep``, most of them until the next try of what was refused."""
        return len(self._tries)

    @property
    def closed(self) -> bool:
        """Whether nothing is let through any more."""
        return self._closed

    def tune(self, concurrency: int, max_rate: float | None = None) -> None:
        """Set the most requests in flight, and the most records a second that ``pace`` lets through."""
        with self._changed:
            if concurrency != self._most:
                unhindered = self._window >= self._most
                self._window = concurrency if unhindered else min(self._window, concurrency)
                self._most = concurrency
            if max_rate != self._max_rate:
                self._max_rate, self._paced_until = max_rate, 0.0
            self._wake_all()

    def hold(self, name: str, reason: str | None) -> None:
        """Keep all requests back for a reason; None lets them go on, as far as ``name`` is concerned."""
        with self._changed:
            if reason is None:
                self._holds.pop(name, None)
            else:
                self._holds[name] = reason
            self._pulse.hold(held=bool(self._holds))
            self._wake_all()

    def close(self) -> None:
        """Let nothing through any more; what is in flight, or was paid for in part, comes to its end."""
        with self._changed:
            self._closed = True
            self._wake_all()

    def pace(self, records: int) -> None:
        """Wait until that number of records does not pass the most records a second."""
        with self._changed:
            while self._max_rate is not None and (wait := self._paced_until - self._clock()) > 0:
                self._wait(wait, None)
            if self._max_rate is not None:
                self._paced_until = self._clock() + records / self._max_rate

    def stand_by(self) -> None:
        """Wait while everything is kept back for a reason, be it a pause or a throttle.

        Raises:
            Abandoned: the run is ended.
        """
        with self._changed:
            while self._holds:
                self._wait(_LOOK, None)
        if self._closed:
            raise Abandoned

    def second(self, most: int) -> int:
        """Return how many of ``most`` records may go in one second; at least one."""
        rate = self._max_rate
        return most if rate is None else max(1, min(most, int(rate)))

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run is ended.

        Raises:
            Abandoned: it is.
        """
        until = self._clock() + seconds
        with self._changed:
            self._tries.append(until)
            try:
                while (wait := until - self._clock()) > 0:
                    self._wait(wait, None)
            finally:
                self._tries.remove(until)

    # What requests do --------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keep this thread's slot from its first answer to the end of the block, in which that answer is written.

        So what was paid for and is not yet written is never more than the requests that may be in flight.
        """
        self._mine.batch = batch = _Batch()
        try:
            yield
        finally:
            self._mine.batch = None
            if batch.holds:
                self._give_back()

    @contextmanager
    def request(self, tokens: Callable[[], int], *, beside: bool = False) -> Iterator[Ticket]:
        """Wait for the turn of one request; the block sends it.

        Args:
            tokens: estimates them; called only where a limit or a budget needs to know.
            beside: whether it goes beside those that may be in flight, because these may wait for what it shows.

        Raises:
            Abandoned: the run is ended.
            EmbedderError: the budget would be passed.
        """
        estimate = tokens() if self._spend is not None or self._tokens.limit is not None else 0
        counted = math.ceil(estimate * self._scale)
        mine: _Batch | None = None if beside else getattr(self._mine, "batch", None)
        batch = mine or _Batch(beside=beside)
        ticket = Ticket(counted, estimate, self._enter(batch, counted))
        try:
            if self._spend is not None and counted:
                self._spend.reserve(counted)
            yield ticket
        except BaseException as error:
            self._failed(batch, ticket, error)
            raise
        self._answered(batch, ticket, inside=mine is not None)

    def _enter(self, batch: _Batch, tokens: int) -> Sent:
        with self._changed:
            while True:
                if self._closed and not batch.paid:
                    raise Abandoned
                if not (batch.holds or batch.beside) and self._taken >= max(1, int(min(self._window, self._taken + 1))):
                    self._wait(_LOOK, None, self._freed)
                    continue
                wait, reason = self._why_wait(tokens)
                if wait <= 0:
                    break
                self._wait(wait, reason)
            self._kept_back = None
            if not (batch.holds or batch.beside):
                batch.holds = True
                self._taken += 1
            self._requests.add(1, self._clock())
            sent = self._tokens.add(tokens, self._clock())
            self._pulse.sent(sent.at)
            self._paid_in_flight += batch.paid
            return sent

    def _why_wait(self, tokens: int) -> tuple[float, str | None]:
        """Return the seconds until the next look, 0 to go on, and why requests wait although a slot is free."""
        now = self._clock()
        if self._holds:
            return _LOOK, None
        if self._not_before > now:
            return self._not_before - now, "the provider's rate limit is used up"
        if (wait := self._requests.wait(1, now)) > 0:
            return wait, f"at most {self._requests.limit} requests a minute"
        if (wait := self._tokens.wait(tokens, now)) > 0:
            return wait, f"at most {self._tokens.limit} tokens a minute"
        return 0.0, None

    def _wait(self, seconds: float, reason: str | None, until: threading.Condition | None = None) -> None:
        if self._closed:
            raise Abandoned
        self._kept_back = reason or self._kept_back
        (until or self._changed).wait(min(seconds, _LOOK))
        if self._closed:
            raise Abandoned

    def _failed(self, batch: _Batch, ticket: Ticket, error: BaseException) -> None:
        """A request came to nothing; its slot is free unless its batch was already paid for in part."""
        if self._spend is not None and isinstance(error, EmbedderError) and error.unbilled:
            self._spend.settle(ticket.tokens, 0)
        with self._changed:
            self._pulse.failed(ticket.sent.at, error)
            self._paid_in_flight -= batch.paid
            if isinstance(error, TransientEmbedderError):
                self._learn(refused=True)
            if batch.holds and not batch.paid:
                batch.holds = False
                self._give_back()

    def _answered(self, batch: _Batch, ticket: Ticket, *, inside: bool) -> None:
        if self._spend is not None and ticket.taken is not None:
            self._spend.settle(ticket.tokens, ticket.taken)
        with self._changed:
            self._pulse.answered(ticket.sent.at)
            self._paid_in_flight -= batch.paid
            self._learn(refused=False)
            if ticket.taken is not None and ticket.estimate:
                self._scale = max(self._scale, ticket.taken / ticket.estimate)
                self._tokens.correct(ticket.sent, ticket.taken)
                self._changed.notify_all()
            # the next request will be about as large as this one
            wait = min(wait_by_headers(ticket.headers, ticket.taken or ticket.tokens), _LONGEST_HOLD)
            if wait > 0:
                self._not_before = max(self._not_before, self._clock() + wait)
            batch.paid = True
        if batch.holds and not inside:
            self._give_back()

    def _give_back(self) -> None:
        with self._changed:
            self._taken -= 1
            self._freed.notify()

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self._freed.notify_all()

    def _learn(self, *, refused: bool) -> None:
        if math.isinf(self._most):
            return
        self._answers += 1
        self._refusals += refused
        if self._answers < int(self._window):
            return
        share = self._refusals / self._answers
        grown = 0.0 if share == 1 else 1.0
        before = self._window
        self._window = min(max(before * (1 - share / 2) + grown, 1.0), self._most)
        if self._window > before:
            self._freed.notify_all()
        self._answers = self._refusals = 0
