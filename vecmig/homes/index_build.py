"""Build a tag's HNSW index beside the application: sized by its vectors, in parallel, watched from a second session."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

import psycopg
from psycopg import errors as pg

from vecmig.errors import Blocked, DatabaseError, DatabaseUnreachable
from vecmig.events import IndexProgress, Listener, Waiting, Warned, ignore
from vecmig.freshness.stamps import Stamps
from vecmig.homes.index import (
    IndexTarget,
    create_statement,
    index_state,
    table_bytes,
    vectors_in,
    wanted_memory_mb,
)
from vecmig.homes.patience import NO_INDEX, Patience
from vecmig.homes.values import IndexBuild, IndexLimits
from vecmig.postgres.blockers import blocking
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import statement
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection, Database, translated

#: Seconds between two looks at a build, and for which its pace is reckoned back.
_TICK: Final = 0.5
_PACE_SECONDS: Final = 10.0
#: Seconds that an interrupted build is given to end on the server.
_CANCEL_SECONDS: Final = 10.0
#: Fewer bytes of vectors are not worth a parallel worker; PostgreSQL's own min_parallel_table_scan_size.
_WORTH_WORKERS: Final = 8 * 2**20
#: Where pgvector's notice and PostgreSQL's shared memory come from: neither has an SQLSTATE of its own.
_PGVECTOR_BUILD: Final = "hnswbuild.c"
_SHARED_MEMORY: Final = "dsm_impl.c"


@dataclass(frozen=True, slots=True)
class _Task:
    """One build: of what, with what, and who is told."""

    database: Database
    stamps: Stamps
    target: IndexTarget
    rows: int
    memory_mb: int
    workers: int
    listener: Listener

    @property
    def wanted_mb(self) -> int:
        return wanted_memory_mb(self.stamps, self.rows)


class _SharedMemoryError(Exception):
    """A parallel build did not begin, for want of shared memory."""


def build_index(
    database: Database,
    stamps: Stamps,
    target: IndexTarget,
    *,
    rows: int,
    limits: IndexLimits,
    listener: Listener = ignore,
) -> IndexBuild | None:
    """Build the index CONCURRENTLY, unless a valid one is there; give None then.

    A build that was killed leaves an index that is kept up on each write and used by no query: it is dropped first.
    Interrupted, it is cancelled on the server too, and leaves such an index to the next run.

    It waits for others for ``lock_wait`` seconds. PostgreSQL has it wait for older transactions in its middle and at
    its end too: there it waits for as long as it has worked, if that is longer, before it throws its work away.

    Args:
        database: where; the build has a session of its own, and another one watches it.
        stamps: the tag.
        target: where its index is.
        rows: how many vectors to expect, to size maintenance_work_mem by.
        limits: the most that may be used.
        listener: told of progress, of who is waited for, and of a lack of memory, in this thread.

    Raises:
        DatabaseUnreachable: the connection was lost; the next run begins the build again.
        Blocked: somebody was in the way for too long; what the build left is removed, or replaced by the next one.
        DatabaseError: the server refused.
    """
    with database.session() as connection:
        _await_other_build(connection, target, listener, Patience(database.lock_wait, stamps.tag))
        if index_state(connection, target).usable:
            return None
        task = _task(connection, stamps, target=target, database=database, rows=rows, limits=limits, listener=listener)
    _warn_if_tight(task, limits)
    began = time.monotonic()
    try:
        seen = _run(task)
    except _SharedMemoryError:
        listener(Warned(_no_shared_memory(task)))
        task = replace(task, workers=0)
        seen = _run(task)
    return IndexBuild(rows, task.memory_mb, seen, time.monotonic() - began)


def _task(connection: Connection, stamps: Stamps, *, rows: int, limits: IndexLimits, **others: Any) -> _Task:
    workers = _value(connection, "server_workers") if limits.workers is None else limits.workers
    if table_bytes(stamps, rows) < _WORTH_WORKERS:
        workers = 0
    memory = min(limits.memory_mb, wanted_memory_mb(stamps, rows))
    return _Task(stamps=stamps, rows=rows, memory_mb=memory, workers=workers, **others)


def _await_other_build(connection: Connection, target: IndexTarget, listener: Listener, patience: Patience) -> None:
    """Let a build come to its end: PostgreSQL goes on with that of a run that was killed, and dropping it deadlocks."""
    values = {"relation": target.relation.as_string(connection)}
    while row := connection.execute(statement("homes/index", "being_built"), values).fetchone():
        who = blocking(connection, row[0])
        waits = f"; it waits for {who.words}" if who.words else ""
        reason = f"an earlier run's build of the index still goes on (pid {row[0]}){waits}"
        listener(Waiting(reason, cause=f"index build {row[0]}, {who.ids}"))
        if who.words:
            patience.wait(f"an earlier run's build of it (pid {row[0]}), which waits too", who)
        else:
            patience.end()
        time.sleep(_TICK)


# The session that builds ------------------------------------------------------------------------------------------


class _Builder(threading.Thread):
    """Drops what a killed build left, builds and analyses, in a session of its own."""

    def __init__(self, task: _Task) -> None:
        super().__init__(name="vecmig index", daemon=True)
        self._task = task
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self.done = threading.Event()
        #: The server's process; None before it is known.
        self.pid: int | None = None
        #: After how many vectors the graph no longer fitted into memory.
        self.notices: SimpleQueue[int] = SimpleQueue()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            # it waits for old transactions by their locks: its watch knows for whom it waits where, and for how long
            patient = replace(self._task.database, lock_wait=None, watch=None)
            with patient.session() as connection:
                self._work(connection)
        except BaseException as error:  # noqa: BLE001  # it is raised again where the build was asked for
            self.error = error
        finally:
            self.done.set()

    def cancel(self) -> None:
        """Stop the build on the server; more than once, as a cancellation between two statements meets none."""
        self._stopping.set()
        deadline = time.monotonic() + _CANCEL_SECONDS
        while not self.done.is_set() and time.monotonic() < deadline:
            if self._connection is not None:
                with suppress(psycopg.Error):
                    self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
            self.done.wait(_TICK)

    def _work(self, connection: Connection) -> None:
        task, name = self._task, self._task.target.identifier
        values = {"memory": f"{task.memory_mb}MB", "workers": task.workers}
        connection.add_notice_handler(self._note)
        connection.execute(statement("homes/index", "settle"), values)
        self.pid = connection.process
        self._connection = connection
        if index_state(connection, task.target).exists:
            self._execute(statement("homes/index", "drop", index=name))
        try:
            self._execute(create_statement(task.stamps, task.target))
        except (pg.DiskFull, pg.OutOfMemory) as error:
            raise _explained(error, task) from error
        self._execute(statement("homes/index", "analyze", stamps=task.stamps.relation))

    def _execute(self, query: Any) -> None:
        if not self._stopping.is_set() and self._connection is not None:
            self._connection.execute(query)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        number = re.search(r"\d+", notice.message_primary or "")
        if notice.source_file == _PGVECTOR_BUILD and notice.severity_nonlocalized == "NOTICE" and number:
            self.notices.put(int(number[0]))


def _value(connection: Connection, name: str) -> Any:
    row = connection.execute(statement("homes/index", name)).fetchone()
    assert row is not None, "it gives one row"
    return row[0]


def _explained(error: psycopg.Error, task: _Task) -> Exception:
    if error.diag.source_file == _SHARED_MEMORY and task.workers:
        return _SharedMemoryError()
    if isinstance(error, pg.OutOfMemory):
        return DatabaseError(
            f"The server does not have the {task.memory_mb:,} MB of memory that the index build may take.",
            state=NO_INDEX,
            hint="Lower maintenance_work_mem_mb in vecmig.ini: with less, the build is slower. Then run this again.",
        )
    return error


# The session that watches -----------------------------------------------------------------------------------------


def _run(task: _Task) -> int:
    """Build, and tell how it goes from this thread; give the most parallel workers that were seen."""
    builder = _Builder(task)
    with translated(task.database.safe_url), ReconnectingSession(task.database) as session:
        watch = _Watch(task, Patience(task.database.lock_wait, task.stamps.tag))
        builder.start()
        try:
            while not builder.done.wait(_TICK):
                _tell_notices(builder, task)
                # the build goes on without a session that watches it, until there is another one
                with suppress(DatabaseUnreachable):
                    session.run(partial(watch.look, pid=builder.pid))
        except Blocked as given_up:
            builder.cancel()
            if session.run(lambda connection: index_state(connection, task.target)).usable:
                return watch.workers
            given_up.state = session.run(partial(_put_away, task=task))
            raise
        except BaseException:
            builder.cancel()
            raise
        _tell_notices(builder, task)
        if builder.error is not None:
            raise builder.error
        return watch.workers


def _put_away(connection: Connection, task: _Task) -> str:
    """Drop the index that a build has left half made, if nothing is in the way of that; say how things stand."""
    drop = statement("homes/index", "drop", index=task.target.identifier)
    with suppress(Blocked):
        with_lock_retries(
            task.database, lambda other: other.execute(drop), wait=0, on_wait=lambda *_: None, in_transaction=False
        )
    left = index_state(connection, task.target).exists
    return "The vectors are all there; the index is invalid, and the next build replaces it." if left else NO_INDEX


def _tell_notices(builder: _Builder, task: _Task) -> None:
    with suppress(Empty):
        while True:
            task.listener(Warned(_outgrown(task, builder.notices.get_nowait())))


@dataclass(slots=True)
class _Watch:
    """Looks at a build and tells what it sees."""

    task: _Task
    patience: Patience
    #: The most parallel workers seen at once.
    workers: int = 0
    #: When the build had the locks that it needs.
    _began: float | None = None
    _phase: str = ""
    _done: int = 0
    #: When how much was done, in this phase.
    _pace: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, connection: Connection, pid: int | None) -> None:
        """Tell how far the build is, or for whom it waits.

        Raises:
            Blocked: it has waited for too long.
        """
        if pid is None:
            return
        row = connection.execute(statement("homes/index", "progress"), {"pid": pid}).fetchone()
        if row is None:
            self._tell_wait(connection, pid, "a lock")
            return
        self._began = self._began or time.monotonic()
        phase, blocks, all_blocks, tuples, lockers, all_lockers, workers = row
        self.workers = max(self.workers, workers)
        if phase.startswith("waiting for "):
            others = f" ({lockers + 1} of {all_lockers})" if all_lockers > 1 else ""
            what = phase.removeprefix("waiting for ")
            self._tell_wait(connection, pid, what, others, turn=lockers, began=self._began)
        elif phase == "building index: loading tuples":
            self._tell("loading tuples", tuples, max(self.task.rows, tuples))
        else:
            # "index validation: scanning table" is told as "validation, scanning table" of the index
            short = phase.removeprefix("building index: ").removeprefix("index ").replace(":", ",")
            self._tell(short, blocks, all_blocks)

    def _tell_wait(self, connection: Connection, pid: int, what: str, others: str = "", **since: Any) -> None:
        who = blocking(connection, pid)
        if who.words:
            reason = f"the index waits for {what}{others}"
            self.task.listener(Waiting(f"{reason}: {who.words}", cause=f"{reason}: {who.ids}"))
            self.patience.wait(what, who, **since)
        else:
            self.patience.end()

    def _tell(self, phase: str, done: int, total: int) -> None:
        self.patience.end()
        if phase != self._phase:
            self._phase, self._done = phase, 0
            self._pace.clear()
        self._done = max(done, self._done)
        task = self.task
        name = task.stamps.source.collection.name
        task.listener(IndexProgress(name, task.stamps.tag, phase, self._done, total, self._left(total)))

    def _left(self, total: int) -> float | None:
        now = time.monotonic()
        self._pace.append((now, self._done))
        while now - self._pace[0][0] > _PACE_SECONDS:
            self._pace.popleft()
        began, before = self._pace[0]
        return (total - self._done) * (now - began) / (self._done - before) if self._done > before else None


# What is told of memory -------------------------------------------------------------------------------------------


def _warn_if_tight(task: _Task, limits: IndexLimits) -> None:
    if task.wanted_mb <= limits.memory_mb:
        return
    task.listener(
        Warned(
            f"The index of {task.stamps.tag} takes about {task.wanted_mb:,} MB of maintenance_work_mem while it is "
            f"built, and maintenance_work_mem_mb allows {limits.memory_mb:,} MB: after about "
            f"{vectors_in(limits.memory_mb, task.stamps):,} of {task.rows:,} vectors it is built on disk, many times "
            f"slower. If the server has the memory, set maintenance_work_mem_mb = {task.wanted_mb} in vecmig.ini."
        )
    )


def _outgrown(task: _Task, fitted: int) -> str:
    needed = max(task.wanted_mb, int(task.memory_mb * 1.1 * task.rows / max(fitted, 1)) + 1)
    return (
        f"The index of {task.stamps.tag} no longer fits into maintenance_work_mem ({task.memory_mb:,} MB) after "
        f"{fitted:,} of {task.rows:,} vectors: the rest is built on disk, many times slower. To have it in memory, "
        f"interrupt this (Ctrl-C), set maintenance_work_mem_mb = {needed} in vecmig.ini, and run it again."
    )


def _no_shared_memory(task: _Task) -> str:
    return (
        f"The server has too little shared memory (/dev/shm) for a parallel index build with {task.memory_mb:,} MB, so "
        "the index is built without parallel workers, which takes longer. Give the server's container more (docker run "
        f"--shm-size={2 * task.memory_mb}m), or set index_workers = 0 in vecmig.ini."
    )
