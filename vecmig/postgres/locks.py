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
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg import errors as pg

from vecmig.errors import Blocked, LockHeld, VecmigError
from vecmig.postgres.blockers import Blockers, blocking, known
from vecmig.postgres.lock_watch import LockWatch, Wait
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database, translated
from vecmig.postgres.settings import lock_timeout

T = TypeVar("T")
#: Which of two locks of a collection: of the runs that move it, one at a time, or of its syncs, one at a time.
Kind = Literal["runner", "sync"]
#: Seconds that the first try waits for a lock; each next one waits longer by this, up to ``lock_timeout``.
_FIRST_TRY: Final = 0.02
_GROWTH: Final = 1.5
#: How long others pass between two tries, in times of the try that they may have waited behind.
_PAUSES: Final = (2.0, 4.0)
#: Tries after the time is up, longer ones each, as long as none of them lasted until somebody saw who is in the way.
_LATE_TRIES: Final = 3
#: Longest try where no session queues behind; autovacuum steps aside after deadlock_timeout, by default 1 s.
_OUTSIDE_TRY: Final = 2.0
#: The name of a session that holds the lock of a run.
_RUN: Final = re.compile(r"vecmig (?P<what>.+) (?P<host>\S+) (?P<pid>\d+)")
_SERVICE: Final = "sync --watch"
#: Longest time until somebody looks who is in the way; a try that waits is looked at three times.
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

    While it waits for a lock, others queue behind it. So each try waits for a moment only, a little longer than the one
    before and never longer than the database's ``lock_timeout``; then everybody passes, for longer than they waited.

    Args:
        database: where; its ``lock_timeout`` is the longest try.
        change: what to do, on a connection inside the transaction.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time, and the same without since when.
        in_transaction: False for a statement that PostgreSQL takes outside only. It works in steps of its own and makes
            no session queue, so each try waits longer: long enough for autovacuum to step aside.
        fresh: True for what may leave settings behind in its session.
    """
    deadline = time.monotonic() + wait
    seconds = min(_FIRST_TRY, database.lock_timeout) if in_transaction else _OUTSIDE_TRY
    late = 0
    with closing(_Lookout(database)) as lookout:
        while True:
            with (
                database.session(fresh=fresh or not in_transaction) as connection,
                suppress(pg.LockNotAvailable, pg.DeadlockDetected),
                connection.transaction() if in_transaction else nullcontext(),
                lookout.on(_limit_waiting(connection, seconds, local=in_transaction), seconds),
            ):
                return change(connection)
            if lookout.now is not None:
                on_wait(lookout.now.words, lookout.now.ids)
            pause = seconds * random.uniform(*_PAUSES)  # noqa: S311  # jitter, no secret
            if time.monotonic() + pause > deadline:
                # who is in the way can be told only of a try that somebody has looked at
                late += 1
                if late > _LATE_TRIES or lookout.seen is not None or not wait:
                    raise lookout.blocked(wait)
            lookout.open()
            time.sleep(pause)
            seconds = min(seconds * _GROWTH, database.lock_timeout if in_transaction else _OUTSIDE_TRY)


def _limit_waiting(connection: Connection, seconds: float, *, local: bool) -> int:
    """Let the open transaction, or the session, wait so long for a lock; give the process that it runs in."""
    values = lock_timeout(seconds) | {"local": local}
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
    session = ", ".join(known(f"pid {pid}", user and f"user {user}", place))
    return Holder(application or "", f"{application or 'a client'} ({session})")


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


class _Lookout:
    """Finds out from a second session who keeps a try waiting: afterwards it cannot be told."""

    def __init__(self, database: Database) -> None:
        """See nobody yet."""
        self._database = database
        self._session: Connection | None = None
        self._kept = ExitStack()
        #: Who was seen to be in the way of the last try, and of any of them, last.
        self.now: Blockers | None = None
        self.seen: Blockers | None = None
        #: The transactions that were in the way of every try at which somebody was seen.
        self._lasting: frozenset[tuple[Any, ...]] | None = None

    def open(self) -> None:
        """Be ready for short tries: most changes need none, and cost no session."""
        if self._session is None:
            with suppress(VecmigError):
                self._session = self._kept.enter_context(self._database.session())

    def close(self) -> None:
        """Give the session back."""
        self._kept.close()

    @contextmanager
    def on(self, pid: int, seconds: float) -> Iterator[None]:
        """Look who keeps a process waiting, for as long as the block runs."""
        self.now = None
        done = threading.Event()
        tick = min(_LOOK_SECONDS, seconds / 3) if self._session is not None else _LOOK_SECONDS
        arguments = (pid, tick, done)
        thread = threading.Thread(target=self._look, args=arguments, name="vecmig locks", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(None if self._session is not None else _LOOK_SECONDS)

    def _look(self, pid: int, tick: float, done: threading.Event) -> None:
        if done.wait(tick):
            return
        with suppress(VecmigError, psycopg.Error), ExitStack() as opened:
            session = self._session or opened.enter_context(self._database.session())
            while not done.is_set():
                now = blocking(session, pid)
                if now.words:
                    self.now = self.seen = now
                    self._lasting = now.transactions & (now.transactions if self._lasting is None else self._lasting)
                done.wait(tick)

    def blocked(self, wait: float) -> Blocked:
        """Return the error that says who was in the way, and what helps."""
        seen = self.seen or Blockers("a transaction that has just ended")
        hint = seen.hint
        if self.seen is not None and not self._lasting:
            hint = (
                "They take turns, and one of them is always open. Run this again when fewer are; or let it wait, and "
                "everybody behind it, for longer than they last: lock_timeout in vecmig.ini, in seconds (it is "
                f"{self._database.lock_timeout:g})."
            )
        return Blocked(
            f"Could not acquire the lock within {wait:g} s. Blocked by {seen.words}.",
            state="Nothing was changed.",
            hint=hint,
        )
