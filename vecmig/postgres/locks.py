"""Locks: one runner per collection, and short, retried locks on the user's tables that name who stands in the way."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeVar

import psycopg
from psycopg import errors as pg

from vecmig.errors import Blocked, LockHeld, VecmigError
from vecmig.postgres.lock_watch import LockWatch, Wait
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database, translated
from vecmig.text import noun

T = TypeVar("T")
#: Which of two locks of a collection: of the runs that move it, one at a time, or of its syncs, one at a time.
Kind = Literal["runner", "sync"]
#: Longest that vecmig waits for a lock in one go; an application queued behind it waits no longer.
LOCK_TIMEOUT_MS: Final = 500
#: The same where no session queues behind; autovacuum steps aside after deadlock_timeout, by default 1 s.
_OUTSIDE_TIMEOUT_MS: Final = 2_000
_LONGEST_PAUSE: Final = 5.0
#: The name of a session that holds the lock of a run.
_RUN: Final = re.compile(r"vecmig (?P<what>.+) (?P<host>\S+) (?P<pid>\d+)")
_SERVICE: Final = "sync --watch"
_END_SESSION: Final = "Let that transaction end, or end it with: SELECT pg_terminate_backend(pid)"
#: Between two looks at who is in the way; a wait lasts several.
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock of a collection."""

    #: The name of the session, and all that the server tells of it.
    name: str
    words: str

    def __str__(self) -> str:
        return self.words

    @property
    def what(self) -> str:
        """The command: upgrade, sync --watch, …; empty where the name does not say."""
        run = _RUN.fullmatch(self.name)
        return run["what"] if run else ""

    @property
    def place(self) -> str:
        """The host and the process there; all that is known where the name does not say."""
        run = _RUN.fullmatch(self.name)
        return f"{run['host']} (pid {run['pid']})" if run else self.words


@dataclass(frozen=True, slots=True)
class _SessionId:
    """One session of the server; its pid alone may come back."""

    #: The application's name, as the server has cleaned it.
    name: str
    pid: int
    since: datetime


class RunnerLocks:
    """The locks of a run, on a connection of their own; a thread may ask for them while others work."""

    def __init__(self, database: Database, collections: Sequence[str], *, what: str, kind: Kind) -> None:
        """Take none yet."""
        self._database = database
        self._collections = sorted(set(collections))
        self._name = f"vecmig {what} {platform.node()} {os.getpid()}"[:63]
        self._kind = kind
        self._connection: Connection | None = None
        self._session: _SessionId | None = None
        self._turn = threading.Lock()

    def ensure(self) -> None:
        """Make sure that the locks are held, in one round trip; take them again if their connection broke.

        Between the break and now somebody else may have had them, and come to an end.

        Raises:
            LockHeld: somebody else holds one now.
            DatabaseUnreachable: there is no answer; the locks are not held until this returns.
        """
        with self._turn, translated(self._database.safe_url):
            if self._connection is not None and self._held(self._connection):
                return
            self.release()
            self._take()

    def release(self) -> None:
        """Let go of the locks, and of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                # a server process takes a moment to end after its client: until then the next command would find them
                # taken
                connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()")
            connection.close()

    def _take(self) -> None:
        connection = self._connection = self._database.connect()
        row = connection.execute(statement("postgres/locks", "begin"), {"name": self._name}).fetchone()
        assert row is not None, "a session sees itself"
        lost, self._session = self._session, _SessionId(*row)
        for collection in self._collections:
            key = _lock_key(self._database.schema, collection, self._kind)
            if not (_try_lock(connection, key) or (lost and self._take_over(connection, key, lost))):
                raise self._refusal(connection, collection, key, again=lost is not None)

    def _take_over(self, connection: Connection, key: int, lost: _SessionId) -> bool:
        """Take a lock that this run's own broken connection holds: the server may not know yet that it broke."""
        values = {"key": key, "pid": lost.pid, "since": lost.since, "name": lost.name}
        ended = connection.execute(statement("postgres/locks", "end_session"), values).fetchone()
        return bool(ended and ended[0]) and _try_lock(connection, key)

    def _held(self, connection: Connection) -> bool:
        with suppress(psycopg.OperationalError):
            held = {row[0] for row in connection.execute(statement("postgres/locks", "held"))}
            return held.issuperset(_lock_key(self._database.schema, name, self._kind) for name in self._collections)
        return False

    def _refusal(self, connection: Connection, collection: str, key: int, *, again: bool) -> LockHeld:
        holder = _holder(connection, key)
        who = holder or "somebody who has just let it go"
        other = "runner works on" if self._kind == "runner" else "sync is at work on"
        lost = "The connection that held this run's lock broke, and they have it now; what was committed stays."
        return LockHeld(
            f"Another {other} collection {collection}: {who}.",
            state=lost if again else "Nothing was changed.",
            hint=_way_on(holder),
        )


