"""Who stands in the way of a session that waits for a lock, and how each of them is ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.text import noun

_END_SESSION: Final = "Let that transaction end, or end it with: SELECT pg_terminate_backend(pid)"


@dataclass(frozen=True, slots=True)
class Blockers:
    """Who is in the way, in words; whether a session is among them, and the prepared transactions, as literals."""

    words: str = ""
    sessions: bool = False
    prepared: tuple[str, ...] = ()
    #: Who they are, without since when: the same for as long as nobody else is in the way.
    ids: str = ""
    #: Each transaction: its session and when it began, or its identifier.
    transactions: frozenset[tuple[Any, ...]] = frozenset()

    @property
    def hint(self) -> str:
        """How to end what is in the way. A prepared transaction has no session, and outlives the server."""
        if not self.prepared:
            return f"{_END_SESSION}; then run this again."
        ends = " ".join(f"ROLLBACK PREPARED {gid};" for gid in self.prepared)
        whose = f"{_END_SESSION}. " if self.sessions else ""
        return (
            f"{whose}A prepared transaction waits for whoever prepared it. If it is forgotten, end it in this database "
            f"with: {ends} (or COMMIT PREPARED); then run this again."
        )


def blocking(connection: Connection, pid: int) -> Blockers:
    """Find who keeps a session waiting right now, and how each is ended."""
    rows = connection.execute(statement("postgres/locks", "blockers"), {"pid": pid}).fetchall()
    gids = [gid for row in rows for gid in row[5]]
    prepared = f"the prepared {noun(len(gids), 'transaction')} {', '.join(gids) or '(see pg_prepared_xacts)'}"
    words = [_session(*row[:5]) if row[0] else prepared for row in rows]
    ids = ", ".join([*(str(row[0]) for row in rows if row[0]), *gids])
    transactions = frozenset([*((row[0], row[6]) for row in rows if row[0]), *((gid,) for gid in gids)])
    return Blockers("; ".join(words), any(row[0] for row in rows), tuple(gids), ids, transactions)


def _session(pid: int, user: str | None, application: str | None, state: str | None, age: str | None) -> str:
    words = known(user, application, state, age and f"transaction open for {age}")
    return f"pid {pid} ({', '.join(words)})" if words else f"pid {pid}"


def known(*words: str | None) -> list[str]:
    """Leave out what PostgreSQL does not tell this role of another's session."""
    return [word for word in words if word]
