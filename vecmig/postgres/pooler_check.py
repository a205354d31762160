"""Tell a pooler that lends one session of the server to several clients from one that keeps it for each."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any, Final

import psycopg
from psycopg.pq import ExecStatus

from vecmig.errors import DatabaseError

#: With so many more, two of them share a session for certain where there are up to four poolers behind one address.
_OTHERS: Final = 4
#: A pool that has a session to give gives it sooner; one that has none lets the client wait.
_WAIT_SECONDS: Final = 1.0
#: A client that has a session of its own is answered at once; what takes so long waits for somebody else's.
_PATIENCE_SECONDS: Final = 10.0
_WHO: Final = b"SELECT pg_catalog.pg_backend_pid()"


def sharing(first: psycopg.Connection[Any], pid: int, another: Callable[[], psycopg.Connection[Any]]) -> str | None:
    """Say how one can see that the sessions behind ``first`` are shared; None where each client has one of its own.

    In session mode a client has a process of the server for itself from its first statement on until it leaves. So a
    few more clients are opened; each is asked for its process, and after each all others again. Nothing is set, and no
    transaction is left open: other clients of the pool notice nothing.

    Args:
        first: an open connection.
        pid: the process that has answered it.
        another: opens one more to the same address; what it raises is raised.
    """
    seen = [(first, pid)]
    with ExitStack() as stack:
        for _ in range(_OTHERS):
            client = stack.enter_context(closing(another()))
            client.pgconn.send_query(_WHO)
            got = _answer(client, _WAIT_SECONDS)
            # a client that waits was first in the queue: in a shared pool nobody else is answered before it
            for known, before in seen:
                known.pgconn.send_query(_WHO)
                now = _answer(known, _PATIENCE_SECONDS)
                if now != before:
                    return moved(before, now)
            if got is None:
                return None
            if got in (before for _, before in seen):
                return f"process {got} answered two connections at once"
            seen.append((client, got))
    return None


def moved(before: int, now: int | None) -> str:
    """Say that a connection's statements were answered by two processes of the server."""
    return f"process {before} answered one statement of a connection, {now or 'none'} the next"


def refusal(found: str) -> DatabaseError:
    """Say what a pooler that shares sessions would break, and what to do."""
    return DatabaseError(
        f"Between vecmig and the server is a pooler in transaction or statement mode: {found}.",
        state="Nothing was changed. Through it, vecmig's settings would reach other clients' statements, "
        "and the lock that keeps a second runner away would be lost or stay behind.",
        hint="Connect to the server itself or to a pool in session mode: database_url in vecmig.ini, "
        "or the variable VECMIG_DATABASE_URL",
    )


def _answer(connection: psycopg.Connection[Any], seconds: float) -> int | None:
    """Wait for the answer to _WHO; None if it does not come in time, or the connection is ended instead."""
    deadline = time.monotonic() + seconds
    pgconn = connection.pgconn
    pid = None
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        try:
            while True:
                pgconn.flush()
                if pgconn.is_busy():
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        return None
                    pgconn.consume_input()
                elif (result := pgconn.get_result()) is None:
                    return pid
                elif result.status == ExecStatus.TUPLES_OK:
                    pid = int(result.get_value(0, 0) or 0)
        except psycopg.OperationalError:
            return None
