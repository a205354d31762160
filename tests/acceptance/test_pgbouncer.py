"""A real PgBouncer between vecmig and the server: what needs a session of its own refuses, what does not works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    script,
    tag,
    write_hashing,
)
from support.pgbouncer import PGBOUNCER, balanced, running_pgbouncer
from support.postgres import Connect, Postgres
from support.project import INI, Project
from vecmig.config.collections import load_collections
from vecmig.errors import DatabaseError
from vecmig.postgres.locks import runner_locks
from vecmig.postgres.sessions import Database
from vecmig.reader import Reader

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)")

Pool = Callable[..., str]
OLD, NEW = tag("hashing", 16), tag("hashing", 32)
SHARED = [("transaction", 1), ("transaction", 5), ("statement", 1), ("statement", 5)]
#: Every command that asks the database, but for the search, which is an application's read.
COMMANDS = (
    "upgrade",
    "upgrade --sql",
    "downgrade -1",
    "plan",
    "status --json",
    "check",
    "current",
    "backfill",
    "sync",
    "gate",
    "route documents",
    "route documents --no-shadow",
    "compare documents",
    "rejected",
    "rejected --retry",
    "stamp head",
    "ensure_version",
    "pause",
    "resume",
    "tune concurrency=4",
)


@pytest.fixture
def pool(postgres: Postgres, database_url: str) -> Iterator[Pool]:
    """``pool("transaction", 5)`` starts PgBouncer and gives the URL of the test's database behind it."""
    with ExitStack() as running:

        def start(mode: str, size: int = 5, **settings: object) -> str:
            options = {"pool_mode": mode, "default_pool_size": size, "query_wait_timeout": 4} | settings
            return running.enter_context(running_pgbouncer(postgres, **options)).url(database_url)

        yield start


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(NEW)}, {OLD: local(16), NEW: local(32)})
    script(project, "aaaa", OLD)
    script(project, "bbbb", NEW, old=OLD, down="aaaa")
    vecmig("upgrade")


#: What ``moved`` stands on.
BEGINNINGS = {"moved": _prepare}


@pytest.fixture
def moved(project: Project) -> Project:
    """A project that has gone from OLD to NEW, over a connection of its own; a next revision is there."""
    return project


def _through(project: Project, url: str) -> None:
    project.ini.write_text(INI.format(database_url=url))


def _settings(url: str) -> dict[str, str]:
    """Give what an application finds set behind the pooler; its name it sets itself."""
    with psycopg.connect(url, autocommit=True) as application:
        application.execute("LOAD 'vector'")
        return {row[0]: row[1] for row in application.execute("SHOW ALL") if row[0] != "application_name"}


def _locks(project: Project) -> int:
    return int(project.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0])


# Shared sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "size"), SHARED)
def test_commands_refuse_and_leave_nothing_in_the_sessions_of_others(
    moved: Project, vecmig: Vecmig, pool: Pool, mode: str, size: int
) -> None:
    url = pool(mode, size)
    before = _settings(url)
    _through(moved, url)
    rows = moved.sql("SELECT count(*) FROM vecmig.event")
    for command in ("status", "upgrade", "sync", "downgrade -1"):
        refused = vecmig(*command.split(), code=1)
        first, *rest = refused.stderr.splitlines()
        assert first.startswith("Between vecmig and the server is a pooler in transaction or statement mode: process ")
        assert rest == [
            (
                "Nothing was changed. Through it, vecmig's settings would reach other clients' statements, "
                "and the lock that keeps a second runner away would be lost or stay behind."
            ),
            (
                "Connect to the server itself or to a pool in session mode: database_url in vecmig.ini, "
                "or the variable VECMIG_DATABASE_URL"
            ),
        ]
    assert _settings(url) == before
    assert _locks(moved) == 0
    assert moved.sql("SELECT count(*) FROM vecmig.event") == rows


def test_no_command_works_through_shared_sessions(moved: Project, vecmig: Vecmig, pool: Pool) -> None:
    _through(moved, pool("transaction"))
    for command in COMMANDS:
        refused = vecmig(*command.split(), code=1)
        assert "pooler in transaction or statement mode" in refused.stderr, command


@pytest.mark.parametrize("size", [2, 5])
def test_a_pool_that_hands_out_sessions_in_turn_is_found(database_url: str, pool: Pool, size: int) -> None:
    url = pool("transaction", size, server_round_robin=1, min_pool_size=size)
    with pytest.raises(DatabaseError, match="pooler in transaction or statement mode"):
        Database(url).connect()


def test_pools_of_several_poolers_behind_one_address_are_found(database_url: str, pool: Pool) -> None:
    poolers = [pool("transaction", 5) for _ in range(4)]
    with balanced(*poolers) as url, pytest.raises(DatabaseError, match="answered two connections at once"):
        Database(url).connect()


