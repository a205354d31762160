"""Why a backfill should wait for the database's sake: replicas that are behind, or what a user's query says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg import errors as pg

from vecmig.errors import DatabaseError
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.sessions import Connection, by_the_roles_path

#: The user's query runs every second; one that takes longer than this is no answer.
QUERY_TIMEOUT_MS: Final = 1_000
#: Above so many samples, every second one of the older half goes: a replica may stand still for days.
_MOST_SAMPLES: Final = 3_600


@dataclass(frozen=True, slots=True)
class Replica:
    """How far one replica has replayed the primary's log."""

    name: str
    #: Its address; None for a local socket.
    address: str | None
    #: Bytes of the log that it has replayed.
    position: int
    #: Seconds that the log replayed last took to get there, by the server's own clock; None while nothing is written.
    measured: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.address else self.name


@dataclass(slots=True)
class History:
    """When the primary's log was how long.

    The server itself only says how long the log took that was replayed last. That figure stays where the replay
    does, so a replica that has stopped would look as if it kept up.
    """

    clock: Callable[[], float] = time.monotonic
    _samples: list[tuple[float, int]] = field(default_factory=list)

    def add(self, position: int) -> None:
        """Note that the log is ``position`` bytes long now."""
        if [end for _, end in self._samples[-2:]] == [position, position]:
            # while nothing is written, the first and the last moment are enough
            self._samples.pop()
        self._samples.append((self.clock(), position))
        if len(self._samples) > _MOST_SAMPLES:
            del self._samples[1 : len(self._samples) // 2 : 2]

    def lag(self, replica: Replica) -> float:
        """Give the seconds since the primary's log ended where the replica is now; at least, if that was before all."""
        now, end = self._samples[-1]
        if replica.position >= end:
            return 0.0
        own = now - self._reached_at(replica.position)
        return max(own, replica.measured or 0.0)

    def _reached_at(self, position: int) -> float:
        """Give the time when the log was so long, evenly between two samples."""
        for at in range(len(self._samples) - 1, 0, -1):
            (before, start), (after, end) = self._samples[at - 1 : at + 1]
            if start <= position:
                return before + (after - before) * (position - start) / (end - start)
        return self._samples[0][0]


def judge(lags: Sequence[tuple[Replica, float]], most: float | None, answer: float | str | None) -> str | None:
    """Say why to wait, or None to go on.

    Args:
        lags: the replicas, and the seconds that each is behind.
        most: seconds that they may be; None for no limit.
        answer: the number that the user's query gave, or why it gave none; None without a query.
    """
    behind = [f"replica {replica} is {lag:.1f} s behind" for replica, lag in lags if most is not None and lag > most]
    if behind:
        return f"{', '.join(behind)}; max_replica_lag is {most:g} s"
    if isinstance(answer, str):
        return f"throttle_query {answer}"
    if answer is not None and answer > 0:
        return f"throttle_query gives {answer:g}, which is above 0"
    return None


def read_answer(columns: int, rows: list[tuple[Any, ...]]) -> float | str:
    """Read what the user's query gave: its number, or what is there instead of one."""
    if columns != 1:
        return f"gives {columns} columns; it must give one number"
    if len(rows) != 1:
        return f"gives {'more than one row' if rows else 'no row'}; it must give one number"
    value = rows[0][0]
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool) or math.isnan(value):
        return f"gives {'NULL' if value is None else repr(value)[:60]}; it must give a number"
    return float(value)


class Throttle:
    """Asks the database, about once a second, whether a backfill should wait."""

    def __init__(
        self,
        *,
        query: str | None,
        max_replica_lag: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            query: a SELECT of one number; above 0 means to wait. So does a query that gives no answer.
            max_replica_lag: seconds that a replica may be behind.
            clock: the time, in seconds.
        """
        self._query = query
        self._most = max_replica_lag
        self._history = History(clock)

    def reason(self, connection: Connection) -> str | None:
        """Say why to wait, or None to go on; on a connection in autocommit mode.

        Raises:
            DatabaseError: this role may not see how far the replicas are.
            psycopg.OperationalError: the connection broke.
        """
        lags = self._lags(connection) if self._most is not None else []
        return judge(lags, self._most, self._answer(connection) if self._query is not None else None)

    def _lags(self, connection: Connection) -> list[tuple[Replica, float]]:
        row = connection.execute(statement("postgres/throttle", "position")).fetchone()
        assert row is not None
        position, allowed = row
        if not allowed:
            raise DatabaseError(
                f"max_replica_lag is set, and the role {connection.info.user} may not see how far replicas are.",
                hint=f"Run: GRANT pg_monitor TO {connection.info.user}   or take max_replica_lag out of vecmig.ini",
            )
        # after the position, so that a replica which is up to date is never behind it
        self._history.add(position)
        replicas = [Replica(*row) for row in connection.execute(statement("postgres/throttle", "replicas"))]
        return [(replica, self._history.lag(replica)) for replica in replicas]

    def _answer(self, connection: Connection) -> float | str:
        assert self._query is not None
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET TRANSACTION READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = {QUERY_TIMEOUT_MS}")
                with by_the_roles_path(connection):
                    cursor = connection.execute(statement("postgres/throttle", "ask", query=raw(self._query)))
                return read_answer(len(cursor.description or ()), cursor.fetchall())
        except pg.QueryCanceled:
            return f"took longer than {QUERY_TIMEOUT_MS / 1000:g} s"
        except psycopg.Error as error:
            if connection.closed:
                raise
            message = error.diag.message_primary or type(error).__name__
            return f"fails: {' '.join(message.split())}"
