"""A team's own SQLAlchemy engine opens vecmig's connections: with its creator, its events and its tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, event, select

from support.lab import SMALL, Lab
from vecmig import AsyncReader, Reader, runner
from vecmig.config import load_config
from vecmig.errors import DatabaseUnreachable, UsageError
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.tables import TAG, execute
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
                parameters.pop(name)

        @event.listens_for(self.engine, "connect")
        def seen(connection: psycopg.Connection[Any], _record: Any) -> None:
            # this leaves a transaction open, as a hook of a team's may
            connection.execute("SET search_path TO elsewhere")
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


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (create_engine("sqlite://"), r"sqlite\+pysqlite"),
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
