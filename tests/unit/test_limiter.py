"""What lets requests through: slots, minutes, headers, holds; on a clock that moves only when somebody waits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.embedders import Abandoned, Limiter
from vecmig.embedders.rate_headers import wait_by_headers
from vecmig.errors import BudgetSpent, PoisonInputError, TerminalEmbedderError, TransientEmbedderError


@dataclass
class Clock:
    """A clock, and the condition on which its limiter waits: to wait is to let time pass."""

    now: float = 1000.0
    waited: list[float] = field(default_factory=list)
    #: Runs at each wait.
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def wait(self, timeout: float) -> None:
        """Let time pass."""
        assert 0 < timeout <= 1, "somebody might have changed something without a word"
        self.waited.append(timeout)
        self.now += timeout
        self.meanwhile()

    def notify(self) -> None: ...

    def notify_all(self) -> None: ...


@dataclass
class Purse:
    """Counts what is reserved and settled; has no more than so many tokens."""

    most: float = float("inf")
    reserved: int = 0
    settled: list[tuple[int, int]] = field(default_factory=list)

    def reserve(self, tokens: int) -> None:
        """Enter a request."""
        if self.reserved + tokens > self.most:
            raise BudgetSpent("No money is left.")
        self.reserved += tokens

    def settle(self, reserved: int, taken: int) -> None:
        """Correct it."""
        self.settled.append((reserved, taken))
        self.reserved += taken - reserved


@pytest.fixture
def clock() -> Clock:
    """A clock at 1000 seconds."""
    return Clock()


def limiter_on(clock: Clock, *args: Any, **options: Any) -> Limiter:
    """Give a limiter that lives by a clock of ours."""
    limiter = Limiter(*args, clock=clock, **options)
    limiter._changed = limiter._freed = clock  # type: ignore[assignment]
    return limiter


def send(
    limiter: Limiter, tokens: int = 1, *, taken: int | None = None, headers: Mapping[str, str] | None = None
) -> None:
    """Take one request through that is answered."""
    with limiter.request(lambda: tokens) as ticket:
        ticket.taken, ticket.headers = taken, headers or {}


def fail(limiter: Limiter, error: BaseException | None = None, tokens: int = 1) -> None:
    """Take one request through that comes to nothing."""
    problem = error or TransientEmbedderError("Busy.")
    with suppress(type(problem)), limiter.request(lambda: tokens):
        raise problem


# Requests in flight --------------------------------------------------------------------------------------------------


def test_no_more_requests_are_in_flight_than_were_asked_for() -> None:
    limiter = Limiter(3)
    inside, most = 0, 0
    count = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with limiter.request(lambda: 1):
                with count:
                    inside += 1
                    most = max(most, inside)
                with count:
                    inside -= 1

    together(work, 12)
    assert 1 <= most <= 3
    assert limiter._taken == 0


def test_nothing_limits_what_nobody_limited(clock: Clock) -> None:
    limiter = limiter_on(clock)
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(limiter.request(lambda: 10**9))
    assert clock.waited == []
    assert limiter.concurrency == limiter.most == 0


def test_a_window_follows_what_the_provider_bears(clock: Clock) -> None:
    limiter = limiter_on(clock, 16)
    assert limiter.concurrency == 16
    for _ in range(200):
        fail(limiter)
    assert limiter.concurrency == 1, "a provider that refuses everything is asked one thing at a time"
    for _ in range(20):
        send(limiter)
    assert 2 <= limiter.concurrency < 16
    for _ in range(300):
        send(limiter)
    assert limiter.concurrency == 16, "and it is asked for more again once it answers"


def test_one_that_refuses_a_fifth_for_reasons_of_its_own_is_not_starved(clock: Clock) -> None:
    limiter = limiter_on(clock, 16)
    draw = random.Random(7)
    seen = []
    for number in range(20_000):
        fail(limiter) if draw.random() < 0.2 else send(limiter)
        if number > 1_000:
            seen.append(limiter.concurrency)
    assert 8 <= sum(seen) / len(seen) <= 12
    assert min(seen) >= 5


@pytest.mark.parametrize("error", [TerminalEmbedderError("No."), PoisonInputError("Not this."), KeyboardInterrupt()])
def test_only_a_busy_provider_makes_the_window_smaller(clock: Clock, error: BaseException) -> None:
    limiter = limiter_on(clock, 8)
    for _ in range(100):
        fail(limiter, error)
    assert limiter.concurrency == 8
    assert limiter.trouble is None


def test_tuning_takes_effect_at_once_and_a_window_that_shrank_stays_small(clock: Clock) -> None:
    limiter = limiter_on(clock, 16)
    limiter.tune(4)
    assert (limiter.concurrency, limiter.most) == (4, 4)
    limiter.tune(32)
    assert (limiter.concurrency, limiter.most) == (32, 32)
    for _ in range(500):
        fail(limiter)
    limiter.tune(8)
    assert (limiter.concurrency, limiter.most) == (1, 8)


def test_how_a_request_failed_is_known_until_one_is_answered(clock: Clock) -> None:
    limiter = limiter_on(clock, 2)
    fail(limiter)
    assert limiter.trouble == "Busy"
    send(limiter)
    assert limiter.trouble is None


def test_a_provider_is_silent_from_the_first_request_that_fails_until_any_is_answered(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    clock.now += 500
    assert limiter.silent_for() == 0, "nobody has asked it"
    with suppress(TransientEmbedderError), limiter.request(lambda: 1):
        clock.now += 60
        raise TransientEmbedderError("It did not answer in time.")
    assert limiter.silent_for() == 60, "its time in flight counts"
    clock.now += 40
    fail(limiter)
    assert limiter.silent_for() == 100
    send(limiter)
    assert limiter.silent_for() == 0
    with suppress(TransientEmbedderError), limiter.request(lambda: 1):
        clock.now += 30
        send(limiter)
        clock.now += 5
        raise TransientEmbedderError("Busy.")
    assert limiter.silent_for() == 5, "it has answered another one meanwhile"
    fail(limiter, PoisonInputError("Not this."))
    assert limiter.silent_for() == 0, "whoever refuses a text has read it"


def test_while_requests_are_held_back_nobody_waits_for_the_provider(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    fail(limiter)
    clock.now += 10
    limiter.hold("pause", "paused by ann")
    clock.now += 3600
    limiter.hold("throttle", "a replica is behind")
    assert limiter.silent_for() == 10
    limiter.hold("pause", None)
    clock.now += 60
    limiter.hold("throttle", None)
    clock.now += 7
    assert limiter.silent_for() == 17
    send(limiter)
    with suppress(TransientEmbedderError), limiter.request(lambda: 1):
        clock.now += 5
        limiter.hold("pause", "paused by ann")
        clock.now += 50
        raise TransientEmbedderError("It did not answer in time.")
    assert limiter.silent_for() == 5
    clock.now += 50
    limiter.hold("pause", None)
    clock.now += 3
    assert limiter.silent_for() == 8


def test_how_long_what_is_in_flight_has_no_answer_is_known(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    assert limiter.silence is None
    seen: list[str | None] = []
    with limiter.request(lambda: 1):
        for seconds in (9, 25):
            clock.now += seconds
            seen.append(limiter.silence)
        send(limiter)
        for seconds in (0, 12):
            clock.now += seconds
            seen.append(limiter.silence)
    clock.now += 60
    seen.append(limiter.silence)
    answers_others = nothing_in_flight = None
    assert seen == [
        None,
        "the provider has not answered for 34 s",
        answers_others,
        "the provider has not answered for 12 s",
        nothing_in_flight,
    ]


def test_when_the_next_try_is_is_known(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    seen: list[str | None] = []
    clock.meanwhile = lambda: seen.append(limiter.waits_for)
    limiter.sleep(1)
    assert seen == [None], "nothing has failed"
    fail(limiter)
    limiter.sleep(2.5)
    assert seen[1:] == [f"Busy; next try {when}" for when in ("in 1.5 s", "in 0.5 s", "now")]
    assert limiter.waits_for == "Busy"
    with limiter.request(lambda: 1):
        clock.now += 34
        seen.append(limiter.waits_for)
    assert seen[-1] == "the provider has not answered for 34 s; before that: Busy"
    assert limiter.waits_for is None


def test_what_is_in_flight_at_a_dead_provider_is_in_vain(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    seen: list[int] = []

    def silent_for(seconds: float) -> None:
        clock.now += seconds
        seen.append(limiter.in_vain)

    with ExitStack() as in_flight:
        for _ in range(2):
            in_flight.enter_context(limiter.request(lambda: 1))
        silent_for(60)
        fail(limiter)
        silent_for(9)
        silent_for(2)
        send(limiter)
        silent_for(60)
    none_has_failed, it_may_answer_yet, it_answers_others = 0, 0, 0
    assert seen == [none_has_failed, it_may_answer_yet, 2, it_answers_others]
    with limiter.batch():
        send(limiter)
        with limiter.request(lambda: 1):
            fail_beside(limiter)
            silent_for(60)
    assert seen[-1] == 0, "a part of its batch is paid for"


def fail_beside(limiter: Limiter) -> None:
    """Let a request of another thread come to nothing."""
    beside = threading.Thread(target=fail, args=(limiter,))
    beside.start()
    beside.join()


# Batches -------------------------------------------------------------------------------------------------------------


def test_a_batch_keeps_its_slot_from_its_first_answer_until_it_is_written(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    with limiter.batch():
        assert limiter._taken == 0, "nothing was sent yet"
        with limiter.request(lambda: 1):
            assert limiter._taken == 1
        assert limiter._taken == 1, "it was paid for, and is not written"
        send(limiter)
        fail(limiter)
        assert limiter._taken == 1, "what its first request gave is still not written"
    assert limiter._taken == 0


def test_a_batch_of_which_nothing_was_paid_gives_its_slot_to_others_while_it_waits(clock: Clock) -> None:
    limiter = limiter_on(clock, 1)
    with limiter.batch():
        fail(limiter)
        assert limiter._taken == 0
        send(limiter)
        assert limiter._taken == 1
    assert limiter._taken == 0


OUTCOMES = ("answered", "busy", "poison", "no money", "interrupted")


@given(
    st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(OUTCOMES), max_size=6)), max_size=20)
)
def test_no_slot_is_ever_leaked(most: int, batches: list[tuple[bool, list[str]]]) -> None:
    clock = Clock()
    purse = Purse()
    limiter = limiter_on(clock, most, spend=purse)
    problems: dict[str, BaseException] = {
        "busy": TransientEmbedderError("Busy."),
        "poison": PoisonInputError("Not this."),
        "interrupted": KeyboardInterrupt(),
    }
    for written, outcomes in batches:
        with suppress(ZeroDivisionError), limiter.batch():
            for outcome in outcomes:
                purse.most = 0 if outcome == "no money" else float("inf")
                if outcome in problems:
                    fail(limiter, problems[outcome])
                else:
                    with suppress(BudgetSpent):
                        send(limiter)
                assert 0 <= limiter._taken <= 1
            assert written or 1 / 0
        assert limiter._taken == 0
    assert clock.waited == []


def test_no_slot_is_leaked_by_many_threads() -> None:
    limiter = Limiter(4)
    seeds = iter(range(1_000))
    over: list[int] = []

    def work() -> None:
        draw = random.Random(next(seeds))
        for _ in range(60):
            with suppress(ZeroDivisionError, TransientEmbedderError), limiter.batch():
                for _ in range(draw.randrange(3)):
                    with limiter.request(lambda: 1):
                        over.append(limiter._taken)
                        if draw.random() < 0.2:
                            raise TransientEmbedderError("Busy.")
                assert draw.random() < 0.8 or 1 / 0

    together(work, 16)
    assert max(over) <= 4
    assert limiter._taken == 0


# Per minute ----------------------------------------------------------------------------------------------------------


@given(
    requests=st.none() | st.integers(1, 8),
    tokens=st.none() | st.integers(1, 50),
    sent=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 80)), max_size=60),
)
def test_no_minute_sees_more_requests_or_tokens_than_are_allowed(
    requests: int | None, tokens: int | None, sent: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limiter = limiter_on(clock, 3, requests_per_minute=requests, tokens_per_minute=tokens)
    went: list[tuple[float, int]] = []
    for pause, amount in sent:
        clock.now += pause
        with limiter.request(lambda amount=amount: amount):  # type: ignore[misc]
            went.append((clock.now, amount))
    assert len(went) == len(sent)
    for at, _ in went:
        # a hair less than a minute: 60 seconds later is the next one
        minute = [amount for when, amount in went if at <= when < at + 60 - 1e-6]
        assert requests is None or len(minute) <= requests
        assert tokens is None or sum(minute) <= tokens or [amount for amount in minute if amount > 0] == [max(minute)]


def test_a_request_above_the_tokens_of_a_minute_goes_alone(clock: Clock) -> None:
    limiter = limiter_on(clock, tokens_per_minute=100)
    send(limiter, 60)
    send(limiter, 250)
    assert clock.now == pytest.approx(1060), "once nothing else was sent for a minute"
    assert set(clock.waited[:-1]) <= {1.0}
    send(limiter, 1)
    assert clock.now == pytest.approx(1120)


def test_why_it_waits_for_a_minute_is_told(clock: Clock) -> None:
    limiter = limiter_on(clock, requests_per_minute=2, tokens_per_minute=1000)
    reasons = []
    clock.meanwhile = lambda: reasons.append(limiter.reason)
    send(limiter)
    send(limiter, 900)
    assert reasons == []
    send(limiter, 150)
    assert set(reasons) == {"at most 2 requests a minute"}
    reasons.clear()
    send(limiter, 900)
    assert set(reasons) == {"at most 1000 tokens a minute"}
    assert limiter.reason is None


def test_estimates_follow_what_the_provider_counts(clock: Clock) -> None:
    limiter = limiter_on(clock, spend=Purse())
    send(limiter, 100, taken=200)
    send(limiter, 100, taken=50)
    with limiter.request(lambda: 100) as ticket:
        assert ticket.tokens == 200, "no budget is passed by a tokenizer that counts more than was estimated"


def test_a_minute_is_filled_with_what_the_provider_counts(clock: Clock) -> None:
    limiter = limiter_on(clock, tokens_per_minute=100)
    for _ in range(7):
        send(limiter, 40, taken=10)
    assert clock.now < 1001, "estimates are above what is counted, and would leave a part of the limit unused"
    send(limiter, 40, taken=10)
    assert clock.now >= 1060
    slow = limiter.request(lambda: 40)
    with slow as ticket:
        clock.now += 120
        send(limiter, 90, taken=90)
        ticket.taken = 10
    send(limiter, 10)
    assert clock.now < 1240, "one that is out of the minute corrects nothing in it"


# Headers, holds, pace, close -----------------------------------------------------------------------------------------


def headers(what: str, *, limit: object = 100, remaining: object = 0, reset: str = "1s") -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(remaining),
        f"x-ratelimit-reset-{what}": reset,
    }


@pytest.mark.parametrize(
    ("given", "tokens", "seconds"),
    [
        ({}, 10, 0),
        (headers("requests", remaining=5, reset="6m0s"), 10, 0),
        (headers("requests", limit=60, remaining=0, reset="6m0s"), 10, 6.0),
        (headers("requests", limit=1, remaining=0, reset="12ms"), 10, 0.012),
        (headers("requests", limit=1, remaining=0, reset="1h2m3.5s"), 10, 3723.5),
        (headers("requests", limit=1, remaining=0, reset="20"), 10, 20),
        (headers("tokens", limit=1000, remaining=400, reset="6s"), 400, 0),
        (headers("tokens", limit=1000, remaining=400, reset="6s"), 600, 2.0),
        (headers("tokens", limit=1000, remaining=400, reset="6s"), 5000, 6.0),
        (headers("requests", limit=60, remaining=0, reset="60s") | headers("tokens", limit=9, reset="3s"), 9, 3.0),
        (headers("requests", remaining="many"), 10, 0),
        (headers("requests", remaining=-1), 10, 0),
        (headers("requests", limit="?", remaining=0, reset="2s"), 10, 2),
        (headers("requests", reset="soon"), 10, 0),
        (headers("requests", reset=""), 10, 0),
    ],
)
def test_what_the_headers_of_an_answer_ask_for(given: dict[str, str], tokens: int, seconds: float) -> None:
    assert wait_by_headers(given, tokens) == pytest.approx(seconds)


def test_a_used_up_limit_keeps_the_next_request_back(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    send(limiter, headers=headers("requests", limit=1, reset="2.5s"))
    reasons = []
    clock.meanwhile = lambda: reasons.append(limiter.reason)
    send(limiter)
    assert clock.now == 1002.5
    assert set(reasons) == {"the provider's rate limit is used up"}
    send(limiter, headers=headers("requests", limit=1, reset="24h"))
    send(limiter)
    assert clock.now == 1062.5, "a header may lie, so it is not believed for more than a minute"


def test_tokens_left_are_compared_with_those_of_a_request_like_this_one(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    send(limiter, taken=600, headers=headers("tokens", limit=1000, remaining=400, reset="6s"))
    send(limiter)
    assert clock.now == 1002


def test_a_hold_keeps_everything_back_until_every_reason_is_gone(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    steps: list[tuple[str, str | None]] = [("lag", None), ("pause", None), ("lag", "the replica lags")]
    reasons = []

    def step() -> None:
        reasons.append(limiter.reason)
        limiter.hold(*steps.pop())

    clock.meanwhile = step
    limiter.hold("pause", "paused by ann")
    send(limiter)
    assert reasons == ["paused by ann", "paused by ann", "the replica lags"]
    assert limiter.reason is None


@given(st.lists(st.integers(1, 20), max_size=30), st.floats(0.5, 50))
def test_no_more_records_a_second_than_asked_for(batches: list[int], rate: float) -> None:
    clock = Clock()
    limiter = limiter_on(clock, 4)
    limiter.tune(4, rate)
    for records in batches:
        limiter.pace(records)
    assert clock.now - 1000 >= sum(batches[:-1]) / rate - 1e-6
    limiter.tune(4, None)
    before = clock.now
    limiter.pace(1000)
    assert clock.now == before


def test_a_second_holds_as_many_records_as_the_rate_and_one_at_least(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    assert limiter.second(128) == 128
    limiter.tune(4, 10.9)
    assert limiter.second(128) == 10
    limiter.tune(4, 0.1)
    assert limiter.second(128) == 1


def _hold(limiter: Limiter) -> None:
    limiter.hold("pause", "paused")
    send(limiter)


def _slot(limiter: Limiter) -> None:
    with limiter.batch():
        send(limiter)
        together(lambda: send(limiter), 1)


def _minute(limiter: Limiter) -> None:
    for _ in range(4):
        send(limiter)


def _pace(limiter: Limiter) -> None:
    limiter.tune(1, 0.001)
    limiter.pace(1)
    limiter.pace(1)


def _back_off(limiter: Limiter) -> None:
    limiter.sleep(3600)


def _paid_in_part(limiter: Limiter) -> None:
    with limiter.batch():
        send(limiter)
        _hold(limiter)


@pytest.mark.parametrize("wait", [_hold, _slot, _minute, _pace, _paid_in_part, _back_off])
def test_whoever_waits_when_the_run_is_ended_is_sent_home(wait: Callable[[Limiter], None]) -> None:
    limiter = Limiter(1, requests_per_minute=3)
    ended: list[BaseException | None] = []

    def work() -> None:
        try:
            wait(limiter)
        except BaseException as error:  # noqa: BLE001  # looked at below
            ended.append(error)
        else:
            ended.append(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    limiter.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert {type(error) for error in ended} == {Abandoned}
    assert limiter._taken == 0


def test_nothing_goes_once_the_run_is_ended_even_where_nothing_would_wait(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    limiter.close()
    with pytest.raises(Abandoned):
        send(limiter)
    assert limiter.closed


def test_what_was_paid_for_in_part_comes_to_its_end(clock: Clock) -> None:
    """A long record takes several requests; left after the first one, it would be paid for again."""
    limiter = limiter_on(clock, 4)
    with limiter.batch():
        send(limiter)
        limiter.close()
        send(limiter)
        fail(limiter)
        with pytest.raises(Abandoned):
            limiter.sleep(1)
    assert limiter._taken == 0


def test_sleepers_are_counted_so_that_others_take_their_place(clock: Clock) -> None:
    limiter = limiter_on(clock, 4)
    asleep = []
    clock.meanwhile = lambda: asleep.append(limiter.asleep)
    limiter.sleep(1.5)
    assert asleep == [1, 1]
    assert limiter.asleep == 0


# Money ---------------------------------------------------------------------------------------------------------------


def _unbilled() -> TransientEmbedderError:
    error = TransientEmbedderError("Busy.")
    error.unbilled = True
    return error


def test_what_the_provider_charges_nothing_for_is_given_back(clock: Clock) -> None:
    purse = Purse()
    limiter = limiter_on(clock, 2, spend=purse)
    fail(limiter, _unbilled(), 100)
    assert purse.reserved == 0
    fail(limiter, TransientEmbedderError("No answer in time."), 100)
    assert purse.reserved == 100, "it may have been embedded all the same"
    send(limiter, 50, taken=30)
    send(limiter, 50)
    assert purse.reserved == 100 + 30 + 50


def test_a_request_that_would_pass_the_budget_is_not_sent(clock: Clock) -> None:
    limiter = limiter_on(clock, 2, spend=Purse(most=100))
    send(limiter, 60, taken=60)
    with pytest.raises(BudgetSpent), limiter.request(lambda: 60):
        pytest.fail("it was sent")
    assert limiter._taken == 0
    send(limiter, 40, taken=40)


@contextmanager
def _joined(threads: list[threading.Thread]) -> Iterator[None]:
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it waits for ever"


def together(work: Callable[[], None], count: int) -> None:
    """Run ``work`` in so many threads, and raise what one of them raised."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    with _joined([threading.Thread(target=guarded, daemon=True) for _ in range(count)]):
        pass
    for error in errors:
        raise error
