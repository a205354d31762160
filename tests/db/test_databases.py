"""What the database tests stand on: databases that do not see each other, a server that stops and starts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest

from support.postgres import Connect, Postgres
from vecmig.errors import DatabaseError
from vecmig.postgres.session import Session
from vecmig.postgres.sessions import Database
from vecmig.postgres.settings import TEXT


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database_with_vectors(connection: psycopg.Connection[Any], turn: int) -> None:
    connection.execute("CREATE TABLE leftover AS SELECT '[1,2]'::vector AS embedding")
    assert connection.execute("SELECT vector_dims(embedding) FROM leftover").fetchall() == [(2,)]


def test_a_bare_database_has_no_vectors(bare_database_url: str, connect: Connect) -> None:
    query = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
    assert connect(bare_database_url).execute(query).fetchone() == (0,)


def test_a_child_process_uses_the_same_url(database_url: str) -> None:
    code = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT current_database()').fetchone()[0])"
    done = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in database_url


def test_a_server_of_its_own_stops_and_starts(own_postgres: Postgres) -> None:
    name = own_postgres.create_database()
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own_postgres.url(name))
    own_postgres.start()
    with psycopg.connect(own_postgres.url(name)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_session_that_cannot_be_prepared_is_closed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[psycopg.Connection[Any]] = []
    connect = Session.connect

    def kept(*args: Any, **options: Any) -> psycopg.Connection[Any]:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr(Session, "connect", kept)
    monkeypatch.setitem(TEXT, "DateStyle", "no such style")
    with pytest.raises(DatabaseError, match="DateStyle"):
        Database(database_url).connect()
    assert [connection.closed for connection in opened] == [True]
