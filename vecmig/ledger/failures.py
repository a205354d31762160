"""The last run of a collection, where it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, true

from vecmig.ledger.control import LOST_AFTER
from vecmig.ledger.part import Tables
from vecmig.ledger.tables import COLLECTION, EVENT, RUN, execute
from vecmig.postgres.sessions import Connection

FAILED: Final = "failed"
SUCCEEDED: Final = "succeeded"
#: What a run enters when it, or one of its steps, came to its end.
_ENDS: Final = (
    FAILED,
    SUCCEEDED,
    "abandon",
    "apply",
    "backfill",
    "cutover",
    "downgrade",
    "index",
    "retired",
    "rollback",
    "stamp",
    "sync",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last run of a collection failed."""

    at: datetime
    host: str
    #: upgrade, downgrade, backfill, sync, …; of a run that was killed, the step that it was at.
    what: str
    error: str
    #: None where it was killed.
    exit_code: int | None
    #: What was to be done then; empty where the error did not say.
    hint: str = ""

    @property
    def words(self) -> str:
        """When, where, and why."""
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return f"{self.what} failed {self.at:%Y-%m-%d %H:%M} UTC on {self.host}: {self.error}{code}"


def last_failures(connection: Connection, schema: str) -> dict[str, Failure]:
    """Return the failure of each collection whose last run failed, or was killed less than a day ago, by its name."""
    if not Tables(connection, schema).installed:
        return {}
    ends = select(EVENT.c.at, EVENT.c.kind, EVENT.c.host, EVENT.c.data)
    ends = ends.where(EVENT.c.collection == COLLECTION.c.name, EVENT.c.kind.in_(_ENDS))
    end = ends.order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).limit(1).lateral()
    lost = select(RUN.c.seen_at, RUN.c.host, RUN.c.what, RUN.c.pid).where(RUN.c.collection == COLLECTION.c.name)
    silent = RUN.c.seen_at < func.clock_timestamp() - timedelta(seconds=LOST_AFTER)
    killed = lost.where(silent).order_by(RUN.c.seen_at.desc()).limit(1).lateral()
    query = select(COLLECTION.c.name, *end.c, *killed.c)
    rows = execute(connection, schema, query.outerjoin_from(COLLECTION, end, true()).outerjoin(killed, true()))
    found = {name: _failure(*row) for name, *row in rows}
    return {name: failure for name, failure in found.items() if failure is not None}


def _failure(  # noqa: PLR0917  # a row
    at: datetime | None,
    kind: str | None,
    host: str | None,
    data: Mapping[str, Any] | None,
    seen_at: datetime | None,
    killed_host: str | None,
    what: str | None,
    pid: int | None,
) -> Failure | None:
    if seen_at is not None and (at is None or seen_at > at):
        error = f"its process {pid} was killed, or lost the database"
        return Failure(seen_at, killed_host or "", what or "", error, None)
    if at is None or kind != FAILED or data is None:
        return None
    return Failure(at, host or "", data["what"], data["error"], data["exit_code"], data.get("hint", ""))
