"""What an upgrade costs the server: how many connections it opens, and how many statements it sends."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import Lab
from vecmig.postgres.kept import KeptSessions
from vecmig.postgres.sessions import Database


class Count:
    """What this process has sent to servers since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connections = 0
        self.statements = 0
        connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]  # a class method has it
        execute, command = psycopg.Cursor.execute, psycopg.Connection._exec_command

        def counted_connect(cls: Any, *values: Any, **options: Any) -> Any:
            self.connections += 1
            return connect(cls, *values, **options)

        def counted_execute(cursor: Any, *values: Any, **options: Any) -> Any:
            self.statements += 1
            return execute(cursor, *values, **options)

        def counted_command(connection: Any, *values: Any) -> Generator[Any, Any, Any]:
            # what begins and ends a transaction
            self.statements += 1
            return (yield from command(connection, *values))

        monkeypatch.setattr(psycopg.Connection, "connect", classmethod(counted_connect))
        monkeypatch.setattr(psycopg.Cursor, "execute", counted_execute)
        monkeypatch.setattr(psycopg.Connection, "_exec_command", counted_command)


@pytest.fixture
def count(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Counts from now on."""
    return Count(monkeypatch)


def test_an_upgrade_opens_few_connections(lab: Lab, count: Count) -> None:
    """Of two revisions, on an empty database: vecmig's own tables are part of it."""
    assert lab.upgrade() == ["live", "live"]
    assert count.connections <= 20
    # 40 of each revision ask the gate's queries for the recall of its index
    assert count.statements <= 740


def test_a_downgrade_opens_few_connections(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.upgrade()
    count = Count(monkeypatch)
    assert lab.downgrade() == ["r2"]
    assert count.connections <= 4
    assert count.statements <= 100


def test_a_session_that_has_ended_is_not_used_again(lab: Lab) -> None:
    database = Database(lab.url)
    with database.keeping_sessions():
        with database.session() as connection:
            process = connection.info.backend_pid
        with database.session() as again:
            assert again.info.backend_pid == process
        lab.sql("SELECT pg_terminate_backend(%s, 5000)", process)
        with database.session() as another:
            assert another.info.backend_pid != process


def test_a_session_is_not_used_again_after_an_error_or_within_a_transaction(lab: Lab) -> None:
    database = Database(lab.url)
    with database.keeping_sessions():
        with pytest.raises(ValueError, match="nothing of the kind"), database.session() as connection:
            raise ValueError("nothing of the kind")
        assert connection.closed
        with database.session() as connection:
            connection.execute("BEGIN")
        assert connection.closed


def test_a_fresh_session_is_for_nobody_else(lab: Lab) -> None:
    database = Database(lab.url)
    with database.keeping_sessions():
        with database.session() as kept:
            pass
        with database.session(fresh=True) as fresh:
            assert fresh is not kept
        assert fresh.closed
        assert not kept.closed
    assert kept.closed


def test_what_a_statement_of_the_teams_own_sets_ends_with_its_session(lab: Lab) -> None:
    path = lab.path / "migrations" / "versions" / "r1.py"
    setting = "SELECT set_config('vecmig.leftover', 'x', false)"
    seen = "CREATE TABLE seen AS SELECT current_setting('vecmig.leftover', true) AS leftover"
    path.write_text(
        path.read_text().replace("m.expand()", f"m.expand()\n    m.execute({setting!r})\n    m.execute({seen!r})")
    )
    assert lab.upgrade("r1") == ["live"]
    assert lab.sql("SELECT leftover FROM seen") == [(None,)]


def test_nothing_is_kept_for_later_while_a_backfill_goes_on(
    lab: Lab, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that sits idle for hours is one less for the application."""
    closed: list[int] = []
    close = KeptSessions.close

    def counted_close(kept: KeptSessions) -> None:
        closed.append(model.total())
        close(kept)

    monkeypatch.setattr(KeptSessions, "close", counted_close)
    assert lab.upgrade() == ["live", "live"]
    assert closed == [0, 20, 40], "before the first batch of each backfill, and at the end"
