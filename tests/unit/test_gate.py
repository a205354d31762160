"""The gate's judgement is pure: the same evidence gives the same checks, and no figure is rounded in its favour."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.check import Check, Required
from vecmig.freshness.coverage import Coverage
from vecmig.gate import CANARY_SIMILARITY, Evidence, Recall, Shadowing, Spot, Trial, judge
from vecmig.homes import IndexState
from vecmig.model.gate import Gate, MinSamples, NoWorse
from vecmig.text import percent

GOOD = Evidence(
    coverage=Coverage(records=1000, eligible=1000, fresh=1000, stale=0, rejected=0, unaccounted=0),
    tracked=True,
    tracking=True,
    constraint=True,
    index=IndexState(exists=True, valid=True, ready=True, bytes=1),
    plan=(True, True),
    old_tag="old@1/dim-4/chunk-none/norm-l2",
    old=Coverage(records=1000, eligible=1000, fresh=1000, stale=0, rejected=0, unaccounted=0),
    canary=1.0,
    spot=Spot(sampled=64, tail=0.9, farther=0.99),
    recall=Recall(queries=100, share=0.99, low=0.98, high=1.0, index={}, file=1, own=100, asked=100),
)


def _spotted(**found: Any) -> Evidence:
    return replace(GOOD, spot=replace(GOOD.spot or Spot(0), **found))


def _recalled(**found: Any) -> Evidence:
    assert GOOD.recall is not None
    return replace(GOOD, recall=replace(GOOD.recall, **found))


def _failed(evidence: Evidence, gate: Gate | None = None) -> list[str]:
    return [check.name for check in judge(gate or Gate(), evidence) if not check.passed]


def _check(name: str, evidence: Evidence, gate: Gate | None = None) -> Check:
    (found,) = [check for check in judge(gate or Gate(), evidence) if check.name == name]
    return found


def _coverage(*, eligible: int = 1000, stale: int = 0, rejected: int = 0, missing: int = 0, lost: int = 0) -> Coverage:
    fresh = eligible - stale - rejected - missing
    return Coverage(eligible, eligible, fresh, stale, rejected, unaccounted=lost)


def test_good_evidence_passes_every_check() -> None:
    assert _failed(GOOD) == []
    assert [check.name for check in judge(Gate(), GOOD)] == [
        "coverage",
        "freshness",
        "unexplained",
        "vectors",
        "index",
        "index used",
        "rollback",
        "canary",
        "spot check",
        "truncation",
        "query space",
        "index recall",
    ]


@pytest.mark.parametrize(
    ("evidence", "failed"),
    [
        (replace(GOOD, coverage=_coverage(rejected=5)), []),
        (replace(GOOD, coverage=_coverage(rejected=6)), ["coverage"]),
        (replace(GOOD, coverage=_coverage(stale=5)), []),
        (replace(GOOD, coverage=_coverage(stale=3, missing=3)), ["coverage", "freshness"]),
        (replace(GOOD, coverage=_coverage(missing=1, lost=1)), ["unexplained"]),
        (replace(GOOD, tracking=False), ["unexplained"]),
        (replace(GOOD, tracked=False, tracking=False), []),
        (replace(GOOD, constraint=False), ["vectors"]),
        (replace(GOOD, index=IndexState(exists=True, valid=False, ready=True)), ["index"]),
        (replace(GOOD, index=IndexState(exists=True, valid=True, ready=False)), ["index"]),
        (replace(GOOD, index=IndexState(), plan=(False, False)), ["index", "index used"]),
        (replace(GOOD, plan=(False, True)), []),
        (replace(GOOD, old=None), ["rollback"]),
        (replace(GOOD, old=_coverage(missing=6)), ["rollback"]),
        (replace(GOOD, old_tag=None, old=None), []),
        (replace(GOOD, canary=None), ["canary"]),
        (replace(GOOD, canary=CANARY_SIMILARITY), []),
        (replace(GOOD, canary=0.9989999), ["canary"]),
        (replace(GOOD, canary=float("nan")), ["canary"]),
        (replace(GOOD, canary=1.0, canary_error="no answer"), ["canary"]),
        (replace(GOOD, coverage=_coverage(eligible=0)), []),
        (replace(GOOD, spot=None), ["spot check"]),
        (_spotted(error="no answer"), ["spot check"]),
        (_spotted(foreign=1, worst=("7", 0.3)), ["spot check"]),
        (_spotted(tail=0.99989), []),
        (_spotted(tail=0.9999), ["truncation"]),
        (_spotted(tail=None), []),
        (_spotted(farther=0.75), []),
        (_spotted(farther=0.7499), ["query space"]),
        (_spotted(farther=None), []),
        (_recalled(share=0.95), []),
        (_recalled(share=0.9499), ["index recall"]),
        (_recalled(own=50), []),
        (_recalled(own=49), ["index recall"]),
        (replace(GOOD, recall=None), []),
    ],
)
def test_each_check_fails_alone(evidence: Evidence, failed: list[str]) -> None:
    assert _failed(evidence) == failed
    for check in judge(Gate(), evidence):
        assert check.detail
        assert check.passed or check.remedy


def test_a_figure_that_fails_is_never_shown_as_one_that_passes() -> None:
    for similarity in (0.9989999, 0.99899999, 0.9989999999):
        shown = _check("canary", replace(GOOD, canary=similarity))
        assert isinstance(shown.value, float)
        assert shown.value < CANARY_SIMILARITY


@pytest.mark.parametrize(("seen", "remedy"), [(None, "Run: vecmig gate"), (0.5, "Correct the canary first.")])
def test_what_was_not_looked_at_says_what_comes_first(seen: float | None, remedy: str) -> None:
    shown = _check("spot check", replace(GOOD, canary=seen, spot=None))
    assert shown.remedy is not None
    assert (shown.passed, shown.remedy.text) == (None, remedy)


def test_a_gate_says_how_much_of_the_exact_answer_it_wants() -> None:
    assert _failed(_recalled(share=0.97), Gate(index_recall=0.98)) == ["index recall"]
    assert _failed(_recalled(share=0.8), Gate(index_recall=0.75)) == []
    shown = _check("index recall", _recalled(share=0.5, low=0.4, high=0.6, enough={"type": "bit", "rerank": 40}))
    assert shown.detail == "the search finds 50 % (40 % to 60 %) of the 10 vectors that are nearest to each of 100"
    assert shown.remedy is not None
    assert shown.remedy.text == (
        "Write index: {type: bit, rerank: 40} beside the tag's recipe, then run: vecmig upgrade head"
    )


@pytest.mark.parametrize(
    ("found", "passed"),
    [(None, False), (Shadowing(499, 0), False), (Shadowing(500, 5), True), (Shadowing(500, 6), False)],
)
def test_shadow(found: Shadowing | None, passed: bool) -> None:
    shown = _check("shadow", replace(GOOD, shadow=found), Gate(shadow=MinSamples(500)))
    assert (shown.passed, shown.required) == (passed, Required(500, "≥"))
    assert shown.passed or shown.remedy


def test_conditions_on_one_suite_are_told_apart() -> None:
    wanted = [NoWorse("faq", metric) for metric in ("nDCG@10", "MRR@10")]
    evidence = replace(GOOD, trials=(Trial(wanted[0], True, "a"), Trial(wanted[1], False, "b", "c")))
    assert _failed(evidence, Gate(evals=wanted)) == ["eval faq MRR@10"]


_COUNTS = st.integers(1, 10**9).flatmap(lambda eligible: st.tuples(st.just(eligible), st.integers(0, eligible)))


@given(_COUNTS, st.integers(0, 10_000))
def test_coverage_is_judged_exactly(counts: tuple[int, int], required: int) -> None:
    eligible, fresh = counts
    gate = Gate(coverage=required / 10_000)
    found = Coverage(eligible, eligible, fresh, 0, eligible - fresh, 0)
    check: Check = judge(gate, replace(GOOD, coverage=found))[0]
    assert check.passed == (Fraction(fresh, eligible) >= Fraction(required, 10_000))


@given(_COUNTS)
def test_coverage_is_never_rounded_up(counts: tuple[int, int]) -> None:
    eligible, fresh = counts
    share = Coverage(eligible, eligible, fresh, 0, 0, 0).share
    written = percent(share).removesuffix(" %")
    shown = Fraction(0 if written.startswith("<") else written) / 100
    assert shown <= Fraction(fresh, eligible)
    assert (shown == 1) == (fresh == eligible)
    assert Fraction(fresh, eligible) - shown < Fraction(1, 10_000)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.99996, "99.99 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.995, "99.5 %"),
        (0.99499999, "99.49 %"),
        (0.5, "50 %"),
    ],
)
def test_percentages(share: float, shown: str) -> None:
    assert percent(share) == shown
