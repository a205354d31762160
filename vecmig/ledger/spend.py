"""What embedding has cost, by revision, and the budget that no request may pass."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from psycopg import sql

from vecmig.ledger.control import What
from vecmig.ledger.schema import installed_version
from vecmig.postgres.named_sql import statement
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
    """Give what every revision has cost so far."""
    if installed_version(connection, schema) < _SINCE:
        return []
    rows = connection.execute(statement("ledger/control", "spend", schema=sql.Identifier(schema)))
    return [Spend(revision, what, tokens, float(usd)) for revision, what, tokens, usd in rows]


def reserve(
    connection: Connection, schema: str, revision: str, what: What, *, tokens: int, usd: float, budget: float | None
) -> float | None:
    """Add a request's estimate before it is sent; give the total, or None where it would pass the budget."""
    values = {
        "revision": revision,
        "what": what,
        "tokens": tokens,
        "usd": Decimal(str(usd)),
        "budget": None if budget is None else Decimal(str(budget)),
    }
    row = connection.execute(statement("ledger/control", "reserve", schema=sql.Identifier(schema)), values).fetchone()
    return float(row[0]) if row else None


def correct(connection: Connection, schema: str, revision: str, what: What, *, tokens: int, usd: float) -> None:
    """Add the difference between what was reserved and what was taken; negative where that was less."""
    values = {"revision": revision, "what": what, "tokens": tokens, "usd": Decimal(str(usd))}
    connection.execute(statement("ledger/control", "correct", schema=sql.Identifier(schema)), values)
