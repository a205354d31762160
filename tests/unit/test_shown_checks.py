"""A check says itself how its figures are read, and a gate what to do next: the command line only prints it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vecmig.check import By, Check, Remedy, Required
from vecmig.cli import inspect
from vecmig.cli.checks import check_json, show_checks
from vecmig.freshness.coverage import Coverage
from vecmig.gate import Evidence, Report, Shadowing, judge
from vecmig.homes import IndexState
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


def _check(name: str, remedy: Remedy | None = None, passed: bool | None = False) -> Check:
    return Check(name, passed, 0, Required(1), "", remedy)


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        (Check("shadow", True, 0.0, Required(0.01, "≤", share=True), ""), "0 %     ≤ 1 %"),
        (Check("shadow", True, 12, Required(10, "≥"), ""), "12      ≥ 10"),
        (Check("coverage", True, 1.0, Required(0.995, "≥", share=True), ""), "100 %   ≥ 99.5 %"),
        (Check("freshness", True, 0.00001, Required(0.005, "≤", share=True), ""), "0.01 %  ≤ 0.5 %"),
        (Check("days live", True, 3.5, Required("≥ 3"), ""), "3.5     ≥ 3"),
        (Check("spot check", True, 64, Required(64), ""), "64      64"),
        (Check("unexplained", False, 3_596, Required(0), ""), "3,596   0"),
        (Check("truncation", True, None, None, ""), "-       -"),
    ],
)
def test_a_check_says_how_its_requirement_is_read(check: Check, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_checks([check])
    assert " ".join(shown.split()) in " ".join(capsys.readouterr().out.splitlines()[1].split())


def test_json_has_what_is_required_without_how_it_is_read() -> None:
    check = Check("coverage", False, 0.5, Required(0.995, "≥", share=True), "half", Remedy.run("vecmig backfill"))
    assert check_json(check) == {
        "name": "coverage",
        "passed": False,
        "value": 0.5,
        "required": 0.995,
        "detail": "half",
    }


def test_each_remedy_is_named_once_and_three_at_most() -> None:
    report = _report(
        _check("coverage", Remedy.run("a")),
        _check("freshness", Remedy.run("a")),
        _check("canary", Remedy.run("gate"), passed=None),
        _check("index", Remedy.run("b")),
        _check("shadow", Remedy.run("c")),
        _check("search", Remedy.run("d")),
        _check("plan"),
    )
    assert report.remedies.splitlines() == ["Run: a", "Run: b", "Run: c"]
    assert inspect.refusal("documents", report).hint == report.remedies
    assert _report(_check("canary", Remedy.run("gate"), passed=None)).remedies == "Run: gate"


def test_a_gate_waits_only_for_what_an_upgrade_does_not_do_itself() -> None:
    of_its_own, outside = (
        _check("index", Remedy.run("vecmig upgrade", By.UPGRADE)),
        _check("shadow", Remedy.run("vecmig route")),
    )
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
    assert check.remedy is not None
    assert (check.name, check.passed, check.remedy.command) == ("shadow", False, command)
    assert check.remedy.text.startswith(remedy)
    assert command is None or command in check.remedy.text


def test_one_is_not_many() -> None:
    one = Coverage(records=1, eligible=1, fresh=0, stale=1, rejected=0, unaccounted=0)

    coverage, freshness, *_ = judge(Gate(), replace(EVIDENCE, coverage=one, old=None))
    assert coverage.detail == "1 of 1 record has no fresh vector"
    assert freshness.detail == "1 record is stale and 0 missing"