def _way_on(holder: Holder | None) -> str:
    """Say what to do beside the holder of a lock: a run comes to its end, a service does not."""
    if holder is None or holder.what != _SERVICE:
        return "Wait for it to end; watch it with: vecmig status --watch"
    return (
        f"The watch at {holder.place} brings the tags up to date already, and does not end "
        "by itself. To run another sync, end it first."
    )


@contextmanager
def runner_locks(
    database: Database, collections: Sequence[str], *, what: str, kind: Kind = "runner"
) -> Iterator[RunnerLocks]:
    """Hold the lock of each collection, on a connection of its own, for as long as the block runs.

    A run that moves phases, tags or reads takes ``runner``; a sync takes ``sync``, which goes beside it.

    Raises:
        LockHeld: somebody else holds one; the message says who.
    """
    locks = RunnerLocks(database, collections, what=what, kind=kind)
    with translated(database.safe_url):
        try:
            locks.ensure()
            yield locks
        finally:
            locks.release()


def runner_at_work(connection: Connection, schema: str, collection: str, kind: Kind = "runner") -> Holder | None:
    """Say who holds the lock of a collection now; None if none does. One round trip; takes no lock."""
    return _holder(connection, _lock_key(schema, collection, kind))


def with_lock_retries(
    database: Database,
    change: Callable[[Connection], T],
    *,
    wait: float,
    on_wait: Callable[[str, str], None],
    in_transaction: bool = True,
    fresh: bool = False,
) -> T:
    """Run ``change`` in one short transaction, and again while a lock it needs is taken.

    Each try waits at most LOCK_TIMEOUT_MS for a lock, then lets everybody pass before it tries again, so that a long
    transaction of the application never makes others queue behind vecmig.

    Args:
        change: what to do, on a connection inside the transaction.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time, and the same without since when.
        in_transaction: False for a statement that PostgreSQL takes outside only. It works in steps of its own and makes
            no session queue, so each try waits longer: long enough for autovacuum to step aside.
        fresh: True for what may leave settings behind in its session.
    """
    deadline = time.monotonic() + wait
    pause = 0.05
    while True:
        seen = _Seen()
        with (
            database.session(fresh=fresh or not in_transaction) as connection,
            suppress(pg.LockNotAvailable, pg.DeadlockDetected),
            connection.transaction() if in_transaction else nullcontext(),
            _watched(database, _limit_waiting(connection, in_transaction=in_transaction), seen),
        ):
            return change(connection)
        who = seen.blockers.words or "a transaction that has just ended"
        on_wait(who, seen.blockers.ids)
        if time.monotonic() + pause > deadline:
            raise Blocked(
                f"Could not acquire the lock within {wait:g} s. Blocked by {who}.",
                state="Nothing was changed.",
                hint=seen.blockers.hint,
            )
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret
        pause = min(pause * 2, _LONGEST_PAUSE)


def _limit_waiting(connection: Connection, *, in_transaction: bool) -> int:
    """Let the open transaction, or the session, wait so long for a lock; give the process that it runs in."""
    milliseconds = LOCK_TIMEOUT_MS if in_transaction else _OUTSIDE_TIMEOUT_MS
    values = {"milliseconds": str(milliseconds), "local": in_transaction}
    row = connection.execute(statement("postgres/locks", "limit"), values).fetchone()
    assert row is not None, "it gives one row"
    return int(row[0])


def _try_lock(connection: Connection, key: int) -> bool:
    row = connection.execute(statement("postgres/locks", "try_lock"), {"key": key}).fetchone()
    return bool(row and row[0])


def _lock_key(schema: str, collection: str, kind: Kind) -> int:
    name = f"vecmig\0{schema}\0{collection}" + ("" if kind == "runner" else f"\0{kind}")
    digest = hashlib.sha256(name.encode()).digest()
    # pg_locks shows a bigint key in two unsigned halves; staying below 2**63 spares the sign when they are joined
    return int.from_bytes(digest[:8], "big") >> 1


