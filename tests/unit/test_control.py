"""The words with which runs are controlled and shown, and what limits make of the time that is planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vecmig.cli.control import control_json, settings_of
from vecmig.config import load_config
from vecmig.errors import UsageError
from vecmig.ledger.control import Control, Run
from vecmig.runner.project import Project
from vecmig.runner.verbs.estimate import minutes, slowest
from vecmig.wording.standing import paused_text, run_text, tuned_words

SINCE = datetime(2026, 11, 22, 15, 40, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {}),
        (["concurrency=4"], {"concurrency": 4}),
        (["max-rate=500", "concurrency=default"], {"max_rate": 500.0, "concurrency": None}),
        (["max_rate=0.5"], {"max_rate": 0.5}),
        (["max-rate=none"], {"max_rate": None}),
    ],
)
def test_settings(words: list[str], settings: dict[str, float | None]) -> None:
    assert settings_of(words) == settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["concurency=4"], "There is no setting 'concurency'; did you mean concurrency?"),
        (["=4"], "There is no setting ''."),
        (["speed=4"], "There is no setting 'speed'."),
        (["concurrency=4", "concurrency=5"], "concurrency is set twice."),
        (["concurrency=0"], "concurrency=0: a whole number from 1 to 99999 is needed, or default."),
        (["concurrency=2.5"], "concurrency=2.5: a whole number from 1 to 99999 is needed, or default."),
        (["concurrency=-1"], "concurrency=-1: a whole number from 1 to 99999 is needed, or default."),
        (["concurrency=100000"], "concurrency=100000: a whole number from 1 to 99999 is needed, or default."),
        (["concurrency="], "concurrency=: a whole number from 1 to 99999 is needed, or default."),
        (["max-rate=0"], "max-rate=0: a number of records a second above 0 is needed, or none."),
        (["max-rate=nan"], "max-rate=nan: a number of records a second above 0 is needed, or none."),
        (["max-rate=inf"], "max-rate=inf: a number of records a second above 0 is needed, or none."),
        (["max-rate=fast"], "max-rate=fast: a number of records a second above 0 is needed, or none."),
    ],
)
def test_what_is_no_setting(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(words)
    assert caught.value.message == message
    if "no setting" in message:
        assert caught.value.hint == (
            "The settings are concurrency and max-rate, as in: vecmig tune concurrency=4 max-rate=500"
        )


def test_words_for_what_is_set() -> None:
    nothing = Control("documents")
    assert tuned_words(nothing) == ["concurrency as the recipe says", "max-rate none"]
    assert tuned_words(nothing, only_set=True) == []
    assert control_json(nothing) is None
    tuned = Control("documents", concurrency=4, max_rate=0.5)
    assert tuned_words(tuned) == ["concurrency 4", "max-rate 0.5 records/s"]
    paused = Control("documents", paused=True, reason="night job", paused_at=SINCE, paused_by="app on build-7")
    assert paused_text(paused) == "by app on build-7 since 2026-11-22 15:40:12 UTC: night job"
    assert control_json(paused) == {
        "paused": True,
        "reason": "night job",
        "paused_at": SINCE,
        "paused_by": "app on build-7",
        "concurrency": None,
        "max_rate": None,
    }


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (
            Run("documents", "m@1", "backfill", done=1280, total=7595, rate=640.4, concurrency=8, host="vm", pid=7),
            "backfill of m@1 by vm pid 7: running, 1,280 of 7,595, 640/s, up to 8 requests in flight",
        ),
        (
            Run("documents", "m@1", "sync", "throttled", "replica r is 12.0 s behind", host="vm", pid=7, rejected=2),
            "sync of m@1 by vm pid 7: throttled (replica r is 12.0 s behind), 0 of 0, 2 rejected, 0/s",
        ),
        (
            Run("documents", "m@1", "backfill", "paused", "paused by app", concurrency=1, host="vm", pid=7),
            "backfill of m@1 by vm pid 7: paused, 0 of 0, 0/s, up to 1 request in flight",
        ),
    ],
)
def test_words_for_a_run(run: Run, text: str) -> None:
    assert run_text(run) == text


def test_a_limit_of_requests_or_tokens_makes_it_take_longer() -> None:
    assert minutes(10, 10) == 0, "what fits into one minute may go at once"
    assert minutes(60, 10) == 300
    assert slowest({}) == (0.0, None)
    assert slowest({"tokens_per_minute": 0.0}) == (0.0, None)
    assert slowest({"requests_per_minute": 60.0, "tokens_per_minute": 90.0}) == (90.0, "tokens_per_minute")


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_no_amount_is_refused(amount: float, tmp_path: Path) -> None:
    (tmp_path / "vecmig.ini").write_text("[vecmig]\ndatabase_url = postgresql://nowhere/x\n")
    config = load_config(tmp_path / "vecmig.ini")
    with pytest.raises(UsageError, match="is not an amount above 0, in US dollars"):
        Project(replace(config, max_cost=amount))
