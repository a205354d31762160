"""Run a team's own statement, as text or as an SQLAlchemy construct."""

from __future__ import annotations

import hashlib
from typing import Any

from vecmig.postgres.sessions import Connection, by_the_roles_path


def as_text(statement: Any) -> str:
    """Give a statement as SQL text; SQLAlchemy constructs are compiled with their values written in."""
    if isinstance(statement, str):
        return statement
    from sqlalchemy.dialects import postgresql

    # the named style, unlike the driver's own, leaves % alone
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def digest(text: str) -> str:
    """Give the SHA-256 by which the ledger knows a statement."""
    return hashlib.sha256(text.encode()).hexdigest()


def run(connection: Connection, text: str) -> None:
    """Run a statement without parameters, so that ``%`` means what it says, and by the role's own search_path."""
    with by_the_roles_path(connection):
        connection.execute(text)
