"""What providers take in one request, kept from run to run so that not each one has to find out by refusals."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from vecmig.ledger.schema import FILES, installed_version
from vecmig.ledger.tables import LEARNED_LIMIT, execute
from vecmig.postgres.sessions import Connection

_SINCE: Final = FILES.index("011_learned_limits") + 1
#: After that a run asks for as much as the recipe allows again: servers are given larger limits, too.
LASTS: Final = timedelta(days=7)


def remembered_limits(connection: Connection, schema: str, provider: str, model: str) -> tuple[int | None, int | None]:
    """Return the most texts, and the most tokens, in one request; None where nothing was learned lately."""
    if installed_version(connection, schema) < _SINCE:
        return None, None
    lately = LEARNED_LIMIT.c.learned_at > func.clock_timestamp() - LASTS
    query = select(LEARNED_LIMIT.c.texts, LEARNED_LIMIT.c.tokens).where(
        LEARNED_LIMIT.c.provider == provider, LEARNED_LIMIT.c.model == model, lately
    )
    row = execute(connection, schema, query).first()
    return (row[0], row[1]) if row else (None, None)


def remember_limits(
    connection: Connection, schema: str, provider: str, model: str, *, texts: int | None, tokens: int | None
) -> None:
    """Keep what was learned, in place of what was known before."""
    entry = insert(LEARNED_LIMIT).values(provider=provider, model=model, texts=texts, tokens=tokens)
    learned = {name: entry.excluded[name] for name in ("texts", "tokens", "learned_at")}
    key = [LEARNED_LIMIT.c.provider, LEARNED_LIMIT.c.model]
    execute(connection, schema, entry.on_conflict_do_update(index_elements=key, set_=learned))
