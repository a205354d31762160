"""The connections of an application's searches, for those who wait and for those who await."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import psycopg_pool
from psycopg import errors as pg

from vecmig.errors import DatabaseUnreachable
from vecmig.store.connect import Database, Outdated, translated
from vecmig.store.search import WHOSE_SESSION, Search, allow_preparing, fetch, send_vectors

_OPTIONS: Final = {"application_name": "vecmig reader", "prepare_threshold": None, "autocommit": True}
#: Seconds for which a search waits for a connection.
_PATIENCE: Final = 30.0


class Broken(DatabaseUnreachable):
    """A connection broke while it was used, or had broken before."""


class Pool:
    """Connections for threads; they are opened when they are needed."""

    def __init__(self, database: Database, size: int) -> None:
        self._where = database.safe_url
        self._pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]] = psycopg_pool.ConnectionPool(
            database.conninfo,
            kwargs=_OPTIONS,
            min_size=0,
            max_size=size,
            timeout=_PATIENCE,
            configure=_configure,
            open=True,
        )

    def fetch(self, search: Search, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a search in a transaction of its own, in one round trip.

        Raises:
            Outdated: the source is no longer what the search was made for.
            Broken: the connection is gone; after ``mend`` another is taken.
            DatabaseUnreachable: there was no connection to be had.
            DatabaseError: the database refuses.
        """
        with _in_words(self._where), self._pool.connection() as connection:
            return fetch(connection, search, values)

    def mend(self) -> None:
        """Let go of the connections that broke."""
        with _in_words(self._where):
            self._pool.check()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class AsyncPool:
    """The same for coroutines of one event loop."""

    def __init__(self, database: Database, size: int) -> None:
        self._where = database.safe_url
        self._pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Any]] = psycopg_pool.AsyncConnectionPool(
            database.conninfo,
            kwargs=_OPTIONS,
            min_size=0,
            max_size=size,
            timeout=_PATIENCE,
            configure=_configure_async,
            open=False,
        )

    async def fetch(self, search: Search, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a search as ``Pool.fetch`` does."""
        with _in_words(self._where):
            if self._pool.closed:
                await self._pool.open()
            async with self._pool.connection() as connection:
                async with connection.pipeline():
                    await connection.execute(search.settings, prepare=True)
                    cursor = await connection.execute(search.query, values, prepare=search.steady)
                return await cursor.fetchall()

    async def mend(self) -> None:
        """Let go of the connections that broke."""
        with _in_words(self._where):
            await self._pool.check()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()


def _configure(connection: psycopg.Connection[Any]) -> None:
    send_vectors(connection.adapters)
    row = connection.execute(WHOSE_SESSION).fetchone()
    allow_preparing(connection, row[0] if row else 0)


async def _configure_async(connection: psycopg.AsyncConnection[Any]) -> None:
    send_vectors(connection.adapters)
    row = await (await connection.execute(WHOSE_SESSION)).fetchone()
    allow_preparing(connection, row[0] if row else 0)


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        with translated(where):
            try:
                yield
            except (pg.UndefinedColumn, pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedObject) as error:
                raise Outdated(
                    f"The database refuses: {error.diag.message_primary}.",
                    hint="If where= names it, correct it there. If the source was changed, run: vecmig sync",
                ) from error
    except DatabaseUnreachable as error:
        if isinstance(error.__cause__, psycopg_pool.PoolTimeout):
            raise DatabaseUnreachable(
                f"No connection to the database at {where} was free within {_PATIENCE:g} s.",
                hint="Raise connections= of the reader, or see whether the server takes more of them.",
            ) from error
        raise Broken(error.message, state=error.state, hint=error.hint) from error
