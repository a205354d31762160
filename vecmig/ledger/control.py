"""What operators tell a running backfill through the database (pause, resume, tune), and what runs tell them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from sqlalchemy import DateTime, case, cast, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import CONTROL, RUN, execute, later, who
from vecmig.postgres.sessions import Connection

#: What is paid for.
What = Literal["backfill", "sync"]
State = Literal["running", "paused", "throttled", "waiting"]

#: Seconds without a sign of life after which a run counts as gone.
LOST_AFTER: Final = 15.0
#: The version of vecmig's schema that has these tables.
_SINCE: Final = 2


@dataclass(frozen=True, slots=True)
class Control:
    """What operators want of the runs of one collection."""

    collection: str
    paused: bool = False
    reason: str | None = None
    #: Requests in flight; None for what the recipe says.
    concurrency: int | None = None
    #: Most records a second; None for no limit.
    max_rate: float | None = None
    #: Since when and by whom it is paused; None where it is not.
    paused_at: datetime | None = None
    paused_by: str | None = None

    @property
    def paused_because(self) -> str | None:
        """Who keeps the runs back, why, and how they go on; None where none does."""
        if not self.paused:
            return None
        why = f": {self.reason}" if self.reason else ""
        return f"paused by {self.paused_by}{why}; to go on, run: vecmig resume"

    @property
    def says_nothing(self) -> bool:
        """Whether nothing is set."""
        return not self.paused and self.concurrency is None and self.max_rate is None


@dataclass(frozen=True, slots=True)
class Run:
    """One process at work on one tag."""

    collection: str
    tag: str
    #: backfill, sync, or another step of a revision: expand, index, gate, cutover, rollback, ….
    what: str
    state: State = "running"
    #: Why it is not running, in words.
    reason: str | None = None
    done: int = 0
    total: int = 0
    rejected: int = 0
    #: Records per second.
    rate: float = 0.0
    #: Requests that may be in flight now.
    concurrency: int = 0
    id: UUID = field(default_factory=uuid4)
    host: str = field(default_factory=platform.node)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime | None = None
    seen_at: datetime | None = None
    #: When it may be done; None where that is not known.
    ends_at: datetime | None = None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Run:
        """Read a row of ``runs``."""
        identity, collection, tag, what, host, pid, *standing, started_at, seen_at, ends_at = row
        times = {"started_at": started_at, "seen_at": seen_at, "ends_at": ends_at}
        own = {"id": identity, "host": host, "pid": pid} | times
        return cls(collection, tag, what, *standing, **own)


_CONTROL: Final = [CONTROL.c[name] for name in Control.__slots__]
_NAMED: Final = ("id", "collection", "tag", "what", "host", "pid", "state", "reason")
_STANDING: Final = ("done", "total", "rejected", "rate", "concurrency")
#: Before version 13 no run told when it may be done.
_ENDS_AT: Final = cast(later(RUN.c.ends_at).astext, DateTime(timezone=True))
_RUN: Final = [*(RUN.c[name] for name in (*_NAMED, *_STANDING, "started_at", "seen_at")), _ENDS_AT]


def read_control(connection: Connection, schema: str, collection: str) -> Control:
    """Return what operators want of a collection's runs; the defaults where nothing was said."""
    if installed_version(connection, schema) < _SINCE:
        return Control(collection)
    row = execute(connection, schema, select(*_CONTROL).where(CONTROL.c.collection == collection)).first()
    return Control(*row) if row else Control(collection)


def pause(connection: Connection, schema: str, collection: str, reason: str | None) -> None:
    """Let the runs of a collection wait, those that begin later too."""
    entry = insert(CONTROL).values(
        collection=collection, paused=True, reason=reason, paused_at=func.now(), paused_by=who()
    )
    first = {
        name: case((CONTROL.c.paused, CONTROL.c[name]), else_=entry.excluded[name])
        for name in ("paused_at", "paused_by")
    }
    said = {"paused": True, "reason": func.coalesce(entry.excluded.reason, CONTROL.c.reason)}
    execute(connection, schema, entry.on_conflict_do_update(index_elements=[CONTROL.c.collection], set_=said | first))


def resume(connection: Connection, schema: str, collection: str) -> bool:
    """Let them go on; return whether they were paused."""
    paused = update(CONTROL).where(CONTROL.c.collection == collection, CONTROL.c.paused)
    going_on = paused.values(paused=False, reason=None, paused_at=None, paused_by=None)
    return bool(execute(connection, schema, going_on).rowcount)


def tune(connection: Connection, schema: str, collection: str, settings: Mapping[str, float | None]) -> None:
    """Set ``concurrency`` or ``max_rate``, whichever is given; None takes a setting back."""
    said = {name: settings[name] for name in ("concurrency", "max_rate") if name in settings}
    if not said:
        return
    entry = insert(CONTROL).values(collection=collection, **said)
    tuned = entry.on_conflict_do_update(index_elements=[CONTROL.c.collection], set_=said)
    execute(connection, schema, tuned)


def runs(connection: Connection, schema: str) -> list[Run]:
    """Return the runs that showed a sign of life within LOST_AFTER seconds."""
    if installed_version(connection, schema) < _SINCE:
        return []
    alive = RUN.c.seen_at > func.clock_timestamp() - timedelta(seconds=LOST_AFTER)
    query = select(*_RUN).where(alive).order_by(RUN.c.collection, RUN.c.tag, RUN.c.started_at)
    return [Run.from_row(row) for row in execute(connection, schema, query)]


def report(connection: Connection, schema: str, run: Run) -> None:
    """Write down how a run stands; this is its sign of life."""
    entry = insert(RUN).values({name: getattr(run, name) for name in (*_NAMED, *_STANDING, "ends_at")})
    standing = {name: entry.excluded[name] for name in ("state", "reason", *_STANDING, "ends_at")}
    seen = standing | {"seen_at": func.clock_timestamp()}
    execute(connection, schema, entry.on_conflict_do_update(index_elements=[RUN.c.id], set_=seen))


def end_run(connection: Connection, schema: str, run: UUID) -> None:
    """Take a run off the list; those of processes that were killed go along, a day after their last sign of life."""
    lost = RUN.c.seen_at < func.clock_timestamp() - timedelta(days=1)
    execute(connection, schema, delete(RUN).where(or_(RUN.c.id == run, lost)))