def _holder(connection: Connection, key: int) -> Holder | None:
    row = connection.execute(statement("postgres/locks", "holder"), {"key": key}).fetchone()
    if row is None:
        return None
    pid, user, application, address, since = row
    # address and start are not shown to a role that may not see the session of another
    place = since and f"from {address or 'a local socket'}, since {since:%F %T}"
    session = ", ".join(_known(f"pid {pid}", user and f"user {user}", place))
    return Holder(application or "", f"{application or 'a client'} ({session})")


def _known(*words: str | None) -> list[str]:
    """Leave out what PostgreSQL does not tell this role of another's session."""
    return [word for word in words if word]


def watched(database: Database, *, lock_wait: float, tell: Callable[[str, str], None]) -> Database:
    """Give a database whose sessions wait so long for a lock, and tell meanwhile who holds it."""

    def look(processes: list[int]) -> dict[int, Wait]:
        with database.session() as connection:
            seen = {process: _awaited(connection, process) for process in processes}
        return {process: wait for process, wait in seen.items() if wait is not None}

    return replace(database, lock_wait=lock_wait, watch=LockWatch(look, tell, within=lock_wait))


def _awaited(connection: Connection, process: int) -> Wait | None:
    who = blocking(connection, process)
    if not who.words:
        return None
    row = connection.execute(statement("postgres/locks", "awaited"), {"pid": process}).fetchone()
    return Wait(f"a lock {f'on {row[0]} ' if row else ''}is held by {who.words}", who.hint, f"lock: {who.ids}")


@dataclass(frozen=True, slots=True)
class Blockers:
    """Who is in the way, in words; whether a session is among them, and the prepared transactions, as literals."""

    words: str = ""
    sessions: bool = False
    prepared: tuple[str, ...] = ()
    #: Who they are, without since when: the same for as long as nobody else is in the way.
    ids: str = ""

    @property
    def hint(self) -> str:
        """How to end what is in the way. A prepared transaction has no session, and outlives the server."""
        if not self.prepared:
            return f"{_END_SESSION}; then run this again."
        ends = " ".join(f"ROLLBACK PREPARED {gid};" for gid in self.prepared)
        whose = f"{_END_SESSION}. " if self.sessions else ""
        return (
            f"{whose}A prepared transaction waits for whoever prepared it. If it is forgotten, end it in this database "
            f"with: {ends} (or COMMIT PREPARED); then run this again."
        )


@dataclass(slots=True)
class _Seen:
    """What a watch has seen: who stood in the way last."""

    blockers: Blockers = Blockers()


@contextmanager
def _watched(database: Database, pid: int, seen: _Seen) -> Iterator[None]:
    """Find out from a second session who keeps a process waiting: afterwards it cannot be told."""
    done = threading.Event()
    arguments = (database, pid, seen, done)
    thread = threading.Thread(target=_watch, args=arguments, name="vecmig locks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_LOOK_SECONDS)


def _watch(database: Database, pid: int, seen: _Seen, done: threading.Event) -> None:
    # most changes are over before the first look, and cost no session
    if done.wait(_LOOK_SECONDS):
        return
    with suppress(VecmigError), database.session() as connection:
        while not done.is_set():
            now = blocking(connection, pid)
            seen.blockers = now if now.words else seen.blockers
            done.wait(_LOOK_SECONDS)


def blockers(connection: Connection, pid: int) -> str:
    """Name the sessions for which another one waits right now; empty when it waits for none."""
    return blocking(connection, pid).words


def blocking(connection: Connection, pid: int) -> Blockers:
    """Find who keeps a session waiting right now, and how each is ended."""
    rows = connection.execute(statement("postgres/locks", "blockers"), {"pid": pid}).fetchall()
    gids = [gid for row in rows for gid in row[5]]
    prepared = f"the prepared {noun(len(gids), 'transaction')} {', '.join(gids) or '(see pg_prepared_xacts)'}"
    words = [_session(*row[:5]) if row[0] else prepared for row in rows]
    ids = ", ".join([*(str(row[0]) for row in rows if row[0]), *gids])
    return Blockers("; ".join(words), any(row[0] for row in rows), tuple(gids), ids)


def _session(pid: int, user: str | None, application: str | None, state: str | None, age: str | None) -> str:
    words = _known(user, application, state, age and f"transaction open for {age}")
    return f"pid {pid} ({', '.join(words)})" if words else f"pid {pid}"
