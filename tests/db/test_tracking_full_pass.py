"""A full pass that was noted as needed: shown with its reason, done by the next run, cleared only by a complete one."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig.freshness.full_pass import note_full_pass
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]
REASON = "a change could not be noted"


def _note(lab: Lab) -> None:
    with lab.database.session() as session:
        note_full_pass(session, "vecmig", "documents", REASON)


def _change_unseen(lab: Lab, *statements: str) -> None:
    """Change the source as no trigger sees it."""
    with psycopg.connect(lab.url) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.upgraded
def test_status_tells_why_and_the_next_sync_does_it(lab: Lab) -> None:
    _change_unseen(lab, "UPDATE documents SET body = 'new' WHERE id = 3", "DELETE FROM documents WHERE id = 4")
    _note(lab)
    _note(lab)
    found = lab.status()
    assert [one.reason for one in found.full_pass] == [REASON]
    assert found.full_pass[0].first < found.full_pass[0].last
    assert not found.complete
    lab.sync()
    assert lab.noted == []
    assert lab.cover(SMALL).share == lab.cover(LARGE).share == 1
    assert lab.sql("SELECT count(*) FROM documents_vectors WHERE id = 4") == [(0,)]
    assert lab.status().complete


@pytest.mark.upgraded("r2", until="backfill")
def test_it_stands_until_every_tag_in_use_was_compared(lab: Lab) -> None:
    _note(lab)
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        lab.sync()
    assert lab.sql("SELECT passed FROM vecmig.full_pass") == [([SMALL],)]
    lab.backfill()
    assert lab.noted == []


@pytest.mark.upgraded("r1")
def test_what_is_noted_while_a_pass_goes_on_stands(lab: Lab, model: Model) -> None:
    """Its change may have come behind the place that the pass had reached."""
    _change_unseen(lab, "UPDATE documents SET body = 'new' WHERE id = 20")
    _note(lab)
    began, go_on = threading.Event(), threading.Event()

    def hold(texts: list[str]) -> None:
        began.set()
        assert go_on.wait(30)

    model.before = hold
    syncing = threading.Thread(target=lab.sync)
    syncing.start()
    assert began.wait(30)
    with psycopg.connect(lab.url) as writing:
        writing.execute("INSERT INTO vecmig.full_pass (collection, reason) VALUES ('documents', 'later')")
        go_on.set()
        syncing.join()
    assert lab.noted == ["later"]


def test_it_stands_while_a_record_lacks_its_vector_and_nothing_says_so(
    lab: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application holds the record: it is left for later, and only the note knows of it."""
    monkeypatch.setattr("vecmig.homes.held_rows.LOCK_PATIENCE", 0.1)
    monkeypatch.setattr("vecmig.homes.partition.writing.write_records.__kwdefaults__", {"patience": 0.1})
    lab.upgrade("r1")
    _change_unseen(lab, "UPDATE documents SET body = 'new' WHERE id = 3")
    _note(lab)
    with psycopg.connect(lab.url) as holding:
        holding.execute("SELECT FROM documents WHERE id = 3 FOR UPDATE")
        lab.sync()
        assert lab.noted == [REASON]
    lab.sync()
    assert lab.noted == []


@pytest.mark.upgraded("r1", until="index")
def test_a_cutover_catches_up_with_it(lab: Lab) -> None:
    _change_unseen(lab, "UPDATE documents SET body = 'new' WHERE id = 3")
    _note(lab)
    lab.upgrade("r1")
    assert lab.live == SMALL
    assert lab.cover(SMALL).share == 1
    assert lab.noted == []
