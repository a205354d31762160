"""Who stands in the way is named and no other; a run keeps its lock, or gets it back, or says who has it."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from support.lab import Lab
from support.postgres import Connect, Postgres
from support.statements import record_statements
from vecmig.errors import Blocked, DatabaseError, DatabaseUnreachable, LockHeld
from vecmig.ledger.install import ensure, lock_schema
from vecmig.ledger.schema import VERSION
from vecmig.postgres.locks import runner_at_work, runner_locks, watched, with_lock_retries
from vecmig.postgres.sessions import Connection, Database, translated


def _wait(lab: Lab, statement: str) -> tuple[str, str]:
    waits: list[tuple[str, str]] = []

    def change(connection: Connection) -> None:
        connection.execute(statement)

    with pytest.raises(DatabaseError, match="Could not acquire the lock"):
        with_lock_retries(lab.database, change, wait=0.1, on_wait=lambda *who: waits.append(who))
    return waits[-1]


def test_the_holder_of_any_lock_is_named_and_no_bystander(lab: Lab, connect: Connect) -> None:
    connect().execute("CREATE TABLE theirs (n int)")
    holder, bystander = connect(autocommit=False, application_name="holder"), connect(autocommit=False)
    holder.execute("LOCK TABLE theirs IN ROW EXCLUSIVE MODE")
    bystander.execute("SELECT count(*) FROM theirs")
    said, ids = _wait(
        lab,
        "CREATE TRIGGER t AFTER INSERT ON public.theirs "
        "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )
    assert f"pid {holder.info.backend_pid} (postgres, holder, idle in transaction" in said
    assert str(bystander.info.backend_pid) not in said
    assert ids == str(holder.info.backend_pid)


def test_the_holder_of_a_row_is_named(lab: Lab, connect: Connect) -> None:
    holder = connect(autocommit=False)
    holder.execute("UPDATE documents SET body = 'theirs' WHERE id = 1")
    assert f"pid {holder.info.backend_pid} " in _wait(lab, "UPDATE public.documents SET body = 'ours' WHERE id = 1")[0]


def test_a_change_that_needs_no_wait_opens_one_session(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = Database.connect

    def counted(database: Database, **options: bool) -> Connection:
        opened.append("one")
        return connect(database, **options)

    monkeypatch.setattr(Database, "connect", counted)
    assert with_lock_retries(lab.database, lambda connection: 7, wait=1, on_wait=lambda *who: opened.extend(who)) == 7
    assert opened == ["one"]


# Tries -------------------------------------------------------------------------------------------------------------


def _lock_theirs(connection: Connection) -> None:
    connection.execute("LOCK TABLE public.theirs IN ACCESS EXCLUSIVE MODE")


def test_a_lock_is_tried_for_moments_with_others_passing_between(lab: Lab, connect: Connect) -> None:
    """Who reads meanwhile never waits until the holder goes, and no try lasts longer than lock_timeout."""
    connect().execute("CREATE TABLE theirs (n int)")
    holder, other = connect(autocommit=False), connect()
    holder.execute("SELECT count(*) FROM theirs")
    tries: list[int] = []
    database = replace(lab.database, lock_timeout=0.05)

    def change(connection: Connection) -> str:
        row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'").fetchone()
        assert row is not None
        tries.append(row[0])
        _lock_theirs(connection)
        return "through"

    def others_pass(who: str, ids: str) -> None:
        assert f"pid {holder.info.backend_pid} " in who
        # a session that vecmig held up would wait here until it is ended by its own timeout
        other.execute("SET statement_timeout = '60s'")
        other.execute("SELECT count(*) FROM theirs")
        if len(tries) == 7:
            holder.rollback()

    assert with_lock_retries(database, change, wait=600, on_wait=others_pass) == "through"
    assert len(tries) > 7
    assert tries == sorted(tries)
    assert tries[0] < tries[-1] == 50


def test_transactions_that_take_turns_are_told_from_one_that_stays(lab: Lab, connect: Connect) -> None:
    connect().execute("CREATE TABLE theirs (n int)")
    sessions = [connect(autocommit=False), connect(autocommit=False)]
    sessions[0].execute("SELECT count(*) FROM theirs")
    seen: list[str] = []

    def relay(who: str, ids: str) -> None:
        seen.append(ids)
        sessions[len(seen) % 2].execute("SELECT count(*) FROM theirs")
        sessions[(len(seen) + 1) % 2].rollback()

    with pytest.raises(Blocked) as relayed:
        with_lock_retries(lab.database, _lock_theirs, wait=2.0, on_wait=relay)
    assert len(set(seen)) > 1
    assert "They take turns, and one of them is always open." in relayed.value.hint
    assert "lock_timeout in vecmig.ini, in seconds (it is 0.1)" in relayed.value.hint
    with pytest.raises(Blocked) as stayed:
        with_lock_retries(lab.database, _lock_theirs, wait=0.5, on_wait=lambda *who: None)
    assert "end it with: SELECT pg_terminate_backend(pid)" in stayed.value.hint


def test_who_is_in_the_way_of_the_ledgers_own_tables_is_named(lab: Lab) -> None:
    """An application that edits a tracked source has them; to update them waits for it no longer than anything else."""
    ensure(lab.database)
    holder = Database(lab.url, application_name="shop").connect(autocommit=False)
    lock_schema(holder, "vecmig")
    waits: list[str] = []
    patient = watched(lab.database, lock_wait=0.3, tell=lambda what, cause: waits.append(what))
    with pytest.raises(Blocked, match=f"Blocked by pid {holder.info.backend_pid} .*shop"):
        ensure(patient)
    assert all(wait.startswith(f"a lock is taken by pid {holder.info.backend_pid} ") for wait in waits)
    holder.close()
    assert ensure(patient) == VERSION


# A connection ------------------------------------------------------------------------------------------------------


def test_a_connection_is_made_ready_in_one_round_trip_and_a_readers_in_none(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = record_statements(monkeypatch)
    lab.database.connect().close()
    assert len(sent) == 1
    Database(lab.url, sees_all=False).connect().close()
    assert len(sent) == 1


def test_a_connection_says_to_its_end_what_it_broke_of(lab: Lab) -> None:
    words = "cannot be reached: terminating connection due to administrator command"
    connection = lab.database.connect()
    lab.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
    for _ in range(3):
        with pytest.raises(DatabaseUnreachable, match=words), translated(lab.url):
            connection.execute("SELECT 1")
        with pytest.raises(DatabaseUnreachable, match=words), translated(lab.url), connection.transaction():
            pass


def test_an_error_in_a_transaction_whose_connection_breaks_is_not_replaced(lab: Lab) -> None:
    connection = lab.database.connect()

    def work() -> None:
        _end(lab, connection.info.backend_pid)
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT 1")
        raise KeyError

    with pytest.raises(KeyError), connection.transaction():
        work()


# The lock of a run -------------------------------------------------------------------------------------------------


def _holders(lab: Lab) -> list[int]:
    rows = lab.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = %s::oid", _oid(lab))
    return [row[0] for row in rows]


def _oid(lab: Lab) -> int:
    return int(lab.sql("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0])


def _end(lab: Lab, *pids: int) -> None:
    for pid in pids:
        assert lab.sql("SELECT pg_terminate_backend(%s, 5000)", pid) == [(True,)]


def test_a_lock_that_is_held_is_left_alone(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents", "others", "documents"], what="upgrade") as locks:
        before = _holders(lab)
        assert len(before) == 2
        locks.ensure()
        assert _holders(lab) == before
    assert _holders(lab) == []


def test_a_lock_whose_connection_broke_is_taken_again(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents", "others"], what="upgrade") as locks:
        before = set(_holders(lab))
        _end(lab, *before)
        assert _holders(lab) == []
        locks.ensure()
        assert len(_holders(lab)) == 2
        assert not before & set(_holders(lab))
    assert _holders(lab) == []


def test_a_lock_that_somebody_else_took_meanwhile_is_not_taken_again(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents"], what="upgrade") as locks:
        _end(lab, *_holders(lab))
        with runner_locks(lab.database, ["documents"], what="downgrade") as others:
            theirs = _holders(lab)
            for _ in range(2):
                with pytest.raises(
                    LockHeld, match="Another runner works on collection documents: vecmig downg"
                ) as held:
                    locks.ensure()
                assert held.value.state == (
                    "The connection that held this run's lock broke, and they have it now; what was committed stays."
                )
            others.ensure()
            assert _holders(lab) == theirs
        locks.ensure()
        assert _holders(lab) != theirs


def test_a_run_takes_its_lock_back_from_its_own_session_that_the_server_thinks_alive(lab: Lab) -> None:
    with runner_locks(lab.database, ["documents"], what="upgrade") as locks:
        lost, ghosts = locks._connection, _holders(lab)
        locks._connection = None  # as if the network had swallowed it: the server has not heard of its end
        locks.ensure()
        assert len(_holders(lab)) == 1
        assert _holders(lab) != ghosts
        assert lost is not None
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")


def test_a_session_that_now_serves_somebody_else_is_not_ended(lab: Lab, connect: Connect) -> None:
    """A pooler gives a session on, with its number and its start."""
    with runner_locks(lab.database, ["documents"], what="upgrade") as locks:
        lost = locks._connection
        assert lost is not None
        lost.execute("SET application_name = 'shop'")
        locks._connection = None
        with pytest.raises(LockHeld, match=r"collection documents: shop \(pid"):
            locks.ensure()
        assert lost.execute("SELECT 1").fetchone() == (1,)
        lost.close()


def test_while_the_server_is_down_there_is_no_lock(own_postgres: Postgres) -> None:
    url = own_postgres.url(own_postgres.create_database())
    with runner_locks(Database(url), ["documents"], what="upgrade") as locks:
        own_postgres.stop()
        for _ in range(2):
            with pytest.raises(DatabaseUnreachable):
                locks.ensure()
        own_postgres.start()
        locks.ensure()
        with Database(url).session() as connection:
            assert runner_at_work(connection, "vecmig", "documents") is not None


def test_a_sync_goes_beside_a_run_and_not_beside_a_sync(lab: Lab, connection: Connection) -> None:
    with runner_locks(lab.database, ["documents"], what="upgrade"):
        assert runner_at_work(connection, "vecmig", "documents", "sync") is None
        with runner_locks(lab.database, ["documents"], what="sync", kind="sync"):
            with (
                pytest.raises(LockHeld, match="Another sync is at work on collection documents: vecmig sync "),
                runner_locks(lab.database, ["documents"], what="sync", kind="sync"),
            ):
                pass
            with runner_locks(lab.database, ["others"], what="sync", kind="sync"):
                pass
            at_work = runner_at_work(connection, "vecmig", "documents")
            assert at_work is not None
            assert at_work.words.startswith("vecmig upgrade ")
            assert (at_work.what, at_work.place) == ("upgrade", f"{platform.node()} (pid {os.getpid()})")
    assert runner_at_work(connection, "vecmig", "documents") is None


def test_a_role_that_may_not_see_the_holder_is_told_what_it_may_know(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE ROLE nosy LOGIN")
    try:
        with runner_locks(lab.database, ["documents"], what="upgrade"):
            url = lab.url.replace("//postgres@", "//nosy@")
            with pytest.raises(LockHeld) as held, runner_locks(Database(url), ["documents"], what="upgrade"):
                pass
            assert re.search(r": vecmig upgrade .* \(pid \d+, user postgres\)\.$", held.value.message)
    finally:
        connection.execute("DROP ROLE nosy")
