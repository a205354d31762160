"""``--sql``: what is printed runs as it stands, does what ``upgrade --until expand`` does, and nothing ran before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from support.lab import Lab
from support.postgres import Connect, Postgres
from vecmig import runner
from vecmig.postgres import settings
from vecmig.postgres.recorder import terminated

Connection = psycopg.Connection[Any]

_STATE = (
    """SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), convalidated
    FROM pg_constraint WHERE connamespace IN ('public'::regnamespace, 'vecmig'::regnamespace) ORDER BY 1, 2""",
    """SELECT a.attrelid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace IN ('public'::regnamespace, 'vecmig'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
      AND a.attnum > 0 ORDER BY 1, 2""",
    """SELECT oid::regclass::text, relkind::text, relacl::text, obj_description(oid, 'pg_class')
    FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'vecmig'::regnamespace)
      AND relkind IN ('r', 'p', 'v') ORDER BY 1""",
    "SELECT pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    # the trigger function names the source's oid, which is another one in each database
    """SELECT replace(pg_get_functiondef(oid), 'public.documents'::regclass::oid::text, 'OID'), proacl::text
    FROM pg_proc WHERE pronamespace = 'vecmig'::regnamespace ORDER BY 1""",
    "SELECT id, collection, old_tag, new_tag, phase, checksum, withdrawn_at FROM vecmig.revision ORDER BY 1",
    "SELECT collection, tag, dims, recipe, fingerprint, home, state, canary FROM vecmig.tag ORDER BY 1, 2",
    "SELECT collection, live, standby, candidate, version FROM vecmig.route",
    "SELECT name, source_oid::regclass::text, key_numbers, column_numbers, key_types FROM vecmig.collection",
    "SELECT revision, step, ordinal, sha256 FROM vecmig.statement ORDER BY 1, 2, 3",
    "SELECT kind, revision, collection, tag, version, data FROM vecmig.event ORDER BY id",
    "SELECT version FROM vecmig.schema_version",
    "SELECT * FROM ran",
    "SELECT * FROM notes",
)


def _state(connection: Connection) -> list[list[tuple[Any, ...]]]:
    return [connection.execute(query).fetchall() for query in _STATE]


def _prepare(connection: Connection) -> None:
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    connection.execute("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) AS n")
    connection.execute("GRANT SELECT ON documents TO pg_monitor")
    connection.execute("CREATE TABLE ran (n bigint)")
    connection.execute(
        "CREATE FUNCTION side() RETURNS void LANGUAGE sql AS 'INSERT INTO ran SELECT count(*) + 1 FROM ran'"
    )


def _with_statements(lab: Lab) -> None:
    """Let r1 run statements of the team's own: one that only looks as if it read, and one behind the cutover."""
    path = lab.path / "migrations" / "versions" / "r1.py"
    text = path.read_text()
    own = '    m.expand()\n    m.execute("SELECT side();")\n    m.execute("CREATE TABLE notes (share text) -- 100 %")'
    text = text.replace("    m.expand()", own)
    path.write_text(text.replace("    m.cutover(gate)", '    m.cutover(gate)\n    m.execute("SELECT side()")'))


def _printed(lab: Lab, target: str = "head") -> list[str]:
    lines: list[str] = []
    runner.upgrade_sql(lab.config, target, lines.append)
    return lines


@pytest.fixture
def twin(postgres: Postgres) -> Iterator[str]:
    """URL of a second database with the same source."""
    name = postgres.create_database()
    with psycopg.connect(postgres.url(name), autocommit=True) as connection:
        _prepare(connection)
    yield postgres.url(name)
    postgres.drop_database(name)


def test_what_is_printed_does_what_until_expand_does(
    bare_lab: Lab, connection: Connection, connect: Connect, twin: str
) -> None:
    _prepare(connection)
    lab = bare_lab.write()
    _with_statements(lab)

    lines = _printed(lab, "r1")
    assert connection.execute("SELECT to_regnamespace('vecmig'), to_regclass('notes')").fetchone() == (None, None)
    assert connection.execute("SELECT count(*) FROM ran").fetchone() == (0,)
    assert lines.count("SELECT side();") == 1
    assert "-- SELECT side();" in lines
    assert [line for line in lines if "CREATE INDEX CONCURRENTLY" in line]
    for line in lines:
        connection.execute(line)  # each in a transaction of its own, where CREATE INDEX CONCURRENTLY needs none

    other = replace(lab, url=twin).write()
    _with_statements(other)
    assert other.upgrade("r1", until="expand") == ["expanded"]
    assert _state(connection) == _state(connect(twin))

    lab.write()
    _with_statements(lab)
    assert lab.upgrade() == ["live", "live"]
    assert connection.execute("SELECT n FROM ran ORDER BY n").fetchall() == [(1,), (2,)]
    assert _printed(lab) == []


def test_what_was_done_is_not_printed_again(bare_lab: Lab, connection: Connection) -> None:
    _prepare(connection)
    lab = bare_lab.write()
    _with_statements(lab)
    lab.upgrade(until="expand")
    lines = _printed(lab, "r1")
    words = " ".join(lines)
    for done in ("CREATE SCHEMA", "CREATE TABLE", "notes", "\nSELECT"):
        assert done not in words
    assert "SELECT side();" not in lines
    assert not [line for line in lines if line.startswith("SELECT")]


def test_a_session_that_may_only_read_is_enough(
    lab: Lab, connection: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(settings._OWN, "default_transaction_read_only", "on")
        lines = _printed(lab, "r1")
    assert any("pg_catalog.record_image_ne(OLD, NEW)" in line for line in lines)
    writer = connect()
    for line in lines:
        writer.execute(line)
    assert lab.upgrade("r1") == ["live"]
    connection.execute("UPDATE documents SET title = title")
    assert lab.status().outbox.records == 0


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("SELECT 1", "SELECT 1;"),
        (" SELECT 1 ;\n;\n", "SELECT 1;"),
        ("SELECT 1 -- why", "SELECT 1 -- why\n;"),
        ("-- why\nSELECT 1", "-- why\nSELECT 1;"),
    ],
)
def test_a_statement_ends_with_one_semicolon(text: str, printed: str) -> None:
    assert terminated(text) == printed


def test_a_percent_sign_in_a_name_is_none_of_the_drivers(
    bare_lab: Lab, make_source: Callable[..., int], connection: Connection
) -> None:
    make_source()
    connection.execute('ALTER TABLE documents RENAME COLUMN id TO "share %s"')
    lab = bare_lab.write(key=("share %s",))
    path = lab.path / "vecmig.ini"
    path.write_text(f"{path.read_text()}\nschema = 10%s\n")
    lines = _printed(lab, "r1")
    for line in lines:
        connection.execute(line)
    assert lab.upgrade("r1") == ["live"]
