"""What vecmig itself has put into a column of the source goes with what it was made for, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from support.adopting import TEXT, adopts, give_vectors, kept_as_found, literal
from support.embedding import Model
from support.lab import SMALL, Lab
from support.postgres import Postgres
from vecmig.source.source import partition_name

ALL = 20
FILLED = 5


@pytest.fixture
def filled(lab: Lab, model: Model) -> Lab:
    """Adopt in place where the first records have no vector, and vecmig fills them.

    Beside the source stands a twin of it that vecmig does not know: what was written to both is to be alike in the end.
    """
    lab.sql("ALTER TABLE documents ALTER COLUMN body DROP NOT NULL, ADD COLUMN state text NOT NULL DEFAULT 'out'")
    # more records than one, so that few are few
    give_vectors(lab, where=f"id > {FILLED}")
    lab.write(options={"where": "state <> 'draft'"})
    lab.sql("CREATE TABLE twin (LIKE documents INCLUDING ALL)")
    lab.sql("INSERT INTO twin SELECT * FROM documents")
    adopts(lab, 'm.adopt("embedding", home="column", fill=True)')
    lab.upgrade("r1")
    assert model.total() == FILLED
    return lab


def _write(lab: Lab, *statements: str) -> None:
    """Write in one transaction, as the application does, to the source and to its twin."""
    with psycopg.connect(lab.url) as connection:
        for table in ("documents", "twin"):
            for statement in statements:
                connection.execute(statement.replace("documents", table))


def _require_as_found(lab: Lab, postgres: Postgres, folder: Path) -> None:
    """Go back to base, and find in the source what its twin has."""
    lab.downgrade("base")
    after = kept_as_found(lab, postgres, folder / "after.sql")
    lab.sql("DELETE FROM documents")
    lab.sql("INSERT INTO documents SELECT * FROM twin")
    assert after == kept_as_found(lab, postgres, folder / "twin.sql")


def _fills(lab: Lab) -> list[int]:
    """Return the records whose vector vecmig has written."""
    return [key for (key,) in lab.sql("SELECT id FROM documents_vectors WHERE embedding IS NOT NULL ORDER BY 1")]


def _own(number: str) -> str:
    return f"UPDATE documents SET embedding = '{literal(f'own {number}')}'"


#: Of keys that were made negative: each of two gets that of the other.
_BACK = "UPDATE documents SET id = -id WHERE id < 0"
_CHANGES = {
    "no text": ["UPDATE documents SET body = NULL WHERE id = 2"],
    "a blank text": ["UPDATE documents SET title = ' ', body = ' ' WHERE id IN (2, 3)"],
    "no text, then one": [
        "UPDATE documents SET body = NULL WHERE id = 2",
        "sync",
        "UPDATE documents SET body = 'new' WHERE id = 2",
    ],
    "another key": ["UPDATE documents SET id = 102 WHERE id = 2"],
    "another key and text": ["UPDATE documents SET id = 102, body = 'new' WHERE id = 2"],
    "another key, then text": [
        "UPDATE documents SET id = 102 WHERE id = 2",
        "UPDATE documents SET body = 'new' WHERE id = 102",
    ],
    "another key, then no text": [
        "UPDATE documents SET id = 102 WHERE id = 2",
        "UPDATE documents SET body = NULL WHERE id = 102",
    ],
    "other keys all": ["UPDATE documents SET id = id + 100"],
    "other keys twice": ["UPDATE documents SET id = id + 100", "UPDATE documents SET id = id + 100"],
    "keys that change places": [f"UPDATE documents SET id = -5 + id WHERE id IN (2, 3); {_BACK}"],
    "keys of a fill and a vector change places": [f"UPDATE documents SET id = -15 + id WHERE id IN (2, 13); {_BACK}"],
    "another key, deleted": ["UPDATE documents SET id = 102 WHERE id = 2", "DELETE FROM documents WHERE id = 102"],
    "outside": ["UPDATE documents SET state = 'draft' WHERE id = 2"],
    "outside under another key": [
        "UPDATE documents SET state = 'draft' WHERE id = 2",
        "UPDATE documents SET id = 102 WHERE id = 2",
    ],
    "outside with a vector of its own": [
        "UPDATE documents SET state = 'draft' WHERE id = 2",
        f"{_own('2')} WHERE id = 2",
    ],
    "a vector of its own": [f"{_own('2')} WHERE id = 2"],
    "a vector of its own under another key": [
        "UPDATE documents SET id = 102 WHERE id = 2",
        f"{_own('2')} WHERE id = 102",
    ],
    "a vector of its own, then no text": [
        f"{_own('2')} WHERE id = 2",
        "UPDATE documents SET body = NULL WHERE id = 2",
    ],
}


@pytest.mark.parametrize("synced", ["at the end", "after each", "never"])
@pytest.mark.parametrize("change", _CHANGES)
def test_the_table_is_as_it_was_found_whatever_became_of_a_fill(
    filled: Lab, postgres: Postgres, tmp_path: Path, change: str, synced: str
) -> None:
    for step in _CHANGES[change]:
        if step != "sync":
            _write(filled, *step.split("; "))
        if step == "sync" or synced == "after each":
            filled.sync()
    if synced != "never":
        filled.sync()
    _require_as_found(filled, postgres, tmp_path)


@pytest.mark.parametrize("change", [change for change in _CHANGES if "a fill and a vector" not in change])
def test_no_record_is_missing_for_good(filled: Lab, change: str) -> None:
    for step in _CHANGES[change]:
        if step != "sync":
            _write(filled, *step.split("; "))
        filled.sync()
    filled.sync()
    coverage = filled.cover(SMALL)
    assert (coverage.missing, coverage.stale, filled.waiting) == (0, 0, [])
    bare = f"SELECT id FROM documents WHERE state <> 'draft' AND {TEXT} ~ '\\S' AND embedding IS NULL"
    assert filled.sql(bare) == []


def test_a_key_that_changed_alone_keeps_the_fill(filled: Lab, model: Model) -> None:
    _write(filled, "UPDATE documents SET id = id + 100")
    filled.sync()
    assert (model.total(), _fills(filled)) == (FILLED, [101, 102, 103, 104, 105])
    assert filled.sql("SELECT count(*) FROM vecmig.fill") == [(0,)]
    assert filled.cover(SMALL).fresh == ALL


def test_a_text_that_is_gone_takes_the_fill_along(filled: Lab) -> None:
    _write(filled, "UPDATE documents SET body = NULL WHERE id IN (2, 13)")
    filled.sync()
    # what the application has written stays
    assert filled.sql("SELECT id, embedding IS NULL FROM documents WHERE id IN (2, 13) ORDER BY id") == [
        (2, True),
        (13, False),
    ]
    assert (_fills(filled), filled.waiting) == ([1, 3, 4, 5], [])


def test_so_it_does_where_nothing_told_of_it(filled: Lab) -> None:
    filled.sql("ALTER TABLE documents DISABLE TRIGGER USER")
    _write(filled, "UPDATE documents SET body = NULL WHERE id = 2")
    filled.sync()
    assert filled.sql("SELECT embedding FROM documents WHERE id = 2") == [(None,)]
    assert _fills(filled) == [1, 3, 4, 5]


@pytest.mark.parametrize("held", ["SELECT FROM documents WHERE id = 2 FOR UPDATE", "UPDATE documents SET title = 'x'"])
def test_a_record_that_the_application_holds_keeps_its_fill_until_the_next_time(filled: Lab, held: str) -> None:
    _write(filled, "UPDATE documents SET body = NULL WHERE id IN (2, 3)")
    with psycopg.connect(filled.url) as application:
        application.execute(held)
        filled.sync()
        assert 2 in _fills(filled)
        application.rollback()
    assert filled.sql("SELECT count(*) FROM documents WHERE id = 2 AND embedding IS NOT NULL") == [(1,)]
    filled.sync()
    assert (_fills(filled), filled.waiting) == ([1, 4, 5], [])
    assert filled.sql("SELECT count(*) FROM documents WHERE id IN (2, 3) AND embedding IS NOT NULL") == [(0,)]


def test_so_it_does_under_another_key(filled: Lab) -> None:
    _write(filled, "UPDATE documents SET id = 102 WHERE id = 2")
    with psycopg.connect(filled.url) as application:
        application.execute("SELECT FROM documents WHERE id = 102 FOR UPDATE")
        filled.sync()
        application.rollback()
    filled.sync()
    assert (_fills(filled), filled.cover(SMALL).fresh) == ([1, 3, 4, 5, 102], ALL)


def test_a_downgrade_goes_on_where_the_stamps_are_gone(filled: Lab) -> None:
    filled.sql(f"DROP TABLE vecmig.{partition_name('documents', SMALL)} CASCADE")
    filled.downgrade("base")
    assert filled.live is None


def test_a_sweep_of_fills_is_no_news_to_it(filled: Lab, model: Model) -> None:
    _write(filled, "UPDATE documents SET body = NULL WHERE id IN (2, 13)")
    filled.sync()
    assert filled.waiting == []
    assert (filled.cover(SMALL).fresh, model.total()) == (ALL - 2, FILLED)


def test_a_sweep_and_an_application_that_writes_the_same_records_wait_for_each_other_never_both(filled: Lab) -> None:
    """The application locks rows, then the outbox; a sweep may not hold the outbox while it waits for a row."""
    _write(filled, "UPDATE documents SET body = NULL WHERE id <= 5")
    with psycopg.connect(filled.url) as application:
        for key in (5, 4, 3):
            application.execute("UPDATE documents SET body = 'again' WHERE id = %s", [key])
        filled.sync()
        for key in (2, 1):
            application.execute("UPDATE documents SET body = 'again' WHERE id = %s", [key])
    filled.sync()
    assert (filled.cover(SMALL).fresh, filled.waiting) == (ALL, [])
