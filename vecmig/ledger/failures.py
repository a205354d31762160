"""The last run of a collection, where it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, func, select

from vecmig.ledger.part import Tables
from vecmig.ledger.tables import EVENT, execute
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
    #: upgrade, downgrade, backfill, sync, ….
    what: str
    error: str
    exit_code: int
    #: What was to be done then; empty where the error did not say.
    hint: str = ""

    @property
    def words(self) -> str:
        """When, where, and why."""
        return (
            f"{self.what} failed {self.at:%Y-%m-%d %H:%M} UTC on {self.host}: {self.error} (exit code {self.exit_code})"
        )


def last_failures(connection: Connection, schema: str) -> dict[str, Failure]:
    """Return the failure of each collection whose last run failed, by its name."""
    if not Tables(connection, schema).installed:
        return {}
    last = (
        select(func.max(EVENT.c.id).label("id"))
        .where(EVENT.c.kind.in_(_ENDS), EVENT.c.collection.is_not(None))
        .group_by(EVENT.c.collection)
        .subquery()
    )
    failed = and_(EVENT.c.id == last.c.id, EVENT.c.kind == FAILED)
    query = select(EVENT.c.collection, EVENT.c.at, EVENT.c.host, EVENT.c.data).join(last, failed)
    return {name: _failure(at, host, data) for name, at, host, data in execute(connection, schema, query)}


def _failure(at: datetime, host: str | None, data: Mapping[str, Any]) -> Failure:
    return Failure(at, host or "", data["what"], data["error"], data["exit_code"], data.get("hint", ""))
