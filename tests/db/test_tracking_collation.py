"""A key in a collation of its own: the vectors have it too, so that their index serves, as the plan tells."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from support.lab import SMALL, Lab
from vecmig import runner
from vecmig.freshness.pending import read_page

Connection = psycopg.Connection[Any]

_COLUMNS = {
    "C": 'id text COLLATE "C" PRIMARY KEY',
    "POSIX": 'id varchar(40) COLLATE "POSIX" PRIMARY KEY',
    "domain": "id shouted PRIMARY KEY",
    "composite": 'part int, id text COLLATE "C", PRIMARY KEY (part, id)',
}
_MANY = 2_000


def _make(connection: Connection, columns: str) -> None:
    connection.execute('CREATE DOMAIN shouted AS text COLLATE "C" CHECK (VALUE = upper(VALUE))')
    connection.execute(f"CREATE TABLE documents ({columns}, title text, body text)")
    part = "n, " if "part" in columns else ""
    connection.execute(
        f"INSERT INTO documents SELECT {part}'KEY ' || n, 'title ' || n, 'body ' || n FROM generate_series(1, %s) n",
        [_MANY],
    )


def _plan(connection: Connection, statement: str) -> str:
    """Explain a statement; how its nodes are called, and by which condition an index is looked into."""
    row = connection.execute(f"EXPLAIN (FORMAT json) {statement}").fetchone()
    assert row is not None
    return json.dumps(row[0])


@pytest.mark.parametrize("columns", _COLUMNS.values(), ids=list(_COLUMNS))
def test_the_vectors_index_serves_deletes_and_pages(bare_lab: Lab, connection: Connection, columns: str) -> None:
    _make(connection, columns)
    lab = bare_lab.write(key=("part", "id") if "part" in columns else ("id",))
    lab.upgrade("r1")
    connection.execute("ANALYZE documents; ANALYZE documents_vectors")
    stamps = lab.stamps(SMALL)
    assert not any(column.collated for column in stamps.source.key)
    partition = stamps.relation.as_string(None)
    part = "v.part = 7 AND " if "part" in columns else ""
    plan = _plan(connection, f"DELETE FROM {partition} v WHERE v.tag = '{SMALL}' AND {part}v.id = 'KEY 7'::text")
    assert "Index Cond" in plan
    assert "id" in plan.split("Index Cond")[1].split('"')[2]
    connection.execute("DELETE FROM documents WHERE id = 'KEY 7'")
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 'KEY 8'")
    lab.sync()
    assert lab.cover(SMALL).share == 1
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(_MANY - 1,)]
    with lab.opened(SMALL) as (session, opened):
        assert read_page(session, opened, None, 100).size == 100


def test_vectors_of_an_earlier_vecmig_are_found_by_what_is_ordered_otherwise(
    bare_lab: Lab, connection: Connection
) -> None:
    _make(connection, _COLUMNS["C"])
    lab = bare_lab.write()
    lab.upgrade("r1")
    connection.execute("DROP VIEW documents_live")
    connection.execute('ALTER TABLE documents_vectors ALTER id TYPE text COLLATE "default"')
    (column,) = lab.inspected().key
    assert column.collated
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 'KEY 8'")
    lab.sync()
    assert lab.cover(SMALL).share == 1
    (finding,) = [one for one in runner.audit(lab.config, ask=False).findings if one.kind == "key collation"]
    detach, alter, attach = finding.fix.split("; ")
    assert (detach, attach) == ("vecmig view detach documents", "vecmig view attach documents")
    runner.detach_view(lab.config, "documents")
    connection.execute(alter)
    runner.attach_view(lab.config, "documents")
    assert not any(column.collated for column in lab.inspected().key)
    assert [one for one in runner.audit(lab.config, ask=False).findings if one.kind == "key collation"] == []
