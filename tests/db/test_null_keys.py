"""A row with NULL in its key is no record: it is left out, counted and said, and stops nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.events import Warned

Connection = psycopg.Connection[Any]
#: Tables whose unique key may be NULL, and rows that have it so.
TABLES = {
    "one column": ("id int UNIQUE", ["id"], "NULL"),
    "two columns": ("id int, part text, UNIQUE (id, part)", ["id", "part"], "3, NULL"),
    "nulls not distinct": ("id int, part text, UNIQUE NULLS NOT DISTINCT (id, part)", ["id", "part"], "NULL, NULL"),
}


@pytest.fixture(params=TABLES)
def odd(request: pytest.FixtureRequest, bare_lab: Lab, connection: Connection) -> tuple[Lab, str]:
    """A project on two records and a row without a key; and that key."""
    columns, key, null = TABLES[request.param]
    connection.execute(f"CREATE TABLE documents ({columns}, body text)")
    values = ["1", "2"] if len(key) == 1 else ["1, 'a'", "2, 'b'"]
    for number, value in enumerate([*values, null]):
        connection.execute(f"INSERT INTO documents VALUES ({value}, 'body {number}')")
    return bare_lab.write(key=key, text="body"), null


def test_a_story_with_rows_that_have_no_key(odd: tuple[Lab, str], connection: Connection, model: Model) -> None:
    lab, null = odd
    assert lab.upgrade("r1") == ["live"]
    said = [event.message for event in lab.events if isinstance(event, Warned)]
    assert said == ["1 record of public.documents without a key, which has NULL in it: left out"]
    assert model.total() == 2
    found = lab.status()
    assert (found.records, found.eligible, found.without_key) == (2, 2, 1)

    connection.execute("UPDATE documents SET body = body || ' edited'")
    connection.execute("INSERT INTO documents (body) VALUES ('another')" if "," not in null else "SELECT 1")
    lab.sync()
    assert lab.cover(SMALL).fresh == 2
    assert lab.status().outbox.records == 0
    assert model.total() == 4

    connection.execute(
        "UPDATE documents SET id = 7, "
        + ("body = body" if "," not in null else "part = 'c'")
        + " WHERE body LIKE 'body 2%'"
    )
    connection.execute("UPDATE documents SET id = NULL WHERE body LIKE 'body 1%'")
    lab.sync()
    assert lab.cover(SMALL).fresh == 2
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (2,)
    assert lab.status().without_key == (2 if "," not in null else 1)
    assert lab.upgrade() == ["live"]
    assert runner.audit(lab.config).findings == ()
    connection.execute("DELETE FROM documents WHERE id IS NULL")
    assert lab.downgrade() == ["r2"]
    assert lab.cover(SMALL).fresh == lab.cover(LARGE).fresh == 2
    assert lab.status().without_key == 0


def test_a_key_that_cannot_be_null_costs_no_look(lab: Lab) -> None:
    assert lab.inspected().no_key is None
    assert lab.status().without_key == 0
