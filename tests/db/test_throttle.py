"""A backfill stands still while a replica is behind or a query says so, and never because nobody could tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.postgres import Connect, Postgres, running_postgres, running_replica
from vecmig.errors import DatabaseError
from vecmig.postgres.sessions import Connection, Database
from vecmig.postgres.throttle import Throttle

#: Seconds to wait for what takes a moment, before the test fails.
_PATIENCE = 60.0


def _asking(query: str) -> Throttle:
    return Throttle(query=query, max_replica_lag=None)


@pytest.fixture
def session(database_url: str) -> Iterator[Connection]:
    """A connection as a run's supervisor has one."""
    with Database(database_url).session() as connection:
        yield connection


# A user's query -----------------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_asked(session: Connection) -> None:
    session.close()
    assert Throttle(query=None, max_replica_lag=None).reason(session) is None


def test_a_query_lets_it_go_on_at_0_and_stand_still_above(session: Connection) -> None:
    session.execute("CREATE TABLE public.busy (n int)")
    throttle = _asking("SELECT count(*) FROM busy WHERE n % 2 = 0 -- 100 %s, as people write them\n")
    assert throttle.reason(session) is None
    session.execute("INSERT INTO public.busy VALUES (2), (4)")
    assert throttle.reason(session) == "throttle_query gives 2, which is above 0"
    session.execute("DELETE FROM public.busy")
    assert throttle.reason(session) is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT count(*) FROM nowhere", 'throttle_query fails: relation "nowhere" does not exist'),
        ("SELECT 1 / 0", "throttle_query fails: division by zero"),
        ("SELECT max(n) FROM (VALUES (1)) AS v(n) WHERE n > 1", "throttle_query gives NULL; it must give a number"),
        ("SELECT 1 WHERE false", "throttle_query gives no row; it must give one number"),
        ("SELECT generate_series(0, 1000000)", "throttle_query gives more than one row; it must give one number"),
        ("SELECT 0, 0", "throttle_query gives 2 columns; it must give one number"),
        ("SELECT '0'::text", "throttle_query gives '0'; it must give a number"),
        ("SELECT 'NaN'::float8", "throttle_query gives nan; it must give a number"),
        ("SELECT pg_sleep(3600)", "throttle_query took longer than 1 s"),
        ("SELECT nextval('counter')", "throttle_query fails: cannot execute nextval() in a read-only transaction"),
    ],
)
def test_a_query_without_an_answer_stands_still_and_says_why(session: Connection, query: str, said: str) -> None:
    session.execute("CREATE SEQUENCE public.counter")
    throttle = _asking(query)
    assert throttle.reason(session) == said
    assert throttle.reason(session) == said
    assert session.execute("SHOW statement_timeout").fetchone() == ("0",), "nothing of it stays in the session"


def test_a_query_that_waits_for_a_lock_does_not_hang(session: Connection, connect: Connect) -> None:
    session.execute("CREATE TABLE public.locked (n int)")
    other = connect(autocommit=False)
    other.execute("LOCK TABLE locked")
    assert _asking("SELECT count(*) FROM locked").reason(session) == "throttle_query took longer than 1 s"


def test_a_query_cannot_write(session: Connection) -> None:
    session.execute("CREATE TABLE public.precious (n int)")
    session.execute(
        "CREATE FUNCTION public.sly() RETURNS int LANGUAGE sql AS 'INSERT INTO public.precious VALUES (1) RETURNING 0'"
    )
    said = _asking("SELECT sly()").reason(session)
    assert said == "throttle_query fails: cannot execute INSERT in a read-only transaction"
    said = _asking("WITH gone AS (DELETE FROM precious RETURNING 1) SELECT count(*) FROM gone").reason(session)
    assert said is not None
    assert "must be at the top level" in said


def test_a_connection_that_breaks_is_not_an_answer_of_the_query(session: Connection, connect: Connect) -> None:
    connect().execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        _asking("SELECT 0").reason(session)


# Replicas -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def primary(pgserver: Any) -> Iterator[Postgres]:
    """A server that can have replicas and subscribers, for the tests of this module."""
    with running_postgres(pgserver) as server:
        server.execute("ALTER SYSTEM SET wal_level = logical")
        server.stop()
        server.start()
        yield server