def test_a_pool_that_others_keep_busy_is_found(database_url: str, pool: Pool, connect: Connect) -> None:
    url = pool("transaction", 3)
    done = threading.Event()

    def work(application: psycopg.Connection[Any]) -> None:
        while not done.is_set():
            application.execute("SELECT pg_sleep(0.001)")

    threads = [threading.Thread(target=work, args=[connect(url, prepare_threshold=None)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            with pytest.raises(DatabaseError, match="pooler in transaction or statement mode"):
                Database(url).connect()
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_pool_whose_sessions_are_all_taken_is_not_waited_for(database_url: str, pool: Pool, connect: Connect) -> None:
    """The first statement waits as any would, for as long as the pooler lets it."""
    url = pool("transaction", 1, query_wait_timeout=1)
    application = connect(url, autocommit=False)
    application.execute("SELECT 1")
    with pytest.raises(DatabaseError, match="A pooler in front of the database refuses: query_wait_timeout"):
        Database(url).connect()


# A session for each client -----------------------------------------------------------------------------------------


def test_everything_works_through_a_pool_in_session_mode(project: Project, vecmig: Vecmig, pool: Pool) -> None:
    make_documents(project)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(NEW)}, {OLD: local(16), NEW: local(32)})
    script(project, "aaaa", OLD)
    script(project, "bbbb", NEW, old=OLD, down="aaaa")
    _through(project, pool("session", 10))
    assert vecmig("upgrade").stdout.split("\n")[:2] == ["aaaa  live  revision aaaa", "bbbb  live  revision bbbb"]
    project.sql("UPDATE documents SET body = body || ' edited' WHERE id < 5")
    vecmig("sync")
    vecmig("downgrade", "-1")
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] == OLD
    assert _locks(project) == 0


def test_a_pool_with_one_session_serves_what_needs_one(moved: Project, vecmig: Vecmig, pool: Pool) -> None:
    _through(moved, pool("session", 1))
    vecmig("status")
    refused = vecmig("sync", code=1)
    assert refused.stderr.splitlines() == [
        "A pooler in front of the database refuses: query_wait_timeout.",
        "Connect to the server itself, or to a pool in session mode that gives vecmig twelve connections.",
    ]
    assert _locks(moved) == 0


def test_the_lock_is_held_through_a_pool_in_session_mode(
    moved: Project, vecmig: Vecmig, pool: Pool, database_url: str
) -> None:
    database = Database(pool("session", 20))
    with runner_locks(database, ["documents"], what="upgrade") as locks:
        locks.ensure()
        vecmig("upgrade", "--until", "expand")  # nothing to do
        refused = vecmig("downgrade", "-1", code=5)
        assert refused.stderr.startswith("Another runner works on collection documents: vecmig upgrade ")
        moved.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        locks.ensure()
        vecmig("downgrade", "-1", code=5)
    vecmig("downgrade", "-1")


def _reader(project: Project, url: str) -> Reader:
    """Give a reader that knows the project's recipes, and reaches the database by another address."""
    return Reader(url, recipes=load_collections(project.collections).recipes)


# An application ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "size"), [("transaction", 1), ("transaction", 5), ("session", 5)])
def test_a_reader_works_through_every_pool_that_has_transactions(
    moved: Project, vecmig: Vecmig, pool: Pool, mode: str, size: int
) -> None:
    moved.sql("ALTER TABLE documents ADD COLUMN at timestamptz DEFAULT '2026-11-22 12:00+00'")
    database = moved.database_url.split("?")[0].rpartition("/")[2]
    moved.sql(f"ALTER DATABASE {database} SET TimeZone = 'Asia/Kathmandu'")
    url = pool(mode, size)
    before = _settings(url)
    with Reader.from_config(moved.ini) as own:
        direct = own.search("documents", "subject3", k=3)
        with _reader(moved, url) as reader:
            assert reader.live_tag("documents") == NEW
            assert reader.search("documents", "subject3", k=3) == direct
    assert len(direct) == 3
    assert direct[0].record["at"] == "2026-11-22T12:00:00+00:00"
    _through(moved, url)
    assert vecmig("search", "documents", "subject3").stdout
    assert _settings(url) == before


def test_a_reader_says_what_statement_mode_does_not_let_it_do(moved: Project, pool: Pool) -> None:
    with (
        _reader(moved, pool("statement")) as reader,
        pytest.raises(DatabaseError) as refused,
    ):
        reader.search("documents", "subject3")
    assert str(refused.value) == (
        "A pooler in front of the database refuses: transaction blocks not allowed in statement pooling mode."
    )
