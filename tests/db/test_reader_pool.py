"""Why a search gets no connection is said as it is: all are in use, or none can be made."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vecmig.errors import DatabaseError, DatabaseUnreachable
from vecmig.homes.search import Search
from vecmig.postgres.sessions import Database
from vecmig.published import pool

#: Nobody listens there.
NOWHERE = Database("postgresql://nobody@127.0.0.1:1/none")
#: It never comes to a search.
NONE = cast(Search, SimpleNamespace(where=None))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PATIENCE", 2.0)
    monkeypatch.setattr(pool, "_POOLED", pool._POOLED | {"timeout": 2.0, "reconnect_timeout": 2.0})


def test_a_server_that_is_away_is_not_blamed_on_the_size_of_the_pool() -> None:
    connections = pool.Pool(NOWHERE, 1)
    try:
        with pytest.raises(DatabaseUnreachable, match=r"cannot be reached: .*refused") as refused:
            connections.fetch(NONE, {})
    finally:
        connections.close()
    _is_final(refused.value)


def test_a_server_that_is_away_is_not_blamed_on_the_size_where_it_is_awaited() -> None:
    async def ask() -> None:
        connections = pool.AsyncPool(NOWHERE, 1)
        try:
            await connections.fetch(NONE, {})
        finally:
            await connections.close()

    with pytest.raises(DatabaseUnreachable, match=r"cannot be reached: .*refused") as refused:
        asyncio.run(ask())
    _is_final(refused.value)


def _is_final(error: DatabaseUnreachable) -> None:
    assert "connections=" not in error.hint
    # a search that was told this has waited long enough, and is not made once more
    assert not isinstance(error, pool.Broken)


def test_where_all_connections_are_in_use_the_reader_is_told_to_have_more(database_url: str) -> None:
    connections = pool.Pool(Database(database_url), 1)
    held: Any = connections._pool
    try:
        with held.connection(60), pytest.raises(DatabaseUnreachable, match="was free within 2 s") as refused:
            connections.fetch(NONE, {})
    finally:
        connections.close()
    assert "Raise connections=" in refused.value.hint


def test_what_failed_once_is_not_blamed_later(database_url: str) -> None:
    connections = pool.Pool(Database(database_url), 1)
    held: Any = connections._pool
    held.conninfo, right = NOWHERE.conninfo, held.conninfo
    try:
        with pytest.raises(DatabaseUnreachable, match="cannot be reached"):
            connections.fetch(NONE, {})
        held.conninfo = right
        deadline = time.monotonic() + 60
        while not _reaches(connections):
            assert time.monotonic() < deadline, "it stays away"
        with held.connection(60), pytest.raises(DatabaseUnreachable, match="was free within 2 s"):
            connections.fetch(NONE, {})
    finally:
        connections.close()


def _reaches(connections: pool.Pool) -> bool:
    try:
        connections.stamp("documents")
    except DatabaseUnreachable:
        return False
    except DatabaseError:
        # vecmig was never installed there
        return True
    return True
