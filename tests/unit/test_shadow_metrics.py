"""What two rankings have in common: known values, an independent way to reckon them, and what always holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.evaluation import mean_interval, share_interval
from vecmig.reader.metrics import overlap, rank_biased_overlap

Ranking = list[int]
rankings = st.lists(st.integers(0, 15), unique=True, max_size=12)


def _by_its_definition(one: Sequence[int], other: Sequence[int], p: float) -> float:
    """Sum Webber's equation 1 over very many depths, with the agreement extrapolated as section 4.3 says.

    Below the shorter ranking's end, as much of what is not seen agrees as did there; below both, agreement stays.
    """
    longer, shorter = sorted((list(one), list(other)), key=len, reverse=True)
    l, s = len(longer), len(shorter)  # noqa: E741  # as the paper names them

    def seen(depth: int) -> int:
        return len(set(longer[:depth]) & set(shorter[:depth]))

    def agreement(depth: int) -> float:
        if depth <= s:
            return seen(depth) / depth
        if depth <= l:
            return (seen(depth) + seen(s) / s * (depth - s)) / depth
        return agreement(l)

    return (1 - p) * math.fsum(p ** (depth - 1) * agreement(depth) for depth in range(1, 2_000))


# Reckoned by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "p", "expected"),
    [
        # agreement 0, 1: 0.5 · (0 + 0.5 · 1) + 0.25 · 1
        ("ab", "ba", 0.5, 0.5),
        # agreement 1, 1/2: 0.5 · (1 + 0.5 · 0.5) + 0.25 · 0.5
        ("ab", "ac", 0.5, 0.75),
        # agreement 0, 1/2, 2/3: 0.1 · (0.9 · 1/2 + 0.81 · 2/3) + 0.729 · 2/3
        ("abc", "bxa", 0.9, 0.1 * (0.45 + 0.54) + 0.486),
        # the shorter ends after 1: its agreement of 1 is taken to go on
        ("ab", "a", 0.5, 1.0),
        # agreement 0, then b is found: (1 + 0)/2: 0.5 · (0 + 0.5 · 0.5) + 0.25 · (1/2 + 0)
        ("ab", "b", 0.5, 0.25),
    ],
)
def test_rank_biased_overlap_has_the_values_that_the_paper_gives(
    one: str, other: str, p: float, expected: float
) -> None:
    assert rank_biased_overlap(one, other, p) == pytest.approx(expected)


def test_wilson_gives_the_published_intervals() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998, table I
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert share_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


# What always holds --------------------------------------------------------------------------------------------------


@given(rankings, rankings, st.floats(0.1, 0.98))
def test_rank_biased_overlap_is_what_its_definition_says(one: Ranking, other: Ranking, p: float) -> None:
    found = rank_biased_overlap(one, other, p)
    assert found == pytest.approx(rank_biased_overlap(other, one, p))
    assert 0 <= found <= 1 + 1e-9
    if one and other:
        assert found == pytest.approx(_by_its_definition(one, other, p), abs=1e-9)


@given(rankings)
def test_a_ranking_is_like_itself_and_unlike_a_foreign_one(ranking: Ranking) -> None:
    foreign = [100 + number for number in ranking]
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1)
    assert overlap(ranking, ranking, 10) == 1
    assert rank_biased_overlap(ranking, foreign) == (0 if ranking else 1)
    assert rank_biased_overlap(ranking, []) == (0 if ranking else 1)


def test_a_difference_at_the_top_weighs_more() -> None:
    same = list(range(10))
    assert rank_biased_overlap(same, [99, *same[1:]]) < rank_biased_overlap(same, [*same[:9], 99])
    assert overlap(same, [99, *same[1:]], 10) == overlap(same, [*same[:9], 99], 10) == 0.9


def test_overlap_counts_what_could_be_shared() -> None:
    assert overlap([1, 2], [1, 2], 10) == 1
    assert overlap([1, 2], [1, 2, 3, 4], 10) == 0.5
    assert overlap([1, 2, 3], [3, 2, 1], 1) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_interval_of_a_mean_holds_it_and_stays_in_range(values: list[float]) -> None:
    low, high = mean_interval(values)
    # values are told apart to a thousandth
    assert min(values) - 0.0006 <= low <= high <= max(values) + 0.0006


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = [0.0, 1.0] * 200
    low, high = mean_interval(values)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.004)
    assert mean_interval(values) == (low, high)
    assert mean_interval([0.25] * 3) == (0.25, 0.25)