@pytest.fixture(scope="module")
def replica(primary: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """A connection to its streaming replica, which is called ``reports``."""
    with running_replica(primary, "reports") as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def beside(primary: Postgres, replica: psycopg.Connection[Any]) -> Iterator[Connection]:
    """A connection to the primary as a run's supervisor has one."""
    with Database(primary.url()).session() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.written (n int)")
        yield connection
        replica.execute("SELECT pg_wal_replay_resume()")


def _wait(throttle: Throttle, connection: Connection, wanted: Callable[[str | None], bool]) -> str | None:
    """Write a little and ask, as a run does, until the answer is as wanted."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        connection.execute("INSERT INTO public.written VALUES (1)")
        reason = throttle.reason(connection)
        if wanted(reason):
            return reason
        assert time.monotonic() < deadline, reason
        time.sleep(0.05)


def _stop_when_caught_up(primary: Connection, replica: psycopg.Connection[Any]) -> None:
    """Stop the replay at a moment at which nothing is left; the server itself writes a little now and then."""
    caught_up = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"
    deadline = time.monotonic() + _PATIENCE
    while True:
        replica.execute("SELECT pg_wal_replay_resume()")
        while primary.execute(caught_up).fetchone() != (True,):
            assert time.monotonic() < deadline, "the replica did not catch up"
            time.sleep(0.02)
        replica.execute("SELECT pg_wal_replay_pause()")
        if primary.execute(caught_up).fetchone() == (True,):
            return


def test_a_replica_that_stops_replaying_is_noticed_and_that_it_goes_on_too(
    beside: Connection, replica: psycopg.Connection[Any]
) -> None:
    throttle = Throttle(query=None, max_replica_lag=1.0)
    assert throttle.reason(beside) is None
    replica.execute("SELECT pg_wal_replay_pause()")
    said = _wait(throttle, beside, lambda reason: reason is not None)
    assert said is not None
    assert said.startswith("replica reports is 1."), said
    assert said.endswith(" s behind; max_replica_lag is 1 s")
    # nothing is written while a run stands still, and the server's own figure stands still as well
    time.sleep(0.3)
    assert throttle.reason(beside) is not None
    replica.execute("SELECT pg_wal_replay_resume()")
    deadline = time.monotonic() + _PATIENCE
    while throttle.reason(beside) is not None:
        assert time.monotonic() < deadline, "a replica that has caught up still holds the run"
        time.sleep(0.05)


def test_a_replica_that_has_nothing_to_replay_is_not_behind(
    beside: Connection, replica: psycopg.Connection[Any]
) -> None:
    now = [0.0]
    throttle = Throttle(query=None, max_replica_lag=1.0, clock=lambda: now[0])
    _wait(throttle, beside, lambda reason: reason is None)
    _stop_when_caught_up(beside, replica)
    now[0] += 3600
    assert throttle.reason(beside) is None


def test_both_limits_hold(beside: Connection, replica: psycopg.Connection[Any]) -> None:
    throttle = Throttle(query="SELECT 7", max_replica_lag=3600.0)
    assert throttle.reason(beside) == "throttle_query gives 7, which is above 0"


def test_a_subscriber_is_no_replica(beside: Connection, primary: Postgres, replica: psycopg.Connection[Any]) -> None:
    """A pipeline that takes its time over the changes must not hold a migration up."""
    there, here = (primary.create_database(template="template1") for _ in range(2))
    for name in (there, here):
        primary.execute("CREATE TABLE t (n int)", database=name)
    primary.execute("CREATE PUBLICATION p FOR TABLE t", database=there)
    primary.execute("SELECT pg_create_logical_replication_slot('sub', 'pgoutput')", database=there)
    primary.execute(
        f"CREATE SUBSCRIPTION sub CONNECTION '{psycopg.conninfo.make_conninfo(primary.url(there))}' PUBLICATION p "
        "WITH (create_slot = false, copy_data = false)",
        database=here,
    )
    with psycopg.connect(primary.url(here)) as blocking:
        blocking.execute("LOCK TABLE t")
        throttle = Throttle(query=None, max_replica_lag=0.5)
        primary.execute("INSERT INTO t VALUES (1)", database=there)
        slow = (
            "SELECT max(pg_current_wal_lsn() - replay_lsn) > 0 FROM pg_stat_replication WHERE application_name = 'sub'"
        )
        until = time.monotonic() + 1.0
        while time.monotonic() < until or beside.execute(slow).fetchone() != (True,):
            assert time.monotonic() < until + _PATIENCE, "the subscriber does not fall behind"
            _wait(throttle, beside, lambda reason: reason is None)
    primary.execute("DROP SUBSCRIPTION sub", database=here)


def test_a_role_that_may_not_see_replicas_is_told_what_to_grant(primary: Postgres) -> None:
    primary.execute("CREATE ROLE blind LOGIN")
    with (
        Database(primary.url(user="blind")).session() as connection,
        pytest.raises(DatabaseError) as caught,
    ):
        Throttle(query=None, max_replica_lag=1.0).reason(connection)
    assert caught.value.message == "max_replica_lag is set, and the role blind may not see how far replicas are."
    assert caught.value.hint.startswith("Run: GRANT pg_monitor TO blind ")
    primary.execute("GRANT pg_monitor TO blind")
    with Database(primary.url(user="blind")).session() as connection:
        assert Throttle(query=None, max_replica_lag=3600.0).reason(connection) is None
