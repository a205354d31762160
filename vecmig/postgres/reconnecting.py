"""A session that outlives its connection, for work that may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar

import psycopg

from vecmig.errors import DatabaseUnreachable
from vecmig.postgres.sessions import Connection, Database, translated

T = TypeVar("T")
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


def reconnecting(
    work: Callable[[], T],
    *,
    wait: float,
    on_wait: Callable[[str, float], None],
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Do work that may be repeated, again and again while its database is away.

    Args:
        work: opens its own sessions, or new ones.
        wait: seconds for which it is tried again after a session was lost.
        on_wait: told why, and how many seconds until the next try.
        sleep: waits; what it raises ends the work.

    Raises:
        DatabaseUnreachable: the database stayed away for longer than ``wait``.
    """
    deadline: float | None = None
    pause = _FIRST_PAUSE
    while True:
        try:
            return work()
        except DatabaseUnreachable as error:
            deadline = deadline or time.monotonic() + wait
            if time.monotonic() + pause > deadline:
                raise
            on_wait(error.message, pause)
        sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class ReconnectingSession:
    """A context that runs work on one connection, and again on a new one when that breaks.

    A server that restarts, a backend that is ended, a failover: the work is tried again for as long as ``wait`` says.
    Only work that may be repeated belongs here: once its connection broke, whether a statement took effect is unknown.
    One thread at a time may use it.
    """

    def __init__(
        self,
        database: Database,
        *,
        wait: float = 0.0,
        on_wait: Callable[[str, float], None] = lambda _reason, _seconds: None,
        prepare: Callable[[Connection], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open nothing yet.

        Args:
            database: where to.
            wait: seconds for which a connection is tried again after one broke.
            on_wait: told why, and how many seconds until the next try.
            prepare: makes each new connection ready, which then is for this alone.
            sleep: waits; what it raises ends the work.
        """
        self._database = database
        self._wait = wait
        self._on_wait = on_wait
        self._prepare = prepare
        self._sleep = sleep
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        self.run(lambda _connection: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and error is None and self._prepare is None:
            self._database.give_back(connection)
        elif connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do the work, as often as it takes.

        Raises:
            DatabaseUnreachable: the database stayed away for longer than ``wait``.
        """
        return reconnecting(lambda: self._once(work), wait=self._wait, on_wait=self._on_wait, sleep=self._sleep)

    def _once(self, work: Callable[[Connection], T]) -> T:
        try:
            with translated(self._database.safe_url):
                connection = self._open()
            with translated(self._database.safe_url, connection, own=self._database.schema):
                return work(connection)
        except (DatabaseUnreachable, KeyboardInterrupt):
            # what cancels the statement that an interrupt came upon may reach the server only with the next one
            self._close()
            raise

    def _open(self) -> Connection:
        if self._connection is None:
            prepare = self._prepare
            connection = self._connection = self._database.take() if prepare is None else self._database.connect()
            if prepare is not None:
                prepare(connection)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
