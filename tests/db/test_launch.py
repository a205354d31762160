"""The day of a launch stands beside what the backfill still takes, and decides nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.ledger.control import Run, report

SOON = datetime.now(UTC).date() + timedelta(days=3)


def _launching(lab: Lab, day: date = SOON) -> None:
    lab.script(2, SMALL, LARGE, more=f")\nlaunch = __import__('datetime').date({day.year}, {day.month}, {day.day}")


@pytest.mark.upgraded("r1")
def test_it_is_known_before_the_backfill_has_a_rate(lab: Lab) -> None:
    assert lab.status().launch is None
    _launching(lab)
    launch = lab.status().launch
    assert launch is not None
    assert (launch.revision, launch.day, launch.seconds, launch.late) == ("r2", SOON, None, False)
    (estimate,) = runner.estimate(lab.config)
    assert estimate.launch is not None
    assert estimate.launch.seconds is None
    (estimate,) = runner.estimate(lab.config, rate=0.5)
    assert estimate.launch is not None
    assert estimate.launch.seconds == estimate.pending / 0.5 == 40


@pytest.mark.upgraded("r1")
def test_the_rate_is_that_of_the_runs_at_work_or_of_the_last_one(lab: Lab) -> None:
    _launching(lab)
    lab.upgrade(until="expand")
    lab.backfill(limit=8)
    last = lab.status().launch
    assert last is not None
    assert last.seconds is not None, "the backfill so far was measured"
    with lab.database.session() as connection:
        for _ in range(2):
            report(connection, "vecmig", Run(lab.name, LARGE, "backfill", rate=0.00001, host="elsewhere", pid=7))
    slow = lab.status().launch
    assert slow is not None
    assert slow.seconds == pytest.approx(12 / 0.00002), "a fleet works together"
    assert slow.late
    runner.tune(lab.config, {"max_rate": 0.00001})
    with lab.database.session() as connection:
        connection.execute("DELETE FROM vecmig.run")
    tuned = lab.status().launch
    assert tuned is not None
    assert tuned.seconds == pytest.approx(12 / 0.00001), "operators keep the runs at that"


@pytest.mark.upgraded("r1")
def test_it_opens_no_gate_and_closes_none(lab: Lab) -> None:
    _launching(lab, date(2020, 1, 1))
    lab.upgrade(until="expand")
    assert lab.checks()["coverage"] is False, "the day has come, and nothing is embedded"
    _launching(lab, date(2040, 1, 1))
    assert lab.upgrade() == ["live"], "its data is there; moving the day is no edit of what was applied"
    assert lab.status().launch is None
