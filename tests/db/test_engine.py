"""A team's own SQLAlchemy engine opens vecmig's connections: with its creator, its events and its tokens."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import NullPool, StaticPool, create_engine, event, select

from support.lab import SMALL, Lab
from vecmig import AsyncReader, Reader, runner
from vecmig.config import load_config
from vecmig.errors import ConfigError, DatabaseUnreachable, UsageError
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.tables import TAG, execute
from vecmig.postgres.engine import parameters_of
from vecmig.postgres.sessions import Database, database_at
from vecmig.runner.project import Project

QUERY = "title 3\n\nbody 3"


class Team:
    """An engine whose URL leads nowhere: a token that is fetched for each connection says where the database is."""

    def __init__(self, url: str) -> None:
        self.tokens = 0
        self.opened: Counter[str] = Counter()
        self.engine = create_engine("postgresql+psycopg://iam_user:hidden@nowhere.example/app")

        @event.listens_for(self.engine, "do_connect")
        def with_token(_dialect: Any, _record: Any, arguments: list[Any], parameters: dict[str, Any]) -> None:
            self.tokens += 1
            arguments[:] = [url]
            for name in ("host", "dbname", "user", "password"):
                parameters.pop(name, None)

        @event.listens_for(self.engine, "connect")
        def seen(connection: psycopg.Connection[Any], _record: Any) -> None:
            # this leaves a transaction open, as a hook of a team's may
            connection.execute("SET search_path TO elsewhere")
            connection.execute("SET client_encoding TO 'LATIN1'")
            self.opened[type(connection).__name__] += 1


@pytest.fixture
def team(lab: Lab) -> Team:
    """A team with the lab's database."""
    return Team(lab.url)


def test_the_verbs_go_the_teams_way(lab: Lab, team: Team) -> None:
    config = replace(load_config(lab.path / "vecmig.ini"), database_url="", database_engine=team.engine)
    runner.upgrade(config, "r1")
    [articles] = runner.status(config).collections
    assert articles.route.live == SMALL
    assert runner.status(config).database == "postgresql+psycopg://iam_user:***@nowhere.example/app"
    assert lab.sql("SELECT DISTINCT written_by FROM vecmig.documents_vectors") == [(None,)], "nobody wrote past vecmig"
    assert team.tokens > 0
    assert isinstance(team.engine.pool, sqlalchemy.QueuePool)
    assert team.engine.pool.checkedin() == team.engine.pool.checkedout() == 0, "its own pool has none of them"


@pytest.mark.upgraded("r1")
def test_a_reader_goes_the_teams_way(lab: Lab, team: Team) -> None:
    with Reader(team.engine, recipes=Project(lab.config).collections.recipes) as reader:
        assert [hit.key for hit in reader.search("documents", QUERY, 1)] == [(3,)]
        assert "hidden" not in repr(reader)
    assert team.tokens > 0


@pytest.mark.upgraded("r1")
def test_an_async_reader_takes_the_same_engine(lab: Lab, team: Team) -> None:
    async def ask() -> list[Any]:
        async with AsyncReader(team.engine, recipes=Project(lab.config).collections.recipes) as reader:
            return [hit.key for hit in await reader.search("documents", QUERY, 1)]

    assert asyncio.run(ask()) == [(3,)]


@pytest.mark.upgraded("r1")
def test_a_creator_is_asked_for_each_connection(lab: Lab) -> None:
    asked = []

    def creator() -> psycopg.Connection[Any]:
        asked.append(1)
        return psycopg.connect(lab.url)

    database = database_at(create_engine("postgresql+psycopg://", creator=creator))
    with database.session() as first, database.session() as second:
        assert first.info.backend_pid != second.info.backend_pid
    assert len(asked) == 2


@pytest.mark.upgraded("r1")
def test_both_faces_of_a_session_are_in_one_transaction(lab: Lab) -> None:
    with Database(lab.url).session() as session:
        with session.transaction(force_rollback=True):
            session.execute("UPDATE vecmig.tag SET state = 'ready'")
            assert execute(session, "vecmig", select(TAG.c.state)).scalars().all() == ["ready"]
            Ledger(session, "vecmig").tags.set_state("documents", SMALL, "standby")
            assert session.execute("SELECT state FROM vecmig.tag").fetchall() == [("standby",)]
        assert execute(session, "vecmig", select(TAG.c.state)).scalars().all() == ["live"]


@pytest.mark.upgraded("r1")
def test_an_error_is_the_drivers_through_either_face(lab: Lab) -> None:
    with psycopg.connect(lab.url) as other, Database(lab.url).session() as session:
        with pytest.raises(psycopg.errors.UndefinedTable):
            session.execute("SELECT FROM nowhere.tag")
        with pytest.raises(psycopg.errors.UndefinedTable):
            execute(session, "nowhere", select(TAG.c.tag))
        assert execute(session, "vecmig", select(TAG.c.tag)).scalars().all() == [SMALL]
        other.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError, match="terminating connection"):
                execute(session, "vecmig", select(TAG.c.tag))


