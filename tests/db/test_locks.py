"""Who stands in the way is the session that PostgreSQL waits for, and no other."""

from __future__ import annotations

import psycopg
import pytest

from support.lab import Lab
from support.postgres import Connect
from vecmig.errors import DatabaseError
from vecmig.store.connect import Connection
from vecmig.store.locks import with_lock_retries


def _wait(lab: Lab, statement: str) -> str:
    waits: list[str] = []

    def change(connection: Connection) -> None:
        connection.execute(statement)

    with pytest.raises(DatabaseError, match="A lock could not be had"):
        with_lock_retries(lab.database, change, wait=0.1, on_wait=waits.append)
    return waits[-1]


def test_the_holder_of_any_lock_is_named_and_no_bystander(lab: Lab, connect: Connect) -> None:
    connect().execute("CREATE TABLE theirs (n int)")
    holder, bystander = connect(autocommit=False, application_name="holder"), connect(autocommit=False)
    holder.execute("LOCK TABLE theirs IN ROW EXCLUSIVE MODE")
    bystander.execute("SELECT count(*) FROM theirs")
    said = _wait(
        lab,
        "CREATE TRIGGER t AFTER INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )
    assert f"pid {holder.info.backend_pid} (postgres, holder, idle in transaction" in said
    assert str(bystander.info.backend_pid) not in said


def test_the_holder_of_a_row_is_named(lab: Lab, connect: Connect) -> None:
    holder = connect(autocommit=False)
    holder.execute("UPDATE documents SET body = 'theirs' WHERE id = 1")
    assert f"pid {holder.info.backend_pid} " in _wait(lab, "UPDATE documents SET body = 'ours' WHERE id = 1")


def test_a_change_that_needs_no_wait_opens_one_session(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = psycopg.connect

    def counted(*args: object, **options: object) -> object:
        opened.append("one")
        return connect(*args, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(psycopg, "connect", counted)
    assert with_lock_retries(lab.database, lambda connection: 7, wait=1, on_wait=opened.append) == 7
    assert opened == ["one"]
