"""Locks: one runner per collection, and short, retried locks on the user's tables that name who stands in the way."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import DatabaseError, LockHeld, VecmigError
from vecmig.store.connect import Connection, Database
from vecmig.store.statements import statement

T = TypeVar("T")
#: Longest that vecmig waits for a lock in one go; an application queued behind it waits no longer.
LOCK_TIMEOUT_MS: Final = 500
_LONGEST_PAUSE: Final = 5.0
#: Between two looks at who is in the way; a wait lasts several.
_LOOK_SECONDS: Final = 0.1


@contextmanager
def runner_locks(database: Database, collections: Sequence[str], *, what: str) -> Iterator[None]:
    """Hold the runner's lock of each collection, on a connection of its own, for as long as the block runs.

    Raises:
        LockHeld: somebody else holds one; the message says who.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(database.session())
        stack.callback(_release, connection)
        connection.execute(
            "SELECT pg_catalog.set_config('application_name', %s, false)",
            [f"vecmig {what} {platform.node()} {os.getpid()}"[:63]],
        )
        for collection in sorted(set(collections)):
            key = _lock_key(database.schema, collection)
            row = connection.execute(statement("locks", "try_lock"), {"key": key}).fetchone()
            if not (row and row[0]):
                raise _held(connection, collection, key)
        yield


def with_lock_retries(
    database: Database,
    change: Callable[[Connection], T],
    *,
    wait: float,
    on_wait: Callable[[str], None],
) -> T:
    """Run ``change`` in one short transaction, and again while a lock it needs is taken.

    Each try waits at most LOCK_TIMEOUT_MS for a lock, then lets everybody pass before it tries again, so that a long
    transaction of the application never makes others queue behind vecmig.

    Args:
        change: what to do, on a connection inside the transaction.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time.
    """
    deadline = time.monotonic() + wait
    pause = 0.05
    while True:
        with (
            database.session() as connection,
            _watched(database, connection) as seen,
            suppress(pg.LockNotAvailable, pg.DeadlockDetected),
            connection.transaction(),
        ):
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS)))
            return change(connection)
        blocker = seen.blockers or "a transaction that has just ended"
        on_wait(blocker)
        if time.monotonic() + pause > deadline:
            raise DatabaseError(
                f"A lock could not be had within {wait:g} s. In the way: {blocker}.",
                state="Nothing was changed.",
                hint="Let that transaction end, or end it with: SELECT pg_terminate_backend(pid); then run this again.",
            )
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret
        pause = min(pause * 2, _LONGEST_PAUSE)


def _release(connection: Connection) -> None:
    # a server process takes a moment to end after its client: until then the next command would find the lock taken
    with suppress(psycopg.Error):
        connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()")


def _lock_key(schema: str, collection: str) -> int:
    digest = hashlib.sha256(f"vecmig\0{schema}\0{collection}".encode()).digest()
    # pg_locks shows a bigint key in two unsigned halves; staying below 2**63 spares the sign when they are joined
    return int.from_bytes(digest[:8], "big") >> 1


def _held(connection: Connection, collection: str, key: int) -> LockHeld:
    row = connection.execute(statement("locks", "holder"), {"key": key}).fetchone()
    who = "somebody who has just let it go"
    if row is not None:
        pid, user, application, address, since = row
        place = address or "a local socket"
        who = f"{application or 'a client'} (pid {pid}, user {user}, from {place}, since {since:%F %T})"
    return LockHeld(
        f"Another runner works on collection {collection}: {who}.",
        state="Nothing was changed.",
        hint="Wait for it to end; watch it with: vecmig status --watch",
    )


def _known(*words: str | None) -> list[str]:
    """Leave out what PostgreSQL does not tell this role of another's session."""
    return [word for word in words if word]


@dataclass(slots=True)
class _Seen:
    """What a watch has seen: who stood in the way last."""

    blockers: str = ""


@contextmanager
def _watched(database: Database, connection: Connection) -> Iterator[_Seen]:
    """Find out from a second session who keeps a connection waiting: afterwards nobody can tell."""
    seen, done = _Seen(), threading.Event()
    arguments = (database, connection.info.backend_pid, seen, done)
    thread = threading.Thread(target=_watch, args=arguments, name="vecmig locks", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join(_LOOK_SECONDS)


def _watch(database: Database, pid: int, seen: _Seen, done: threading.Event) -> None:
    # most changes are over before the first look, and cost no session
    if done.wait(_LOOK_SECONDS):
        return
    with suppress(VecmigError), database.session() as connection:
        while not done.is_set():
            rows = connection.execute(statement("locks", "blockers"), {"pid": pid}).fetchall()
            if rows:
                seen.blockers = "; ".join(_blocker(*row) for row in rows)
            done.wait(_LOOK_SECONDS)


def _blocker(pid: int, user: str | None, application: str | None, state: str | None, age: str | None) -> str:
    if pid == 0:
        return "a prepared transaction (see pg_prepared_xacts)"
    words = _known(user, application, state, age and f"transaction open for {age}")
    return f"pid {pid} ({', '.join(words)})" if words else f"pid {pid}"
