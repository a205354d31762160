"""The states in which a project is met at night: what status names next can be run, helps, and undoes no decision."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
import yaml

from support.embedding import Model
from support.lab import LARGE, SMALL, TINY, Lab
from support.waiting import try_again_at_once, wait_for
from vecmig import runner
from vecmig.cli.app import main
from vecmig.config import load_config
from vecmig.errors import DatabaseUnreachable, TerminalEmbedderError, TransientEmbedderError, VecmigError
from vecmig.events import Event, Progress, StepStarted, Waiting
from vecmig.ledger import failures
from vecmig.ledger.control import Run, report
from vecmig.runner import Status

NOTHING = "nothing to do"


def _status(lab: Lab) -> Status:
    return runner.status(lab.config)


def _follow(lab: Lab, expected: str) -> Status:
    """Run what status names, which must be ``expected`` and succeed; return how things stand then."""
    command = _status(lab).next_command
    assert command == expected
    program, *args = shlex.split(command)
    assert program == "vecmig"
    assert main(["-c", str(lab.path / "vecmig.ini"), *args]) == 0, command
    return _status(lab)


def _words(lab: Lab) -> str:
    """Return what status says where no command helps."""
    status = _status(lab)
    assert status.next_command is None
    return status.next_step


@contextmanager
def _upgrading(lab: Lab, until: Callable[[Event], bool], *, stays: bool = True) -> Iterator[None]:
    """Have an upgrade at work that has come to an event; if it ``stays``, there for as long as the block runs."""
    there, go_on = threading.Event(), threading.Event()
    failed: list[VecmigError] = []

    def listen(event: Event) -> None:
        if until(event):
            there.set()
            assert not stays or go_on.wait(60)

    def work() -> None:
        try:
            runner.upgrade(lab.config, listener=listen)
        except VecmigError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert there.wait(60)
        yield
    finally:
        go_on.set()
        thread.join(60)
    assert failed == []


def _run(lab: Lab, what: str, state: str = "running") -> Run:
    """Wait until a step shows in status, and return it."""
    found: list[Run] = []

    def seen() -> bool:
        found[:] = [run for run in lab.status().runs if (run.what, run.state) == (what, state)]
        return bool(found)

    wait_for(seen)
    return found[0]


# Nothing at work --------------------------------------------------------------------------------------------------


def test_nothing_yet(lab: Lab) -> None:
    for script in (lab.path / "migrations" / "versions").glob("*.py"):
        script.unlink()
    assert _follow(lab, "vecmig revision").next_command == "vecmig upgrade head"


@pytest.mark.upgraded("r1")
def test_a_tag_is_asked_for_and_there_is_no_revision(lab: Lab) -> None:
    (lab.path / "migrations" / "versions" / "r2.py").unlink()
    assert _follow(lab, "vecmig revision").next_command == "vecmig upgrade head"


@pytest.mark.upgraded("r1")
def test_a_revision_is_pending(lab: Lab) -> None:
    assert _follow(lab, "vecmig upgrade head").settled


@pytest.mark.upgraded("r2", until="expand")
def test_half_is_embedded_and_no_run_is_at_work(lab: Lab) -> None:
    lab.backfill(limit=8)
    assert _follow(lab, "vecmig upgrade head").settled


@pytest.mark.upgraded
def test_live(lab: Lab) -> None:
    assert _words(lab) == NOTHING


@pytest.mark.upgraded
def test_records_are_stale(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'edited' WHERE id < 5")
    assert _follow(lab, "vecmig sync").settled


@pytest.mark.upgraded("r1")
def test_the_gate_waits_for_evals(lab: Lab) -> None:
    lab.script(2, SMALL, LARGE, more=', evals=[NoWorse("known-item", "nDCG@10", tolerance=1.0)]')
    lab.upgrade(until="index")
    assert _follow(lab, "vecmig eval --make known-item").next_command == "vecmig eval known-item"


# What a person decided --------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_rolled_back(lab: Lab) -> None:
    runner.downgrade(lab.config, "-1")
    assert _words(lab) == "nothing to do; on hold: r2 (to go forward: vecmig release r2)"
    assert main(["-c", str(lab.path / "vecmig.ini"), "upgrade", "head"]) == 0
    assert lab.live == SMALL


@pytest.mark.upgraded("r2", until="backfill")
def test_abandoned(lab: Lab) -> None:
    runner.downgrade(lab.config, "-1")
    assert _words(lab) == "nothing to do; on hold: r2 (to go forward: vecmig release r2)"


@pytest.mark.upgraded
def test_a_pause_was_forgotten(lab: Lab) -> None:
    runner.pause(lab.config, reason="lunch")
    assert _follow(lab, "vecmig resume documents").next_step == NOTHING


@pytest.mark.upgraded("r1")
def test_paused_while_a_run_is_at_work(lab: Lab, model: Model) -> None:
    with _upgrading(lab, lambda event: isinstance(event, StepStarted) and event.step == "backfill"):
        runner.pause(lab.config)
        assert _follow(lab, "vecmig resume documents").next_step.startswith("nothing to do: upgrade is at work on ")


# What somebody broke ----------------------------------------------------------------------------------------------


@pytest.mark.upgraded
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER vecmig_documents_track ON documents",
        "DROP VIEW documents_live",
        "DROP FUNCTION documents_search",
        "DROP INDEX {index}",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass",
    ],
)
def test_something_was_dropped(lab: Lab, statement: str) -> None:
    lookup = "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relam <> 403"
    (index,) = [name for (name,) in lab.sql(lookup) if _partition(lab) in name]
    lab.sql(statement.format(index=index))
    assert _follow(lab, "vecmig sync").settled


def _partition(lab: Lab) -> str:
    with lab.opened(LARGE) as (_, stamps):
        return stamps.relation.as_string().rpartition(".")[2].strip('"')[:30]


@pytest.mark.upgraded
def test_the_index_of_the_standby_is_gone(lab: Lab) -> None:
    """A rollback to it would be one to reads without an index."""
    with lab.opened(SMALL) as (_, stamps):
        relation = stamps.relation.as_string()
    (index,) = [
        name
        for (name,) in lab.sql(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass", relation
        )
        if "hnsw" in name
    ]
    lab.sql(f"DROP INDEX {index}")
    assert _follow(lab, "vecmig sync").settled


@pytest.mark.upgraded
@pytest.mark.parametrize(
    "statement", ["ALTER TABLE documents RENAME COLUMN body TO b2", "DROP TABLE documents CASCADE"]
)
def test_a_source_that_no_command_puts_right(lab: Lab, statement: str) -> None:
    lab.sql(statement)
    assert _words(lab)
    assert main(["-c", str(lab.path / "vecmig.ini"), "status", "--check"]) != 0


@pytest.mark.upgraded
def test_a_sync_does_not_end_the_failure_of_an_upgrade(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError("The key is refused (401).")

    grown = lab.write(chain=[SMALL, LARGE, TINY])
    model.before = refuse
    with pytest.raises(TerminalEmbedderError):
        grown.upgrade()
    model.before = lambda texts: None
    grown.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    grown.sync()
    failure = grown.status().failure
    assert failure is not None
    assert failure.what == "upgrade"
    grown.upgrade()
    assert grown.status().failure is None


@pytest.mark.upgraded("r1")
def test_a_missing_view_comes_before_the_next_revision(lab: Lab) -> None:
    lab.sql("DROP VIEW documents_live")
    assert _follow(lab, "vecmig sync").next_command == "vecmig upgrade head"


@pytest.mark.upgraded
def test_a_script_was_edited(lab: Lab) -> None:
    path = lab.path / "migrations" / "versions" / "r2.py"
    path.write_text(path.read_text().replace("m.expand()", "m.expand(); m.execute('SELECT 1')"))
    assert _words(lab) == "Take the change back (git checkout), or if it is meant, record it: vecmig stamp r2"
    runner.stamp(lab.config, "r2")
    assert _words(lab) == NOTHING


@pytest.mark.upgraded
def test_a_recipe_was_edited(lab: Lab) -> None:
    path = lab.path / "migrations" / "collections.yaml"
    data = yaml.safe_load(path.read_text())
    data["tags"][LARGE]["document_prompt"] = "passage: {text}"
    path.write_text(yaml.safe_dump(data))
    assert _words(lab).startswith("A tag never changes its recipe.")


@pytest.mark.upgraded
def test_the_recipe_of_the_live_tag_is_gone(lab: Lab) -> None:
    """What is to be added has the address of the provider: without it the texts would go to another one."""
    address = "http://embedder.internal:8080/v1"
    recorded = "UPDATE vecmig.tag SET recipe = recipe || jsonb_build_object('base_url', %s::text) WHERE tag = %s"
    lab.sql(recorded, address, LARGE)
    path = lab.path / "migrations" / "collections.yaml"
    data = yaml.safe_load(path.read_text())
    del data["tags"][LARGE]
    path.write_text(yaml.safe_dump(data))
    status = _status(lab)
    assert not status.settled
    assert status.collections[0].route.live == LARGE
    assert f"{LARGE}: {{" in status.next_step
    assert address in status.next_step


@pytest.mark.upgraded("r1")
def test_two_heads_of_one_collection(lab: Lab) -> None:
    lab.script(3, SMALL, TINY, down="r1")
    words = _words(lab)
    assert "documents" in words
    assert "vecmig edit" in words
    assert "merge" not in words
    lab.script(3, LARGE, TINY, down="r2")
    assert _status(lab).next_command == "vecmig upgrade head"


# At work ----------------------------------------------------------------------------------------------------------


def _at_work(lab: Lab) -> None:
    assert _words(lab).startswith("nothing to do: upgrade is at work on ")


@pytest.mark.upgraded("r1")
def test_a_backfill_is_at_work(lab: Lab) -> None:
    with _upgrading(lab, lambda event: isinstance(event, Progress)):
        _at_work(lab)
        assert _run(lab, "backfill").tag == LARGE


@pytest.mark.upgraded("r1")
def test_its_provider_is_down(lab: Lab, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_at_once(monkeypatch)

    def busy(texts: list[str]) -> None:
        raise TransientEmbedderError("The provider is busy (503).")

    model.before = busy
    with _upgrading(lab, lambda event: isinstance(event, Waiting), stays=False):
        _at_work(lab)
        assert "The provider is busy (503)" in (_run(lab, "backfill", "waiting").reason or "")
        model.before = lambda texts: None
    assert _words(lab) == NOTHING


@pytest.mark.upgraded("r1")
def test_a_key_was_refused(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError("The key is refused (401).", hint="Set OPENAI_API_KEY, then run this again.")

    model.before = refuse
    with pytest.raises(TerminalEmbedderError):
        lab.upgrade()
    failure = lab.status().failure
    assert failure is not None
    assert (failure.what, failure.error, failure.exit_code) == ("upgrade", "The key is refused (401).", 7)
    model.before = lambda texts: None
    status = _follow(lab, "vecmig upgrade head")
    assert (status.settled, status.collections[0].failure) == (True, None)


@pytest.mark.upgraded("r1")
def test_an_index_is_being_built(lab: Lab) -> None:
    with _upgrading(lab, lambda event: isinstance(event, StepStarted) and event.step == "index"):
        _at_work(lab)
        run = _run(lab, "index")
        assert run.tag == LARGE


@pytest.mark.upgraded("r1")
def test_an_index_build_waits_for_a_transaction(lab: Lab) -> None:
    with psycopg.connect(lab.url, application_name="nightly report") as busy:
        lab.upgrade(until="backfill")
        busy.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        busy.execute("SELECT count(*) FROM documents").fetchone()
        with _upgrading(lab, lambda event: isinstance(event, Waiting)):
            _at_work(lab)
            run = _run(lab, "index", "waiting")
            assert "nightly report" in (run.reason or "")
            busy.rollback()


@pytest.mark.upgraded("r1")
def test_a_cutover_is_blocked(lab: Lab) -> None:
    lab.upgrade(until="gate")
    # it is replaced then, for which a lock is needed that readers hold
    lab.sql("ALTER VIEW documents_live RESET (security_invoker)")
    with psycopg.connect(lab.url, application_name="nightly report") as busy:
        busy.execute("SELECT count(*) FROM documents_live").fetchone()
        with _upgrading(lab, lambda event: isinstance(event, Waiting)):
            _at_work(lab)
            run = _run(lab, "cutover", "waiting")
            assert "nightly report" in (run.reason or "")
            busy.rollback()


def test_the_database_is_down(lab: Lab) -> None:
    (lab.path / "vecmig.ini").write_text("[vecmig]\ndatabase_url = postgresql://localhost:1/nothing\n")
    with pytest.raises(DatabaseUnreachable) as refused:
        runner.status(load_config(lab.path / "vecmig.ini"))
    assert refused.value.hint


# The last failure -------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_sync_that_finds_nothing_left_ends_a_failure(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError("The key is refused (401).")

    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    model.before = refuse
    with pytest.raises(TerminalEmbedderError):
        lab.sync()
    assert lab.status().failure is not None
    lab.sql("DELETE FROM documents WHERE id = 1")
    lab.sync()
    assert lab.status().failure is None


@pytest.mark.upgraded("r1")
def test_of_a_long_message_the_first_line_is_kept(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str]) -> None:
        raise TerminalEmbedderError(f"{'x' * 1000}\nsecond line", hint="postgresql://app:secret@db/app")

    model.before = refuse
    with pytest.raises(TerminalEmbedderError):
        lab.upgrade()
    failure = lab.status().failure
    assert failure is not None
    assert failure.error == f"{'x' * 299}…"
    assert "secret" not in failure.hint


@pytest.mark.upgraded("r2", until="backfill")
def test_a_run_that_was_killed_is_told_of_until_another_one_ends(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.database.session() as connection:
        report(connection, "vecmig", Run(lab.name, LARGE, "index", host="ci-7", pid=4711))
    assert lab.status().failure is None, "it may be at work"
    monkeypatch.setattr(failures, "LOST_AFTER", 0.0)
    failure = lab.status().failure
    assert failure is not None
    assert (failure.what, failure.host, failure.exit_code) == ("index", "ci-7", None)
    assert failure.error == "its process 4711 was killed, or lost the database"
    lab.upgrade()
    assert lab.status().failure is None
