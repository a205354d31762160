"""What operators say reaches runs through the database: from anywhere, without a lock, and now as later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab, recipe
from vecmig import runner
from vecmig.errors import ConfigError, UsageError
from vecmig.ledger import install, schema
from vecmig.ledger.control import LOST_AFTER, Control, Run, end_run, report, runs
from vecmig.ledger.spend import correct, reserve, spent
from vecmig.postgres.locks import runner_locks

#: Seconds to wait for what takes a moment, before the test fails.
_PATIENCE = 60.0


def _control(lab: Lab) -> Control:
    return runner.controlled(lab.config)[lab.name].control


def _events(lab: Lab) -> list[tuple[str, str, dict[str, object]]]:
    query = "SELECT kind, collection, data FROM vecmig.event WHERE kind IN ('pause', 'resume', 'tune') ORDER BY id"
    return [(kind, collection, data) for kind, collection, data in lab.sql(query)]


# What is set --------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1", until="expand")
def test_pause_and_resume_are_kept_with_who_and_why(lab: Lab) -> None:
    found = runner.pause(lab.config, reason="night job")[lab.name]
    assert (found.changed, found.runs) == (True, ())
    assert found.control == _control(lab)
    assert (found.control.paused, found.control.reason) == (True, "night job")
    assert (found.control.paused_by or "").startswith("postgres on ")
    assert found.control.paused_at is not None
    assert runner.resume(lab.config)[lab.name].changed
    assert _control(lab) == Control(lab.name)
    assert not runner.resume(lab.config)[lab.name].changed
    assert _events(lab) == [("pause", "documents", {"reason": "night job"}), ("resume", "documents", {})]


@pytest.mark.upgraded("r1", until="expand")
def test_a_second_pause_keeps_since_when_and_takes_another_reason_only_if_it_has_one(lab: Lab) -> None:
    first = runner.pause(lab.config, reason="first")[lab.name].control
    again = runner.pause(lab.config)[lab.name]
    assert not again.changed
    assert again.control == first
    other = runner.pause(lab.config, reason="second")[lab.name]
    assert other.control == replace(first, reason="second")
    assert [data for _, _, data in _events(lab)] == [{"reason": "first"}, {"reason": "second"}]


@pytest.mark.upgraded("r1", until="expand")
def test_settings_are_set_and_taken_back_one_by_one(lab: Lab) -> None:
    runner.tune(lab.config, {"concurrency": 4})
    runner.tune(lab.config, {"max_rate": 2.5})
    assert (_control(lab).concurrency, _control(lab).max_rate) == (4, 2.5)
    runner.pause(lab.config)
    runner.tune(lab.config, {"concurrency": None})
    assert (_control(lab).concurrency, _control(lab).max_rate, _control(lab).paused) == (None, 2.5, True)
    runner.resume(lab.config)
    assert _control(lab).max_rate == 2.5, "resuming leaves the settings alone"
    assert runner.tune(lab.config, {"concurrency": 3, "max_rate": None})[lab.name].changed
    assert not runner.tune(lab.config, {"concurrency": 3, "max_rate": None})[lab.name].changed
    assert _events(lab)[-1] == ("tune", "documents", {"concurrency": 3, "max_rate": None})


@pytest.mark.upgraded("r1", until="expand")
def test_no_lock_is_needed(lab: Lab) -> None:
    with runner_locks(lab.database, [lab.name], what="backfill"):
        assert runner.pause(lab.config)[lab.name].changed
        assert runner.tune(lab.config, {"concurrency": 1})[lab.name].changed
        assert runner.resume(lab.config)[lab.name].changed


@pytest.mark.upgraded("r1", until="expand")
def test_a_collection_that_does_not_exist_stops_all_of_it(lab: Lab) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        runner.pause(lab.config, [lab.name, "nowhere"])
    assert not _control(lab).paused


def test_where_vecmig_was_never_used_there_is_nothing_to_control(lab: Lab) -> None:
    for command in (runner.pause, runner.resume):
        with pytest.raises(UsageError, match="vecmig was never used in the database at") as caught:
            command(lab.config)
        assert caught.value.hint == "Run: vecmig upgrade"
    assert runner.controlled(lab.config)[lab.name].control == Control(lab.name)
    assert lab.sql("SELECT to_regnamespace('vecmig')") == [(None,)]


# Runs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1", until="expand")
def test_a_run_shows_itself_until_it_ends_or_gives_no_sign_of_life(lab: Lab) -> None:
    run = Run(lab.name, SMALL, "backfill", done=3, total=20, rate=1.5, concurrency=2)
    with lab.database.session() as connection:
        report(connection, "vecmig", run)
        report(connection, "vecmig", replace(run, state="throttled", reason="replica r is behind", done=5))
        (seen,) = runs(connection, "vecmig")
        assert (seen.id, seen.state, seen.reason, seen.done) == (run.id, "throttled", "replica r is behind", 5)
        assert seen.started_at is not None
        assert seen.seen_at is not None
        (status,) = lab.status().runs
        assert status == seen
        lab.sql(f"UPDATE vecmig.run SET seen_at = now() - interval '{LOST_AFTER + 1} s'")
        assert runs(connection, "vecmig") == []
        report(connection, "vecmig", run)
        assert len(runs(connection, "vecmig")) == 1, "it was only slow"
        end_run(connection, "vecmig", run.id)
        assert runs(connection, "vecmig") == []


@pytest.mark.upgraded("r1", until="expand")
def test_spending_stops_at_the_budget_and_not_before(lab: Lab) -> None:
    with lab.database.session() as connection:

        def ask(usd: float, budget: float | None) -> float | None:
            return reserve(connection, "vecmig", "r1", "backfill", tokens=10, usd=usd, budget=budget)

        assert ask(0.3, 0.2) is None, "not even the first request"
        assert ask(0.1, 0.2) == pytest.approx(0.1)
        assert ask(0.1, 0.2) == pytest.approx(0.2), "up to the budget itself"
        assert ask(0.000001, 0.2) is None
        correct(connection, "vecmig", "r1", "backfill", tokens=-4, usd=-0.05)
        assert ask(0.05, 0.2) == pytest.approx(0.2)
        assert ask(100.0, None) == pytest.approx(100.2)
        (one,) = spent(connection, "vecmig")
        assert (one.revision, one.what, one.tokens) == ("r1", "backfill", 36)
        assert one.usd == pytest.approx(100.2)
    assert runner.status(lab.config).spend == (one,)


# An older schema ----------------------------------------------------------------------------------------------------


@pytest.fixture
def older(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A database that vecmig's first version has set up."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FILES", schema.FILES[:1])
        install.ensure(lab.database)
    return lab


def test_looking_works_on_an_older_schema_and_leaves_it_as_it_is(older: Lab) -> None:
    lab = older
    found = runner.status(lab.config)
    assert found.spend == ()
    assert (found.collections[0].runs, found.collections[0].control) == ((), Control(lab.name))
    assert [(planned.spent_usd, planned.limited_by) for planned in runner.estimate(lab.config)] == [(0.0, None)] * 2
    assert runner.controlled(lab.config)[lab.name].control == Control(lab.name)
    assert lab.sql("SELECT max(version) FROM vecmig.schema_version") == [(1,)]


def test_the_first_command_that_controls_brings_an_older_schema_up_to_date(older: Lab) -> None:
    assert runner.pause(older.config)[older.name].control.paused
    assert older.sql("SELECT max(version) FROM vecmig.schema_version") == [(schema.VERSION,)]


# A run at work ------------------------------------------------------------------------------------------------------


@contextmanager
def _in_background(work: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(_PATIENCE)
    assert not thread.is_alive(), "it did not come to its end"


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def _states(lab: Lab) -> set[str]:
    return {run.state for run in runner.controlled(lab.config)[lab.name].runs}


@pytest.mark.upgraded("r1", until="expand")
def test_a_pause_waits_for_the_next_run_which_embeds_nothing_until_resumed(lab: Lab, model: Model) -> None:
    runner.pause(lab.config, reason="not yet")
    with _in_background(lab.backfill):
        _until(lambda: [run.total for run in runner.controlled(lab.config)[lab.name].runs] == [20])
        assert model.total() == 0
        (run,) = runner.controlled(lab.config)[lab.name].runs
        assert (run.what, run.tag, run.state) == ("backfill", SMALL, "paused")
        assert "not yet" in (run.reason or "")
        runner.resume(lab.config)
    assert model.total() == 20
    assert lab.cover(SMALL).share == 1.0
    assert _states(lab) == set(), "a run that has ended is not shown"


@pytest.mark.upgraded("r1", until="expand")
def test_a_query_holds_a_run_and_lets_it_go(lab: Lab, model: Model) -> None:
    lab.sql("CREATE TABLE busy AS SELECT 1 AS n")
    ini = lab.path / "vecmig.ini"
    ini.write_text(f"{ini.read_text()}\nthrottle_query = SELECT count(*) FROM busy")
    with _in_background(lab.backfill):
        _until(lambda: _states(lab) == {"throttled"})
        assert model.total() == 0
        (run,) = runner.controlled(lab.config)[lab.name].runs
        assert run.reason == "throttle_query gives 1, which is above 0"
        lab.sql("DELETE FROM busy")
    assert model.total() == 20


@pytest.mark.upgraded("r1", until="expand", records=200, recipes={SMALL: recipe(SMALL, max_batch=2, concurrency=8)})
def test_a_tuned_run_has_no_more_requests_in_flight(lab: Lab, model: Model) -> None:
    runner.tune(lab.config, {"concurrency": 1})
    now, most = [0], [0]
    lock = threading.Lock()

    def before(_texts: list[str]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    model.before = before
    lab.backfill()
    assert most == [1]
    assert lab.cover(SMALL).share == 1.0


@pytest.mark.upgraded("r1")
def test_a_run_of_another_collection_goes_on(lab: Lab) -> None:
    """The two are told apart by name, whatever runs."""
    with lab.database.session() as connection:
        report(connection, "vecmig", Run("other", LARGE, "backfill"))
    assert lab.status().runs == ()


@pytest.mark.upgraded("r1", until="expand")
def test_reading_the_files_of_a_project_elsewhere_is_enough(lab: Lab, tmp_path: Path) -> None:
    """Another host has the configuration and the database, and nothing else of the first one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = replace(lab, path=elsewhere).write()
    runner.pause(other.config)
    assert _control(lab).paused
