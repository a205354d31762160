"""The last run of a collection, where it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, and_, func, not_, or_, select, true

from vecmig.ledger.control import LOST_AFTER
from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import COLLECTION, EVENT, RUN, execute
from vecmig.postgres.sessions import Connection

FAILED: Final = "failed"
SUCCEEDED: Final = "succeeded"
#: What a run that moves a collection enters when one of its steps came to its end.
_MOVED: Final = (
    "abandon",
    "apply",
    "backfill",
    "cutover",
    "downgrade",
    "index",
    "reindex",
    "retired",
    "rollback",
    "stamp",
)


def is_sync(what: str) -> bool:
    """Whether a run is a sync, be it once or as a service."""
    return what.startswith("sync")


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
    def of_sync(self) -> bool:
        """Whether it was a sync that failed."""
        return is_sync(self.what)

    @property
    def words(self) -> str:
        """When, where, and why."""
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return f"{self.what} failed {self.at:%Y-%m-%d %H:%M} UTC on {self.host}: {self.error}{code}"


def last_failures(connection: Connection, schema: str) -> dict[str, list[Failure]]:
    """Return how the last runs of each collection failed, by its name, the newest first.

    They are the last one that moved it, an upgrade or the like, and the last sync. One that was killed less than a day
    ago failed too.
    """
    # before version 2 no run told of itself
    if installed_version(connection, schema) < 2:
        return {}
    found: dict[str, list[Failure]] = {}
    for syncs in (False, True):
        for name, *row in execute(connection, schema, _last_runs(syncs=syncs, lost_after=LOST_AFTER)):
            if (failure := _failure(*row)) is not None:
                found.setdefault(name, []).append(failure)
    return {name: sorted(several, key=lambda one: one.at, reverse=True) for name, several in found.items()}


@cache
def _last_runs(*, syncs: bool, lost_after: float) -> Select[Any]:
    """Select the last end of a run, and the last sign of life of one that has none any more, of each collection."""
    told = EVENT.c.kind.in_((FAILED, SUCCEEDED)), EVENT.c.data["what"].astext.startswith("sync")
    ended = (
        or_(EVENT.c.kind == "sync", and_(*told))
        if syncs
        else or_(EVENT.c.kind.in_(_MOVED), and_(told[0], not_(told[1])))
    )
    ends = select(EVENT.c.at, EVENT.c.kind, EVENT.c.host, EVENT.c.data).where(EVENT.c.collection == COLLECTION.c.name)
    end = ends.where(ended).order_by(EVENT.c.at.desc(), EVENT.c.id.desc()).limit(1).lateral()
    runs = select(RUN.c.seen_at, RUN.c.host, RUN.c.what, RUN.c.pid).where(RUN.c.collection == COLLECTION.c.name)
    silent = RUN.c.seen_at < func.clock_timestamp() - timedelta(seconds=lost_after)
    of_kind = RUN.c.what.startswith("sync") if syncs else not_(RUN.c.what.startswith("sync"))
    killed = runs.where(silent, of_kind).order_by(RUN.c.seen_at.desc()).limit(1).lateral()
    query = select(COLLECTION.c.name, *end.c, *killed.c)
    return query.outerjoin_from(COLLECTION, end, true()).outerjoin(killed, true())


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
