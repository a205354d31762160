"""The rule of trust, and what of a script may change after it was applied: without a database."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vecmig.freshness.coverage import Coverage
from vecmig.model.gate import Gate, Trust
from vecmig.operations.context import Declaration
from vecmig.operations.rollback_gate import lacking, rollback_refused, what_lacks
from vecmig.runner.trust import EvalSeries, Evidence, judge
from vecmig.script.checksum import checksum

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = Evidence(NOW - timedelta(days=21), NOW, 0.0, None, "", {}, (1, 100))


@pytest.mark.parametrize(
    ("changes", "days", "fails"),
    [
        ({}, 3, []),
        ({"since": NOW - timedelta(days=20, hours=23, minutes=59)}, 3, ["days live"]),
        ({"ramp": 0.001}, 3, ["days live"]),
        ({}, 2, ["eval days"]),
        ({"alone": "the first tag"}, 0, []),
        ({"shadow": (2, 100)}, 3, ["shadow"]),
        ({"shadow": (0, 0)}, 3, []),
        ({"since": NOW + timedelta(days=1)}, 3, ["days live"]),
    ],
)
def test_each_condition_alone_keeps_the_old_vectors(changes: dict[str, Any], days: int, fails: list[str]) -> None:
    checks = judge(Trust(), replace(GOOD, **changes), EvalSeries(days, ()))
    assert [check.name for check in checks if not check.passed] == fails
    assert all(check.remedy for check in checks if not check.passed)


def test_days_are_never_rounded_up() -> None:
    checks = judge(Trust(), replace(GOOD, since=NOW - timedelta(days=20.99)), EvalSeries(3, ()))
    assert (checks[0].value, checks[0].passed) == (20.9, False)


def test_a_regression_on_one_of_the_days_is_enough() -> None:
    checks = judge(Trust(), GOOD, EvalSeries(3, ("on 2026-11-21: nDCG@10 on faq -0.1",)))
    assert [check.detail for check in checks if not check.passed] == ["on 2026-11-21: nDCG@10 on faq -0.1"]


@pytest.mark.parametrize(
    ("changes", "days", "regressions"),
    [({}, 0, ()), ({}, 3, ("worse",)), ({"shadow": (2, 100)}, 3, ()), ({"ramp": 0.1}, 3, ())],
)
def test_what_to_do_reads_on_after_a_colon(changes: dict[str, Any], days: int, regressions: tuple[str, ...]) -> None:
    checks = judge(Trust(), replace(GOOD, **changes), EvalSeries(days, regressions))
    (remedy,) = [check.remedy.text for check in checks if check.remedy and not check.passed]
    assert remedy[0].islower()
    assert not remedy.endswith(".")


def test_the_line_that_asks_for_no_evals_can_be_pasted_as_it_stands() -> None:
    checks = judge(Trust(), GOOD, EvalSeries(0, ()))
    (remedy,) = [check.remedy.text for check in checks if check.remedy and not check.passed]
    names: dict[str, Any] = {}
    exec(remedy.split("in the revision: ")[1], names)
    assert names["trust"] == Trust(days=21, eval_days=0)


def test_nothing_may_be_asked_for() -> None:
    checks = judge(Trust(days=0, eval_days=0), replace(GOOD, since=NOW), EvalSeries(0, ()))
    assert all(check.passed for check in checks)


# A script after it was applied -------------------------------------------------------------------------------------

SCRIPT = '"""m"""\nfrom vecmig import Gate, Migration\n\ngate = Gate()\n'


@pytest.mark.parametrize(
    "same",
    [
        SCRIPT.replace("Gate, Migration", "Gate, Migration, Trust") + "trust = Trust(days=2)\n",
        SCRIPT + "from vecmig import Trust\n\ntrust: Trust = Trust(days=2, eval_days=0)\n",
    ],
)
def test_what_trust_takes_is_no_part_of_what_was_applied(same: str) -> None:
    assert checksum(ast.parse(same)) == checksum(ast.parse(SCRIPT))


@pytest.mark.parametrize(
    "other", [SCRIPT + "gate = trust = 5\n", SCRIPT + "def f():\n    trust = 5\n", SCRIPT + "x = 5"]
)
def test_nothing_else_hides_behind_it(other: str) -> None:
    assert checksum(ast.parse(other)) != checksum(ast.parse(SCRIPT))


# The gate of the way back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "takes"),
    [(None, "vecmig sync. Then"), (100.0, "about 1 s at"), (0.5, "about 3 min 20 s at"), (0.01, "about 2 h 47 min at")],
)
def test_the_refusal_says_how_long_sync_takes_if_it_is_known(rate: float | None, takes: str) -> None:
    found = Coverage(records=1100, eligible=1000, fresh=880, stale=60, rejected=20, unaccounted=0)
    assert lacking(found) == 100
    error = rollback_refused(
        Declaration("r2", "documents", "old", "new", "", Gate(freshness_budget=0.0999)), found, rate
    )
    assert takes in error.hint
    assert "lacks 100 of 1,000 records, and the freshness_budget 0.0999 of revision r2 allows 99." in error.message
    assert "After a rollback 40 records would not be found at all, and 60 only by their old text." in error.state
    assert error.exit_code == 3


def test_what_is_lacking_is_told_apart_from_what_was_rejected() -> None:
    found = Coverage(records=10, eligible=10, fresh=6, stale=1, rejected=2, unaccounted=0)
    expected = "old lacks a fresh vector for 2 of 10 records, which vecmig sync embeds and 2 that it rejected."
    assert what_lacks("old", found) == expected
