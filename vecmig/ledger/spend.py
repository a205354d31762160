"""What embedding has cost, by revision, and the budget that no request may pass."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.ledger.control import What
from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import SPEND, execute
from vecmig.postgres.sessions import Connection

#: The version of vecmig's schema that has the table.
_SINCE = 2


@dataclass(frozen=True, slots=True)
class Spend:
    """What one revision has cost so far, by backfill or by sync."""

    revision: str
    what: What
    tokens: int
    usd: float


def spent(connection: Connection, schema: str) -> list[Spend]:
    """Return what every revision has cost so far."""
    if installed_version(connection, schema) < _SINCE:
        return []
    rows = execute(connection, schema, select(SPEND).order_by(SPEND.c.revision, SPEND.c.what))
    return [Spend(revision, what, tokens, float(usd)) for revision, what, tokens, usd in rows]


def reserve(
    connection: Connection, schema: str, revision: str, what: What, *, tokens: int, usd: float, budget: float | None
) -> float | None:
    """Add a request's estimate before it is sent; return the total, or None where it would pass the budget.

    It is one statement, so that the processes of a fleet share one budget.
    """
    if budget is not None and not usd <= budget:
        return None
    entry = insert(SPEND).values(revision=revision, what=what, tokens=tokens, usd=Decimal(str(usd)))
    total = SPEND.c.usd + entry.excluded.usd
    reserved = entry.on_conflict_do_update(
        index_elements=[SPEND.c.revision, SPEND.c.what],
        set_={"tokens": SPEND.c.tokens + entry.excluded.tokens, "usd": total},
        where=None if budget is None else total <= Decimal(str(budget)),
    ).returning(SPEND.c.usd)
    row = execute(connection, schema, reserved).first()
    return float(row[0]) if row else None


def correct(connection: Connection, schema: str, revision: str, what: What, *, tokens: int, usd: float) -> None:
    """Add the difference between what was reserved and what was taken; negative where that was less."""
    sums = {"tokens": SPEND.c.tokens + tokens, "usd": SPEND.c.usd + Decimal(str(usd))}
    one = SPEND.c.revision == revision, SPEND.c.what == what
    execute(connection, schema, update(SPEND).where(*one).values(sums))
