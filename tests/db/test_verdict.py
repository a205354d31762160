"""One word for how a collection stands: it is the worst of what holds, and OK where nothing is to be done."""

from __future__ import annotations

from typing import get_args

import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.source import ROOT
from vecmig import runner
from vecmig.errors import GateRefused, TerminalEmbedderError
from vecmig.ledger.control import Run, report
from vecmig.postgres.locks import runner_locks
from vecmig.runner.verdict import Word


def _verdict(lab: Lab) -> tuple[str, str]:
    found = runner.status(lab.config)
    (collection,) = found.collections
    verdict = runner.verdict_of(found, collection)
    assert (verdict.word == "OK") <= found.settled, "what is OK is settled"
    assert not (found.settled and verdict.word in ("PENDING", "AT WORK", "BLOCKED")), (
        "what is settled waits for nothing"
    )
    return verdict.word, verdict.why


def _run(lab: Lab, what: str = "backfill", state: str = "running") -> None:
    with lab.database.session() as connection:
        report(connection, "vecmig", Run(lab.name, LARGE, what, state, host="elsewhere", pid=7))  # type: ignore[arg-type]


def _refuse(_texts: list[str]) -> None:
    raise TerminalEmbedderError("The key was refused.")


def _edited(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")


def test_before_anything_was_done(lab: Lab) -> None:
    assert _verdict(lab) == ("PENDING", "revision r1 is pending")
    lab.upgrade("r1", until="expand")
    assert _verdict(lab) == ("PENDING", "revision r1 is in progress")


@pytest.mark.upgraded
def test_all_is_well_and_a_service_that_waits_changes_nothing(lab: Lab) -> None:
    assert _verdict(lab) == ("OK", "")
    _run(lab, "sync", "waiting")
    assert _verdict(lab) == ("OK", "")


@pytest.mark.upgraded("r2", until="expand")
def test_a_run_at_work_needs_nobody(lab: Lab) -> None:
    assert _verdict(lab)[0] == "PENDING"
    _run(lab)
    assert _verdict(lab) == ("AT WORK", "backfill at work")


@pytest.mark.upgraded
def test_stale_records(lab: Lab) -> None:
    _edited(lab)
    assert _verdict(lab) == ("PENDING", "records lack a fresh vector")
    _run(lab, "sync")
    assert _verdict(lab) == ("AT WORK", "sync at work")


@pytest.mark.upgraded
def test_a_pause_blocks_what_is_pending_and_one_that_was_forgotten_is_seen(lab: Lab) -> None:
    runner.pause(lab.config)
    assert _verdict(lab) == ("ATTENTION", "paused")
    _edited(lab)
    assert _verdict(lab) == ("BLOCKED", "paused")
    _run(lab, "sync", "paused")
    assert _verdict(lab) == ("BLOCKED", "paused")


@pytest.mark.upgraded
@pytest.mark.parametrize(
    ("done", "why"),
    [
        ("DROP VIEW documents_live", "Of documents, the live view is gone."),
        ("ALTER TABLE documents DISABLE TRIGGER ALL", "Of documents, triggers on the source are gone or disabled."),
        (
            "ALTER TABLE documents_vectors ENABLE ROW LEVEL SECURITY",
            "Of documents, the vectors have row-level security",
        ),
    ],
)
def test_what_is_gone_or_otherwise_needs_attention(lab: Lab, done: str, why: str) -> None:
    lab.sql(done)
    word, said = _verdict(lab)
    assert (word, said.startswith(why)) == ("ATTENTION", True)
    _run(lab, "sync")
    assert _verdict(lab)[0] == "ATTENTION", "as long as it is so"
    lab.sync()
    lab.sql("DELETE FROM vecmig.run")
    assert _verdict(lab) == ("OK", "")


@pytest.mark.upgraded
def test_a_view_that_stepped_aside_blocks(lab: Lab) -> None:
    runner.detach_view(lab.config, lab.name)
    assert _verdict(lab) == ("BLOCKED", "view detached")


@pytest.mark.upgraded
def test_a_source_that_was_replaced_blocks(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents RENAME TO before")
    lab.sql("CREATE TABLE documents (LIKE before INCLUDING ALL)")
    assert _verdict(lab) == ("BLOCKED", "source replaced")


@pytest.mark.upgraded("r1")
def test_a_gate_that_a_person_has_to_see_to_blocks(lab: Lab) -> None:
    lab.script(2, SMALL, LARGE, more=", shadow=MinSamples(40)")
    lab.upgrade(until="backfill")
    assert _verdict(lab) == ("PENDING", "revision r2 is in progress"), "the index is built by vecmig upgrade"
    with pytest.raises(GateRefused):
        lab.upgrade()
    assert _verdict(lab) == ("BLOCKED", "gate refuses: shadow")


@pytest.mark.upgraded("r1")
def test_only_the_collections_that_are_named_are_measured(lab: Lab) -> None:
    found = runner.status(lab.config, ["documents"])
    assert [collection.name for collection in found.collections] == ["documents"]
    assert found.pending == ("r2",)


@pytest.mark.upgraded
def test_a_run_that_failed_is_seen_until_one_succeeds(lab: Lab, model: Model) -> None:
    _edited(lab)
    model.before = _refuse
    with pytest.raises(TerminalEmbedderError):
        lab.sync()
    assert _verdict(lab) == ("ATTENTION", "last sync failed")
    _run(lab, "sync")
    assert _verdict(lab)[0] == "AT WORK"
    lab.sql("DELETE FROM vecmig.run")
    model.before = lambda texts: None
    lab.sync()
    assert _verdict(lab) == ("OK", "")


@pytest.mark.upgraded("r1")
def test_a_service_that_waits_hides_no_upgrade_that_failed(lab: Lab, model: Model) -> None:
    model.before = _refuse
    with pytest.raises(TerminalEmbedderError):
        lab.upgrade()
    _run(lab, "sync", "waiting")
    assert _verdict(lab) == ("ATTENTION", "last upgrade failed")
    _run(lab)
    assert _verdict(lab) == ("AT WORK", "backfill at work")


@pytest.mark.upgraded
def test_who_holds_the_lock_is_at_work(lab: Lab) -> None:
    _edited(lab)
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        assert _verdict(lab) == ("AT WORK", "upgrade at work")


@pytest.mark.upgraded
def test_what_a_person_rolled_back_is_on_hold_and_all_is_well(lab: Lab) -> None:
    runner.downgrade(lab.config, "-1", reason="recall fell")
    assert _verdict(lab) == ("OK", "")
    assert [passed.revision for passed in lab.status().held] == ["r2"]


@pytest.mark.upgraded
def test_a_script_that_was_edited_blocks(lab: Lab) -> None:
    lab.script(2, SMALL, LARGE, budget=0.5)
    assert _verdict(lab) == ("BLOCKED", "a script or a recipe was edited")


def test_the_words_are_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert all(f"| `{word}` |" in page for word in get_args(Word))
