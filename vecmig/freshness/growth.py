"""How a tag grew: when the vectors that it has now were made."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

#: Pages up to which all stamps are read; of more, so many are drawn, the same ones each time.
_PAGES: Final = 1_000
_POINTS: Final = 60


def growth(connection: Connection, stamps: Stamps) -> list[tuple[float, datetime]]:
    """Return which share of the records that have vectors now had them by when, from 0 to 1; empty where none has.

    A record that was embedded again counts from then on. Of a large tag some pages are drawn, so that looking costs the
    same whatever its size.
    """
    name = stamps.relation.as_string(connection)
    row = connection.execute(statement("freshness/growth", "pages"), {"name": name}).fetchone()
    pages = (row[0] or 0) if row else 0
    percent = sql.Literal(min(100.0, 100 * _PAGES / pages) if pages else 100.0)
    drawn = sql.SQL("TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(percent) if pages > _PAGES else sql.SQL("")
    shares = [n / _POINTS for n in range(_POINTS + 1)]
    row = connection.execute(
        stamps.statement("freshness/growth", "made_at", drawn=drawn), {"shares": shares}
    ).fetchone()
    made_at = row[0] if row else None
    return list(zip(shares, made_at, strict=True)) if made_at else []


def waiting(connection: Connection, collection: str, schema: str) -> tuple[int, ...]:
    """Count the changes that are noted, by how long ago: under 10 s, 1 min, 10 min, 1 h, 1 day, and longer."""
    query = statement("freshness/growth", "waiting", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": collection}).fetchone()
    assert row is not None, "it counts"
    return tuple(row)
