"""The connections of an application's searches, for those who wait and for those who await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Self

import psycopg
import psycopg_pool
from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import DatabaseUnreachable, VecmigError
from vecmig.homes.search import WHOSE_SESSION, Search, allow_preparing, blamed, fetch
from vecmig.homes.vectors import send_vectors
from vecmig.postgres.engine import open_by, taken_over
from vecmig.postgres.loaders import CONTEXT
from vecmig.postgres.lock_watch import Watched
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.sessions import Database, Outdated, translated

_OPTIONS: Final[dict[str, Any]] = {
    "application_name": "vecmig reader",
    "prepare_threshold": None,
    "autocommit": True,
    "context": CONTEXT,
}
#: Seconds for which a search waits for a connection. A pool that cannot make one gives up as soon, and tries again when
#: the next search asks: else it would try ever more rarely, and a server that is back would not be noticed for minutes.
_PATIENCE: Final = 30.0
_POOLED: Final[dict[str, Any]] = {
    "kwargs": _OPTIONS,
    "min_size": 0,
    "timeout": _PATIENCE,
    "reconnect_timeout": _PATIENCE,
}


class Broken(DatabaseUnreachable):
    """A connection broke while it was used, or had broken before."""


class Fetched(NamedTuple):
    """The rows of a search, and how many seconds it took on its connection: getting that does not count."""

    rows: list[tuple[Any, ...]]
    seconds: float


class Pool:
    """Connections for threads; they are opened when they are needed."""

    def __init__(self, database: Database, size: int) -> None:
        self._words = _Words(database.safe_url)
        self._stamp = _stamp_of(database)
        self._watch = database.watch
        self._pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]] = psycopg_pool.ConnectionPool(
            database.conninfo,
            connection_class=_told(self._words, psycopg.Connection if database.watch is None else Watched, database),
            max_size=size,
            **_POOLED,
            configure=self._configure,
            open=True,
        )

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        make_ready(connection)
        own_session = connection.prepare_threshold is not None
        # of a session that a pooler shares, the wait of somebody else might be told
        if self._watch is not None and isinstance(connection, Watched) and own_session:
            connection.process = connection.info.backend_pid
            self._watch.add(connection)

    def fetch(self, search: Search, values: Mapping[str, Any]) -> Fetched:
        """Run a search in a transaction of its own, in one round trip.

        Raises:
            Outdated: the source is no longer what the search was made for.
            Broken: the connection is gone; after ``mend`` another is taken.
            DatabaseUnreachable: there was no connection to be had.
            ConditionError: the condition of the search does not work.
            DatabaseError: the database refuses.
        """
        with self._words.found(), blamed(search), self._pool.connection() as connection:
            return fetch_timed(connection, search, values)

    def stamp(self, collection: str) -> str:
        """Give the digest of all that a reader builds on, as ``Ledger.stamp`` does, at the price of a short search."""
        with self._words.found(), self._pool.connection() as connection:
            row = connection.execute(self._stamp, {"collection": collection}, prepare=True).fetchone()
        return str(row[0]) if row else ""

    def mend(self) -> None:
        """Let go of the connections that broke."""
        with self._words.found():
            self._pool.check()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class AsyncPool:
    """The same for coroutines of one event loop."""

    def __init__(self, database: Database, size: int) -> None:
        self._words = _Words(database.safe_url)
        self._stamp = _stamp_of(database)
        self._pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Any]] = psycopg_pool.AsyncConnectionPool(
            database.conninfo,
            connection_class=_told_async(self._words, database),
            max_size=size,
            **_POOLED,
            configure=_make_ready_async,
            open=False,
        )

    async def fetch(self, search: Search, values: Mapping[str, Any]) -> Fetched:
        """Run a search as ``Pool.fetch`` does; while the event loop is busy with others, its time goes on."""
        with self._words.found(), blamed(search):
            if self._pool.closed:
                await self._pool.open()
            async with self._pool.connection() as connection:
                began = time.perf_counter()
                async with connection.pipeline():
                    await connection.execute(search.settings, prepare=True)
                    cursor = await connection.execute(search.query, values, prepare=search.steady)
                rows = await cursor.fetchall()
                return Fetched(rows, time.perf_counter() - began)

    async def stamp(self, collection: str) -> str:
        """Give the digest of all that a reader builds on, as ``Pool.stamp`` does."""
        with self._words.found():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._stamp, {"collection": collection}, prepare=True)
                row = await cursor.fetchone()
        return str(row[0]) if row else ""

    async def mend(self) -> None:
        """Let go of the connections that broke."""
        with self._words.found():
            await self._pool.check()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()


def make_ready(connection: psycopg.Connection[Any]) -> None:
    """Let a connection send query vectors, and prepare statements where its session is its own."""
    send_vectors(connection.adapters)
    row = connection.execute(WHOSE_SESSION).fetchone()
    allow_preparing(connection, row[0] if row else 0)


async def _make_ready_async(connection: psycopg.AsyncConnection[Any]) -> None:
    send_vectors(connection.adapters)
    row = await (await connection.execute(WHOSE_SESSION)).fetchone()
    allow_preparing(connection, row[0] if row else 0)


def fetch_timed(connection: psycopg.Connection[Any], search: Search, values: Mapping[str, Any]) -> Fetched:
    """Run a search on a connection that is ready; see how long it takes."""
    began = time.perf_counter()
    rows = fetch(connection, search, values)
    return Fetched(rows, time.perf_counter() - began)


def _stamp_of(database: Database) -> str:
    return finished(statement("ledger/digest", "digest", schema=sql.Identifier(database.schema)))


# What goes wrong --------------------------------------------------------------------------------------------------


class _Words:
    """Says in vecmig's errors what goes wrong with the connections of a pool.

    A pool makes connections in the background and tells those who wait for one that there was none, but not why.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        #: Why the latest connection could not be made; None where it could.
        self._refused: psycopg.Error | None = None

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Remember how an attempt to connect ends."""
        try:
            yield
        except psycopg.Error as error:
            self._refused = error
            raise
        self._refused = None

    @contextmanager
    def found(self) -> Iterator[None]:
        """Say what goes wrong with a connection, or while one is waited for."""
        try:
            with translated(self._where):
                try:
                    yield
                except (pg.UndefinedColumn, pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedObject) as error:
                    raise Outdated(
                        f"The database refuses: {error.diag.message_primary}.",
                        hint="If the source was changed, run: vecmig sync",
                    ) from error
        except DatabaseUnreachable as error:
            if isinstance(error.__cause__, psycopg_pool.PoolTimeout):
                raise self._none_came() from error
            raise Broken(error.message, state=error.state, hint=error.hint) from error

    def _none_came(self) -> VecmigError:
        refused = self._refused
        try:
            with translated(self._where):
                if refused is not None:
                    # a copy: several threads may be told the same
                    raise type(refused)(*refused.args)
        except VecmigError as error:
            return error
        return DatabaseUnreachable(
            f"No connection to the database at {self._where} was free within {_PATIENCE:g} s.",
            hint="Raise connections= of the reader, or see whether the server takes more of them.",
        )


def _told(words: _Words, base: type[psycopg.Connection[Any]], database: Database) -> type[psycopg.Connection[Any]]:
    class Told(base):  # type: ignore[misc,valid-type]  # it is a class either way
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Any:
            with words.connecting():
                if database.engine is not None:
                    connection = taken_over(open_by(database.engine), cls)
                    connection.autocommit = True
                    return connection
                return super().connect(conninfo, **options)

    return Told


def _told_async(words: _Words, database: Database) -> type[psycopg.AsyncConnection[Any]]:
    class Told(psycopg.AsyncConnection[Any]):
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Self:
            with words.connecting():
                if database.engine is not None:
                    # only what speaks on a socket knows whether it waits or awaits
                    connection = taken_over(await asyncio.to_thread(open_by, database.engine), cls)
                    await connection.set_autocommit(True)
                    return connection
                return await super().connect(conninfo, **options)

    return Told
