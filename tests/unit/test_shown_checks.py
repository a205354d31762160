"""A check says itself how its figures are read, and a gate what to do next: the command line only prints it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vecmig.cli import inspect
from vecmig.freshness.coverage import Coverage
from vecmig.gate import Check, Evidence, Report, Shadowing, judge
from vecmig.homes.index import IndexState
from vecmig.model.gate import Gate, MinSamples

WHOLE = Coverage(records=100, eligible=100, fresh=100, stale=0, rejected=0, unaccounted=0)
EVIDENCE = Evidence(
    coverage=WHOLE,
    tracked=True,
    tracking=True,
    constraint=True,
    index=IndexState(exists=True, valid=True, ready=True, bytes=1),
    plan=(True, True),
    old_tag="old@1/dim-4/chunk-none/norm-l2",
    old=WHOLE,
    canary=None,
)


def _report(*checks: Check) -> Report:
    return Report("documents", "new@1/dim-8/chunk-none/norm-l2", checks, EVIDENCE, "")


def _check(name: str, remedy: str = "", passed: bool | None = False, **more: Any) -> Check:
    return Check(name, passed, 0, 1, "", remedy, **more)


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        (Check("shadow", True, 0.0, 0.01, "", bound="≤", share=True), "0 %     ≤ 1 %"),
        (Check("shadow", True, 12, 10, "", bound="≥"), "12      ≥ 10"),
        (Check("coverage", True, 1.0, 0.995, "", bound="≥", share=True), "100 %   ≥ 99.5 %"),
        (Check("freshness", True, 0.00001, 0.005, "", bound="≤", share=True), "0.01 %  ≤ 0.5 %"),
        (Check("days live", True, 3.5, "≥ 3", ""), "3.5     ≥ 3"),
        (Check("spot check", True, 64, 64, ""), "64      64"),
    ],
)
def test_a_check_says_how_its_requirement_is_read(check: Check, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.show_checks(_report(check))
    assert " ".join(shown.split()) in " ".join(capsys.readouterr().out.splitlines()[1].split())


def test_each_remedy_is_named_once_and_three_at_most() -> None:
    report = _report(
        _check("coverage", "Run: a"),
        _check("freshness", "Run: a"),
        _check("canary", "Run: gate", passed=None),
        _check("index", "Run: b"),
        _check("shadow", "Run: c"),
        _check("search", "Run: d"),
        _check("plan"),
    )
    assert report.remedies.splitlines() == ["Run: a", "Run: b", "Run: c"]
    assert inspect.refusal("documents", report).hint == report.remedies
    assert _report(_check("canary", "Run: gate", passed=None)).remedies == "Run: gate"


def test_a_gate_waits_only_for_what_an_upgrade_does_not_do_itself() -> None:
    of_its_own, outside = _check("index", upgrade_does=True), _check("shadow", command="vecmig route")
    assert _report(outside).waits_for is outside
    assert _report(of_its_own, outside).waits_for is None
    assert _report(_check("canary", passed=None)).waits_for is None


@pytest.mark.parametrize(
    ("found", "command", "remedy"),
    [
        (Shadowing(0, 0, "docs", "t"), "vecmig route docs --shadow t --share 0.05", "Let the new tag be asked too"),
        (Shadowing(1, 0, "docs", "t", 0.05), None, "Wait for more searches of the application: 5 % of them ask t too."),
        (Shadowing(9, 9, "docs", "t", 0.05), "vecmig compare docs", "See why they failed"),
    ],
)
def test_what_gives_more_shadow_reads(found: Shadowing, command: str | None, remedy: str) -> None:

    check = judge(Gate(shadow=MinSamples(20)), replace(EVIDENCE, shadow=found))[-1]
    assert (check.name, check.passed, check.command) == ("shadow", False, command)
    assert check.remedy.startswith(remedy)
    assert command is None or command in check.remedy


def test_one_is_not_many() -> None:
    one = Coverage(records=1, eligible=1, fresh=0, stale=1, rejected=0, unaccounted=0)

    coverage, freshness, *_ = judge(Gate(), replace(EVIDENCE, coverage=one, old=None))
    assert coverage.detail == "1 of 1 record has no fresh vector"
    assert freshness.detail == "1 record is stale and 0 missing"
