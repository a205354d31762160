"""One embedded PostgreSQL for the whole run, started by the first test that needs it; a fresh database per test."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings

from support.cluster import running_cluster
from support.older_postgres import OlderPostgresMissing, get_older_programs
from support.postgres import Connect, Postgres, imported_pgserver, running_postgres


def pytest_configure() -> None:
    """Let no example fail for its time, and make an environment for the processes that tests start, which inherit it.

    SIGINT is not ignored, as a shell has its background jobs do. And numpy starts no threads: hundreds of processes
    import it, several at a time, and none has much to reckon.
    """
    settings.register_profile("vecmig", deadline=None)
    settings.load_profile("vecmig")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: no worker shall have one left when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the collector alone meanwhile: what is made here stays, and is gone through a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def pgserver() -> Iterator[Any]:
    """The module that runs servers; for ``running_postgres``."""
    with imported_pgserver() as module:
        yield module


@pytest.fixture(scope="session")
def postgres(pgserver: Any) -> Iterator[Postgres]:
    """The server that all tests share. A test that stops or reconfigures it takes ``own_postgres`` instead."""
    with running_postgres(pgserver) as server:
        yield server


@pytest.fixture
def own_postgres(pgserver: Any) -> Iterator[Postgres]:
    """A server for this test alone, which may be stopped, started and reconfigured."""
    with running_postgres(pgserver) as server:
        yield server


@pytest.fixture(scope="session")
def older_programs() -> Path:
    """The folder with the programs of an older PostgreSQL that has an older pgvector; skips where it cannot be had."""
    try:
        return get_older_programs()
    except OlderPostgresMissing as missing:
        pytest.skip(f"no older PostgreSQL: {missing}")


@pytest.fixture(scope="session")
def older_postgres(older_programs: Path, pgserver: Any) -> Iterator[Postgres]:
    """A server of an older PostgreSQL and pgvector, for the tests that run on several."""
    with running_cluster(older_programs, pgserver) as server:
        yield server


@pytest.fixture
def template() -> str | None:
    """The database that each test gets a copy of; None for an empty one. A module may say otherwise."""
    return None


@pytest.fixture
def database_url(postgres: Postgres, template: str | None) -> Iterator[str]:
    """URL of a fresh database that has the vector extension and nothing else; nobody can use it after the test."""
    name = postgres.create_database(template=template)
    yield postgres.url(name)
    postgres.retire_database(name)


@pytest.fixture
def bare_database_url(postgres: Postgres) -> Iterator[str]:
    """URL of a fresh database without the vector extension."""
    name = postgres.create_database(template="template1")
    yield postgres.url(name)
    postgres.retire_database(name)


@pytest.fixture
def connect(database_url: str) -> Iterator[Connect]:
    """``connect(url=database_url, **options)`` opens psycopg connections, autocommit unless told; all are closed."""
    opened: list[psycopg.Connection[Any]] = []

    def open_connection(url: str = database_url, **options: Any) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(url, **{"autocommit": True, **options}))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> psycopg.Connection[Any]:
    """One connection to ``database_url``, in autocommit mode, as the superuser."""
    return connect()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests, and their keys, out of every test."""
    for name in list(os.environ):
        if name.startswith(("VECMIG_", "OPENAI_", "PG")) and name != "PGSERVER_POSTGRES_VERSION":
            monkeypatch.delenv(name)
