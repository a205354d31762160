"""The day of a launch: what a script may say, how it is told, and that it is no part of what was applied."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from vecmig.errors import ScriptError
from vecmig.runner import LaunchStatus
from vecmig.script.checksum import checksum
from vecmig.script.loading import load_script
from vecmig.wording.standing import launch_text

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = date(2026, 12, 1)
SCRIPT = '''"""A statement"""
revision = "r1"
down_revision = None


def upgrade(m):
    m.execute("SELECT 1")
'''
DATED = SCRIPT.replace("revision =", "from datetime import date\n\nrevision =", 1)


def _checksum(text: str) -> str:
    return checksum(ast.parse(text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "2026-12-01, in 2 d 12 h; how long the backfill takes is not known yet"),
        (0.0, "2026-12-01, in 2 d 12 h; all is embedded"),
        (7_200.0, "2026-12-01, in 2 d 12 h; the backfill takes about 2 h, start by 2026-11-30 22:00 UTC"),
        (3 * 86_400.0, "2026-12-01, in 2 d 12 h; too late by 12 h: the backfill takes about 3 d from now"),
    ],
)
def test_a_launch_stands_beside_what_the_backfill_takes(seconds: float | None, text: str) -> None:
    assert launch_text(LaunchStatus("r1", DAY, seconds, NOW)) == text


def test_a_day_that_is_over() -> None:
    late = LaunchStatus("r1", date(2026, 11, 27), 60.0, NOW)
    assert late.late
    text = "2026-11-27, 36 h ago; too late by 36 h 1 min: the backfill takes about 1 min from now"
    assert launch_text(late) == text
    assert not LaunchStatus("r1", date(2026, 11, 27), 0.0, NOW).late, "nothing is left to do"


@pytest.mark.parametrize("value", ["datetime(2026, 12, 1)", "'2026-12-01'", "20261201"])
def test_a_launch_is_a_date(tmp_path: Path, value: str) -> None:
    path = tmp_path / "r1.py"
    path.write_text(SCRIPT + f"\nfrom datetime import datetime\nlaunch = {value}\n")
    with pytest.raises(ScriptError, match=r"launch must be a date, such as date\(2026, 12, 1\)"):
        load_script(path)


def test_a_script_says_its_launch(tmp_path: Path) -> None:
    path = tmp_path / "r1.py"
    path.write_text(SCRIPT)
    assert load_script(path).launch is None
    path.write_text(DATED + "launch = date(2026, 12, 1)\n")
    assert load_script(path).launch == DAY


@pytest.mark.parametrize(
    "same",
    [
        DATED + "launch = date(2026, 12, 1)\n",
        DATED + "launch: date = date(2027, 1, 1)\n",
        SCRIPT + "from datetime import date\nlaunch = None\n",
    ],
)
def test_a_launch_may_be_added_and_moved_after_a_script_was_applied(same: str) -> None:
    assert _checksum(same) == _checksum(SCRIPT)


@pytest.mark.parametrize(
    "other",
    [
        DATED + "launch = date(2026, 12, 1)\nsince = date(2026, 1, 1)\n",
        SCRIPT + "def f():\n    launch = 5\n",
        SCRIPT + "from datetime import date\n",
    ],
)
def test_what_else_is_said_counts(other: str) -> None:
    assert _checksum(other) != _checksum(SCRIPT)
