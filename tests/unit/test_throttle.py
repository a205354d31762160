"""How far replicas are behind, and what a query's answer means, judged without a database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.postgres.throttle import History, Replica, judge, read_answer


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _history(*samples: tuple[float, int]) -> tuple[History, Clock]:
    clock = Clock()
    history = History(clock)
    for at, position in samples:
        clock.now = at
        history.add(position)
    return history, clock


def test_a_replica_that_has_replayed_all_is_not_behind() -> None:
    history, _ = _history((0, 100), (1, 200), (2, 300))
    assert history.lag(Replica("a", None, 300, measured=99.0)) == 0
    assert history.lag(Replica("a", None, 301)) == 0, "it may have got more since the primary was asked"


def test_a_replica_that_stopped_falls_behind_by_a_second_each_second() -> None:
    history, clock = _history((0, 100), (1, 200))
    stopped = Replica("a", None, 100, measured=None)
    for second in range(2, 60):
        clock.now = second
        history.add(100 * second + 100)
        assert history.lag(stopped) == second


def test_a_replica_between_two_samples() -> None:
    history, _ = _history((0, 100), (1, 200), (2, 300))
    assert history.lag(Replica("a", None, 250)) == pytest.approx(0.5)
    assert history.lag(Replica("a", None, 110)) == pytest.approx(1.9)


def test_an_idle_primary_has_no_replica_behind_it_however_long() -> None:
    history, clock = _history((0, 100), (1, 100))
    for second in range(2, 1000):
        clock.now = second
        history.add(100)
    assert history.lag(Replica("a", None, 100)) == 0
    clock.now = 1001
    history.add(101)
    assert history.lag(Replica("a", None, 100)) == pytest.approx(2), "nobody looked in between"


def test_a_replica_from_before_the_first_sample_is_behind_by_at_least_that() -> None:
    history, clock = _history((0, 100))
    assert history.lag(Replica("a", None, 1)) == 0
    assert history.lag(Replica("a", None, 1, measured=40.0)) == 40, "the server may know more"
    clock.now = 30
    history.add(200)
    assert history.lag(Replica("a", None, 1)) == 30


def test_a_replica_behind_an_idle_primary_falls_further_behind() -> None:
    history, clock = _history((0, 100))
    for second in range(1, 100):
        clock.now = second
        history.add(100)
    assert history.lag(Replica("a", None, 99)) == 99
    assert history.lag(Replica("a", None, 100)) == 0
    assert len(history._samples) == 2


def test_the_history_of_days_stays_small_and_true() -> None:
    history, clock = _history((0, 0))
    for second in range(1, 100_000):
        clock.now = second
        history.add(second)
    assert len(history._samples) <= 3600
    assert history.lag(Replica("a", None, 0)) == 99_999
    assert history.lag(Replica("a", None, 50_000)) == pytest.approx(49_999)
    assert history.lag(Replica("a", None, 99_998)) == pytest.approx(1)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(0, 2000))
def test_lag_is_never_below_what_is_known_nor_above_the_time_watched(steps: list[int], position: int) -> None:
    clock = Clock()
    history = History(clock)
    log, seen = 0, []
    for step in steps:
        clock.now += 1
        log += step
        history.add(log)
        seen.append((clock.now, log))
    lag = history.lag(Replica("a", None, position))
    assert 0 <= lag <= clock.now - 1001
    not_reached = [at for at, end in seen if end > position]
    if not_reached:
        assert lag >= clock.now - not_reached[0], "the log went past it no later than then"


FAR, NEAR = (Replica("far", "10.0.0.2", 0), 12.34), (Replica("near", None, 0), 0.5)


@pytest.mark.parametrize(
    ("lags", "most", "answer", "reason"),
    [
        ([], None, None, None),
        ([FAR, NEAR], 20.0, None, None),
        ([FAR, NEAR], None, None, None),
        ([FAR, NEAR], 10.0, None, "replica far (10.0.0.2) is 12.3 s behind; max_replica_lag is 10 s"),
        (
            [FAR, NEAR],
            0.25,
            5.0,
            "replica far (10.0.0.2) is 12.3 s behind, replica near is 0.5 s behind; max_replica_lag is 0.25 s",
        ),
        ([], None, 0.0, None),
        ([], None, -3.0, None),
        ([NEAR], 1.0, 2.5, "throttle_query gives 2.5, which is above 0"),
        ([], None, "gives no row; it must give one number", "throttle_query gives no row; it must give one number"),
    ],
)
def test_the_judgement(
    lags: list[tuple[Replica, float]], most: float | None, answer: float | str | None, reason: str | None
) -> None:
    assert judge(lags, most, answer) == reason


@pytest.mark.parametrize("value", [3, 3.0, Decimal(3)])
def test_a_number_of_any_type_is_an_answer(value: Any) -> None:
    assert read_answer(1, [(value,)]) == 3.0


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (1, [], "gives no row; it must give one number"),
        (1, [(1,), (2,)], "gives more than one row; it must give one number"),
        (2, [(1, 2)], "gives 2 columns; it must give one number"),
        (1, [(None,)], "gives NULL; it must give a number"),
        (1, [(True,)], "gives True; it must give a number"),
        (1, [("0",)], "gives '0'; it must give a number"),
        (1, [(float("nan"),)], "gives nan; it must give a number"),
        (1, [(Decimal("NaN"),)], "gives Decimal('NaN'); it must give a number"),
    ],
)
def test_anything_else_is_not(columns: int, rows: list[tuple[Any, ...]], said: str) -> None:
    assert read_answer(columns, rows) == said
