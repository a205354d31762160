"""What operators tell a running backfill through the database (pause, resume, tune), and what runs tell them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from psycopg import sql

from vecmig.ledger.schema import installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

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
    what: What
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

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Run:
        """Read a row of ``runs``."""
        identity, collection, tag, what, host, pid, *standing, started_at, seen_at = row
        own = {"id": identity, "host": host, "pid": pid, "started_at": started_at, "seen_at": seen_at}
        return cls(collection, tag, what, *standing, **own)


def read_control(connection: Connection, schema: str, collection: str) -> Control:
    """Give what operators want of a collection's runs; the defaults where nothing was said."""
    if installed_version(connection, schema) < _SINCE:
        return Control(collection)
    row = _execute(connection, schema, "control", collection=collection).fetchone()
    return Control(*row) if row else Control(collection)


def pause(connection: Connection, schema: str, collection: str, reason: str | None) -> None:
    """Let the runs of a collection wait, those that begin later too."""
    _execute(connection, schema, "pause", collection=collection, reason=reason, host=platform.node())


def resume(connection: Connection, schema: str, collection: str) -> bool:
    """Let them go on; give whether they were paused."""
    return bool(_execute(connection, schema, "resume", collection=collection).rowcount)


def tune(connection: Connection, schema: str, collection: str, settings: dict[str, float | None]) -> None:
    """Set ``concurrency`` or ``max_rate``, whichever is given; None takes a setting back."""
    _execute(
        connection,
        schema,
        "tune",
        collection=collection,
        concurrency=settings.get("concurrency"),
        max_rate=settings.get("max_rate"),
        set_concurrency="concurrency" in settings,
        set_max_rate="max_rate" in settings,
    )


def runs(connection: Connection, schema: str) -> list[Run]:
    """Give the runs that showed a sign of life within LOST_AFTER seconds."""
    if installed_version(connection, schema) < _SINCE:
        return []
    return [Run.from_row(row) for row in _execute(connection, schema, "runs", lost_after=LOST_AFTER)]


def report(connection: Connection, schema: str, run: Run) -> None:
    """Write down how a run stands; this is its sign of life."""
    names = ("id", "collection", "tag", "what", "host", "pid", "state", "reason", "done", "total", "rejected", "rate")
    values = {name: getattr(run, name) for name in (*names, "concurrency")}
    _execute(connection, schema, "report", **values)


def end_run(connection: Connection, schema: str, run: UUID) -> None:
    """Take a run off the list."""
    _execute(connection, schema, "end_run", id=run)


def _execute(connection: Connection, schema: str, name: str, **values: Any) -> Any:
    return connection.execute(statement("ledger/control", name, schema=sql.Identifier(schema)), values)