def test_a_token_that_is_refused_is_told_without_the_password(lab: Lab, team: Team) -> None:
    @event.listens_for(team.engine, "do_connect")
    def refused(_dialect: Any, _record: Any, arguments: list[Any], _parameters: dict[str, Any]) -> None:
        arguments[:] = [lab.url.replace("postgres@", "nobody@")]

    with pytest.raises(DatabaseUnreachable, match=r"iam_user:\*\*\*@nowhere\.example") as told:
        database_at(team.engine).connect()
    assert "hidden" not in str(told.value)


@pytest.mark.upgraded("r1")
def test_a_role_that_an_event_sets_holds(lab: Lab) -> None:
    lab.sql("CREATE ROLE team_member")
    engine = create_engine(lab.url.replace("postgresql://", "postgresql+psycopg://"))

    @event.listens_for(engine, "connect")
    def member(connection: psycopg.Connection[Any], _record: Any) -> None:
        connection.execute("SET ROLE team_member")

    with database_at(engine).session() as session:
        assert session.execute("SELECT current_user").fetchone() == ("team_member",)
    lab.sql("DROP ROLE team_member")


@pytest.mark.upgraded("r1")
def test_a_connection_that_is_somebody_elses_is_left_alone(lab: Lab) -> None:
    with psycopg.connect(lab.url) as own:
        own.execute("CREATE TABLE of_the_application (id int)")
        shared = create_engine("postgresql+psycopg://", creator=lambda: own, poolclass=StaticPool)
        with pytest.raises(UsageError, match="one connection for all"):
            Reader(shared)
        assert own.execute("SELECT count(*) FROM of_the_application").fetchone() == (0,)
    with psycopg_pool.ConnectionPool(lab.url, min_size=1, max_size=1) as pool:
        pooled = create_engine("postgresql+psycopg://", creator=pool.getconn, poolclass=NullPool)
        for _ in range(2):
            with pytest.raises(UsageError, match="connections of a pool"):
                database_at(pooled).connect()
        with pool.connection(timeout=5) as still_there:
            assert still_there.execute("SELECT 1").fetchone() == (1,)


def test_what_the_engines_own_code_raises_is_an_outage(lab: Lab) -> None:
    engine = create_engine(lab.url.replace("postgresql://", "postgresql+psycopg://"))

    @event.listens_for(engine, "do_connect")
    def no_token(*_: Any) -> None:
        raise TimeoutError("token s3cr3t was refused")

    with pytest.raises(DatabaseUnreachable, match="the engine's own code raised TimeoutError") as told:
        database_at(engine).connect()
    assert "s3cr3t" not in str(told.value)


def test_a_password_in_the_query_of_an_engines_url_is_not_shown() -> None:
    engine = create_engine("postgresql+psycopg://app@nowhere.invalid/db?password=s3cr3t")
    assert "s3cr3t" not in repr(Reader(engine))


@pytest.mark.upgraded("r1")
def test_a_projects_reader_takes_the_projects_engine(lab: Lab, team: Team) -> None:
    config = replace(load_config(lab.path / "vecmig.ini"), database_url="", database_engine=team.engine)
    with Reader.for_project(config) as reader:
        assert [hit.key for hit in reader.search("documents", QUERY, 1)] == [(3,)]
    with pytest.raises(ConfigError, match="database_url is empty"):
        Database("").connect()


@pytest.mark.parametrize(
    "rest",
    [
        "postgres@%2Fvar%2Frun%2Fpostgresql/db",
        "u@a:5432,b:5433/db",
        "u@[::1]:5433,[::2]:5434/db",
        "u@/db?host=a,b&port=5432",
        "u@h:/db",
        "u@h/db?ssl=true",
        "u@h/db?password=a+b&application_name=c%20d",
    ],
)
def test_a_driver_in_a_url_changes_nothing_of_what_libpq_reads(rest: str) -> None:
    assert parameters_of(f"postgresql+psycopg://{rest}") == parameters_of(f"postgresql://{rest}")


def test_a_session_that_is_forgotten_takes_its_socket_along(lab: Lab) -> None:
    def forgotten() -> int:
        session = Database(lab.url).connect()
        with suppress(psycopg.errors.UndefinedTable):
            execute(session, "vecmig", select(TAG.c.tag))
        session.__dict__["_pool"] = None  # as those of a pool it does not warn
        return session.fileno()

    descriptor = forgotten()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (create_engine("sqlite://"), r"sqlite\+pysqlite"),
        (create_engine("postgresql+psycopg_async://"), "for asyncio"),
        # as an AsyncEngine is none
        (object(), "object is no engine"),
    ],
)
def test_an_engine_of_another_driver_is_refused(engine: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Reader(engine)


@pytest.mark.upgraded("r1")
def test_a_url_that_names_a_driver_is_read_as_sqlalchemy_reads_it(lab: Lab) -> None:
    connection = conninfo_to_dict(lab.url)
    host, name = connection["host"], connection["dbname"]
    several = f"postgresql+psycopg://postgres@/{name}?host=/nowhere:5432&host={host}:{connection.get('port', 5432)}"
    with Database(several).session() as session:
        assert session.info.host == host
