"""What an application writes while vectors are being adopted is told apart, from the moment that there are triggers."""

from __future__ import annotations

import threading
from contextlib import suppress

import psycopg
import pytest

from support.adopting import BEFORE_A_VIEW, adopts, give_vectors, lies, literal
from support.embedding import Model
from support.held_writes import HELD, hold_at
from support.lab import SMALL, Lab
from support.waiting import wait_for
from vecmig import runner
from vecmig.errors import GateRefused

ALL = 20
_TEXT = "UPDATE documents SET body = 'b' WHERE id = 13"
_VECTOR = f"UPDATE documents SET embedding = '{literal('title 13' + chr(10) * 2 + 'b')}' WHERE id = 13"
_NEW = f"INSERT INTO documents VALUES (99, 'title 13', 'x', '{literal('title 13' + chr(10) * 2 + 'x')}')"
_AGAIN = (
    "DELETE FROM documents WHERE id = 13; "
    f"INSERT INTO documents VALUES (13, 'title 13', 'b', '{literal('title 13' + chr(10) * 2 + 'b')}')"
)
#: What an application does, a transaction each, and how many records have a vector that is of another text then.
CHANGES = {
    "the text alone": ([_TEXT], 1),
    "both in a transaction": ([f"{_TEXT}; {_VECTOR}"], 0),
    "the vector later": ([_TEXT, _VECTOR], 0),
    "the text later": ([_VECTOR, _TEXT.replace("'b'", "'c'")], 1),
    "a new record": ([_NEW], 0),
    "the text of a new record later": ([_NEW, "UPDATE documents SET body = 'c' WHERE id = 99"], 1),
    "deleted and inserted": ([_AGAIN], 0),
    "deleted and inserted, the text later": ([_AGAIN, _TEXT.replace("'b'", "'c'")], 1),
    "another key with the text": (["UPDATE documents SET body = 'b', id = 1013 WHERE id = 13"], 1),
    "another key after the text": ([_TEXT, "UPDATE documents SET id = 1013 WHERE id = 13"], 1),
    "many texts": (["UPDATE documents SET body = body || ' edited'"], ALL),
}
HOMES = {
    "copied": 'm.adopt("embedding")',
    "in place": 'm.adopt("embedding", home="column", fill=True)',
}


def _do(lab: Lab, transactions: list[str]) -> None:
    for statements in transactions:
        with psycopg.connect(lab.url) as connection:
            connection.execute(statements)


def _judge(lab: Lab, model: Model, home: str, outlived: int) -> None:
    assert lies(lab, BEFORE_A_VIEW) == []
    coverage = lab.cover(SMALL)
    bought = outlived if home == "copied" else 0
    assert (model.total(), coverage.eligible - coverage.fresh) == (bought, outlived - bought)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_written_before_the_vectors_are_taken_over(lab: Lab, model: Model, home: str, change: str) -> None:
    give_vectors(lab)
    adopts(lab, HOMES[home])
    lab.upgrade("r1", until="expand")
    transactions, outlived = CHANGES[change]
    _do(lab, transactions)
    lab.backfill()
    _judge(lab, model, home, outlived)
    lab.sync()
    _judge(lab, model, home, outlived)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_written_between_two_pages(
    lab: Lab, model: Model, home: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_vectors(lab)
    adopts(lab, HOMES[home])
    lab.upgrade("r1", until="expand")
    transactions, outlived = CHANGES[change]
    monkeypatch.setattr("vecmig.homes.adopting._MOST_RECORDS", 5)
    lab.sql(hold_at(5))
    with psycopg.connect(lab.url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        run = threading.Thread(target=lab.backfill)
        run.start()
        try:
            wait_for(lambda: lab.sql(HELD) == [(1,)])
            _do(lab, transactions)
        finally:
            holder.execute("SELECT pg_advisory_unlock(7)")
            run.join()
    lab.sync()
    _judge(lab, model, home, outlived)


def test_a_revision_that_adopts_something_else_now_trusts_no_change_of_before(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents ADD COLUMN other vector(64)")
    lab.sql("UPDATE documents SET other = embedding")
    script = adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1", until="expand")
    _do(lab, [f"{_TEXT}; {_VECTOR}"])
    script.write_text(script.read_text().replace('"embedding"', '"other"'))
    lab.backfill()
    _judge(lab, model, "copied", 1)


def test_what_was_expanded_without_it_trusts_no_change_of_before(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab.upgrade("r1", until="expand")
    _do(lab, [_TEXT])
    adopts(lab, HOMES["in place"])
    with suppress(GateRefused):
        lab.upgrade("r1")
    _judge(lab, model, "in place", 1)
    _do(lab, [_VECTOR])
    assert runner.backfill(lab.config)
    _judge(lab, model, "in place", 0)


@pytest.mark.parametrize("home", HOMES)
def test_so_it_is_where_the_printed_sql_was_run(lab: Lab, model: Model, home: str) -> None:
    give_vectors(lab)
    adopts(lab, HOMES[home])
    lines: list[str] = []
    runner.upgrade_sql(lab.config, "r1", lines.append)
    with psycopg.connect(lab.url, autocommit=True) as connection:
        for line in lines:
            connection.execute(line)
    _do(lab, [f"{_TEXT}; {_VECTOR}", _TEXT.replace("13", "12")])
    lab.backfill()
    _judge(lab, model, home, 1)
