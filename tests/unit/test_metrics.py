"""The figures of an eval: metrics against values worked out by hand, statistics against scipy and exact answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmig.evaluation import compare, differences, intervals, no_worse, query_metrics, randomisation_p
from vecmig.evaluation.statistics import RESAMPLES
from vecmig.ledger.evals import EvalRun, QueryResult, Score

# Metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_worked_out_by_hand() -> None:
    relevant = [{"a": 3, "b": 1, "gone": 2, "z": 0}, {"a": 1}, {"a": 1}]
    answers = [["x", "a", "z", "b"], ["a", "b"], []]
    first, second, third = query_metrics(relevant, answers, 4)
    # the gain is the grade, divided by log2(rank + 1); the ideal order is 3, 2, 1
    found = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert first == pytest.approx({"nDCG@4": found / ideal, "recall@4": 2 / 3, "MRR@4": 1 / 2, "success@4": 1.0})
    assert second == {"nDCG@4": 1.0, "recall@4": 1.0, "MRR@4": 1.0, "success@4": 1.0}
    assert third == dict.fromkeys(second, 0.0)


def test_no_answers_at_all_score_nothing() -> None:
    assert query_metrics([{"a": 1}], [[]], 10) == [{"nDCG@10": 0, "recall@10": 0, "MRR@10": 0, "success@10": 0}]


@pytest.mark.parametrize("rank", range(1, 13))
def test_a_known_item_by_its_rank(rank: int) -> None:
    answer = [f"other{n}" for n in range(rank - 1)] + ["it"]
    (found,) = query_metrics([{"it": 1}], [answer[:10]], 10)
    inside = rank <= 10
    assert found == pytest.approx(
        {
            "nDCG@10": inside / math.log2(rank + 1),
            "recall@10": float(inside),
            "MRR@10": inside / rank,
            "success@10": float(inside),
        }
    )


def test_the_order_of_the_answer_counts_and_not_the_names() -> None:
    for names in (["a", "b", "c"], ["c", "b", "a"], ["10", "9", "1"]):
        (found,) = query_metrics([{names[0]: 1}], [names], 3)
        assert found["MRR@3"] == 1.0


# Statistics --------------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_scipy() -> None:
    from scipy import stats  # takes longer than all tests here

    values = np.random.default_rng(5).random(80)
    low, high = intervals(values[:, None])
    reference = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=RESAMPLES, rng=1)
    assert (low[0], high[0]) == pytest.approx(tuple(reference.confidence_interval), abs=0.004)


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution() -> None:
    from scipy import stats

    values = np.repeat([1.0, 0.0], [30, 20])
    low, high = intervals(values[:, None])
    exact = stats.binom(50, 0.6).ppf([0.025, 0.975]) / 50
    assert (low[0], high[0]) == pytest.approx(tuple(exact), abs=0.021)


def test_an_interval_is_the_same_each_time_and_for_each_column() -> None:
    values = np.random.default_rng(7).random((40, 3))
    low, high = intervals(values)
    for at in range(3):
        alone = intervals(values[:, at : at + 1])
        assert (alone[0][0], alone[1][0]) == pytest.approx((low[at], high[at]))


def test_an_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    samples = (rng.random((60, 300)) < 0.7).astype(np.float64)
    low, high = intervals(samples)
    assert 0.90 <= ((low <= 0.7) & (high >= 0.7)).mean() <= 0.99


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
@settings(max_examples=50)
def test_the_randomisation_test_counts_all_signs(numbers: list[int]) -> None:
    observed = abs(sum(numbers))
    flips = [
        abs(sum(s * n for s, n in zip(signs, numbers, strict=True))) for signs in product((1, -1), repeat=len(numbers))
    ]
    expected = sum(flip >= observed for flip in flips) / len(flips)
    assert randomisation_p(np.array(numbers, dtype=np.float64)) == pytest.approx(expected)


@pytest.mark.parametrize(("seed", "shift"), [(1, 0.0), (2, 0.05), (3, 0.12)])
def test_the_randomisation_test_is_that_of_scipy(seed: int, shift: float) -> None:
    from scipy import stats  # takes longer than all tests here

    values = np.random.default_rng(seed).normal(shift, 0.3, 60)
    reference = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=RESAMPLES, rng=1)
    assert randomisation_p(values) == pytest.approx(reference.pvalue, abs=0.02)


def test_tags_that_are_alike_seldom_seem_to_differ() -> None:
    rng = np.random.default_rng(13)
    found = [randomisation_p(rng.normal(0, 1, 40)) for _ in range(200)]
    assert np.mean(np.array(found) < 0.05) < 0.1


# Two tags ----------------------------------------------------------------------------------------------------------


def _run(values: Sequence[float], groups: Sequence[str | None] | None = None, metric: str = "nDCG@10") -> EvalRun:
    score = Score(float(np.mean(values)), 0.0, 1.0)
    results = tuple(
        QueryResult(str(n), groups[n] if groups else None, {metric: value}, {metric: value}, 1.0, 0.1, 0.2)
        for n, value in enumerate(values)
    )
    return EvalRun(
        collection="c",
        tag="t",
        suite="faq",
        suite_fingerprint="f",
        k=10,
        queries=len(values),
        coverage=1.0,
        eligible=9,
        records=9,
        scores={metric: {"search": score, "exact": score}},
        slices={},
        index_recall=None,
        index_used=True,
        per_query=results,
        distances={},
        host="h",
        version="v",
    )


OLD = _run([1.0, 0.5] * 50)


def test_no_worse_passes_what_is_alike_and_refuses_a_loss() -> None:
    passed, detail = no_worse(OLD, OLD, "nDCG@10", 0.0)
    assert passed
    assert detail == (
        "nDCG@10 on faq +0.000 [+0.000, +0.000] from old to new over 100 queries; the lower end must be at least +0.000"
    )
    worse = _run([0.9, 0.4] * 50)
    assert no_worse(OLD, worse, "nDCG@10", 0.05)[0] is False
    assert no_worse(OLD, worse, "nDCG@10", 0.11)[0] is True
    assert no_worse(worse, OLD, "nDCG@10", 0.0)[0] is True


def test_no_worse_asks_for_proof_and_not_for_the_lack_of_a_difference() -> None:
    rng = np.random.default_rng(3)
    scattered = _run(np.clip(np.array(OLD.values("nDCG@10")) + rng.normal(0.02, 0.2, 100), 0, 1).tolist())
    (found,) = differences(OLD, scattered)
    assert found.p > 0.01
    assert found.low < -0.02
    assert no_worse(OLD, scattered, "nDCG@10", 0.02)[0] is False


@pytest.mark.parametrize(
    ("other", "metric", "reason"),
    [
        (replace(OLD, suite_fingerprint="g"), "nDCG@10", "are not of one state of the suite"),
        (replace(OLD, per_query=OLD.per_query[1:]), "nDCG@10", "are not of one state of the suite"),
        (replace(OLD, collection="d"), "nDCG@10", "are not of one state of the suite"),
        (OLD, "nDCG@5", "faq has no nDCG@5; it has nDCG@10"),
    ],
)
def test_no_worse_passes_nothing_that_cannot_be_compared(other: EvalRun, metric: str, reason: str) -> None:
    passed, detail = no_worse(OLD, other, metric, 1.0)
    assert not passed
    assert reason in detail


def test_few_queries_are_said_to_be_few() -> None:
    few = _run([1.0] * 29)
    assert "over 29 queries, which are few: below 30" in no_worse(few, few, "nDCG@10", 0.0)[1]
    assert [one.few for one in differences(few, few)] == [True]
    assert [one.few for one in differences(OLD, OLD)] == [False]


def test_slices_are_compared_apart() -> None:
    groups = ["io", "math"] * 50
    old, new = _run([0.5, 0.5] * 50, groups), _run([0.5, 0.9] * 50, groups)
    found = {one.slice: (one.queries, round(one.mean, 6)) for one in differences(old, new)}
    assert found == {None: (100, 0.2), "io": (50, 0.0), "math": (50, 0.4)}
    assert compare.comparable(old, new)
    assert no_worse(new, old, "nDCG@10", 0.21)[0] is False, "the interval reaches below the mean"
    assert no_worse(new, old, "nDCG@10", 0.21, group="io")[0] is True
    assert no_worse(new, old, "nDCG@10", 0.21, group="math")[0] is False
    assert no_worse(new, old, "nDCG@10", 1.0, group="art") == (False, "faq has no slice art")
