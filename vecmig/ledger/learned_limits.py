"""What providers take in one request, kept from run to run so that not each one has to find out by refusals."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from psycopg import sql

from vecmig.ledger.schema import FILES, installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

_SINCE: Final = FILES.index("011_learned_limits") + 1
#: After that a run asks for as much as the recipe allows again: servers are given larger limits, too.
LASTS: Final = timedelta(days=7)


def remembered_limits(connection: Connection, schema: str, provider: str, model: str) -> tuple[int | None, int | None]:
    """Return the most texts, and the most tokens, in one request; None where nothing was learned lately."""
    if installed_version(connection, schema) < _SINCE:
        return None, None
    values = {"provider": provider, "model": model, "lasts": LASTS}
    query = statement("ledger/learned_limits", "remembered", schema=sql.Identifier(schema))
    row = connection.execute(query, values).fetchone()
    return (row[0], row[1]) if row else (None, None)


def remember_limits(
    connection: Connection, schema: str, provider: str, model: str, *, texts: int | None, tokens: int | None
) -> None:
    """Keep what was learned, in place of what was known before."""
    values = {"provider": provider, "model": model, "texts": texts, "tokens": tokens}
    connection.execute(statement("ledger/learned_limits", "remember", schema=sql.Identifier(schema)), values)
