"""A prepared transaction in the way has no session that could be ended: it is named, with what ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.embedding import Model
from support.lab import Lab, create_documents
from support.postgres import Postgres
from vecmig import runner
from vecmig.errors import Blocked, DatabaseError

GID = "order 7's end"


@pytest.fixture
def preparing(own_postgres: Postgres, tmp_path: Path, model: Model) -> Iterator[Lab]:
    """A project on a server that lets transactions be prepared."""
    own_postgres.execute("ALTER SYSTEM SET max_prepared_transactions = 4")
    own_postgres.stop()
    own_postgres.start()
    url = own_postgres.url(own_postgres.create_database())
    with psycopg.connect(url, autocommit=True) as connection:
        create_documents(connection)
        yield Lab(tmp_path, url, lock_wait=1.5).write()
        for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            connection.execute("ROLLBACK PREPARED " + psycopg.sql.Literal(gid).as_string(connection))


def _prepare(lab: Lab, *statements: str, gid: str = GID) -> None:
    with psycopg.connect(lab.url) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute(psycopg.sql.SQL("PREPARE TRANSACTION {}").format(psycopg.sql.Literal(gid)))


def _end(lab: Lab, hint: str) -> None:
    """Do what a hint says."""
    for statement in re.findall(r"ROLLBACK PREPARED '(?:[^']|'')*';", hint):
        lab.sql(statement)


def test_a_change_of_the_source_names_what_was_prepared(preparing: Lab) -> None:
    _prepare(preparing, "UPDATE documents SET body = 'x' WHERE id = 1")
    _prepare(preparing, "CREATE TABLE other (n int)", gid="not in the way")

    with pytest.raises(Blocked) as blocked:
        preparing.upgrade("r1")

    error = blocked.value
    assert "Blocked by the prepared transaction 'order 7''s end'." in error.message
    assert "ROLLBACK PREPARED 'order 7''s end';" in error.hint
    assert "COMMIT PREPARED" in error.hint
    assert "pg_terminate_backend" not in error.hint
    assert "not in the way" not in error.message + error.hint
    _end(preparing, error.hint)
    assert preparing.upgrade("r1") == ["live"]


def test_a_session_and_a_prepared_transaction_are_told_apart(preparing: Lab) -> None:
    _prepare(preparing, "UPDATE documents SET body = 'x' WHERE id = 1")
    with psycopg.connect(preparing.url, application_name="forgotten") as session:
        session.execute("UPDATE documents SET body = 'x' WHERE id = 2")
        with pytest.raises(Blocked) as blocked:
            preparing.upgrade("r1")
        session.rollback()

    assert "the prepared transaction 'order 7''s end'" in blocked.value.message
    assert "forgotten" in blocked.value.message
    assert "pg_terminate_backend(pid)" in blocked.value.hint
    assert "ROLLBACK PREPARED 'order 7''s end';" in blocked.value.hint


def test_a_command_that_reads_names_what_was_prepared(preparing: Lab) -> None:
    preparing.upgrade("r1")
    _prepare(preparing, "LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")

    with pytest.raises(DatabaseError) as blocked:
        runner.status(preparing.config)

    assert "a lock on public.documents is held by the prepared transaction 'order 7''s end'" in blocked.value.message
    assert "ROLLBACK PREPARED 'order 7''s end';" in blocked.value.hint
    assert "pg_terminate_backend" not in blocked.value.hint
    _end(preparing, blocked.value.hint)
    runner.status(preparing.config)
