"""Let a live view step aside for a migration of its source, and come back as it was, with its grants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.ledger.rows import Actor
from vecmig.ledger.schema import FILES, installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

_SINCE: Final = FILES.index("008_views") + 1
#: Raised by vecmig's own functions: something of the team's hangs on the view.
_IN_THE_WAY: Final = "VM021"


@dataclass(frozen=True, slots=True)
class Detached:
    """A live view that stepped aside: since when, and by whose doing."""

    collection: str
    at: datetime
    by: str

    @property
    def text(self) -> str:
        """Say so, and how it comes back."""
        return f"view detached since {self.at:%Y-%m-%d %H:%M:%S} UTC by {self.by}: vecmig view attach {self.collection}"


@dataclass(frozen=True, slots=True)
class Aside:
    """What is kept of a view that stepped aside."""

    #: Whether there was one.
    had_view: bool
    #: Statements that give it back its grants, comment and owner.
    belongings: list[str]


def all_detached(connection: Connection, schema: str) -> dict[str, Detached]:
    """Return what stepped aside, by collection; nothing where the ledger is older than that."""
    if installed_version(connection, schema) < _SINCE:
        return {}
    rows = connection.execute(statement("published/detaching", "detached", schema=sql.Identifier(schema)))
    return {row[0]: Detached(*row) for row in rows}


def is_detached(connection: Connection, schema: str, collection: str) -> bool:
    """Return whether the live view of a collection stepped aside."""
    return collection in all_detached(connection, schema)


def detach(connection: Connection, schema: str, collection: str, actor: Actor) -> bool:
    """Let the live view step aside and its triggers bind no column; return whether that was still to do.

    Raises:
        DatabaseError: something of the team's hangs on the view.
    """
    values = {"collection": collection, "host": actor.host, "git_commit": actor.git_commit, "version": actor.version}
    with _named():
        row = connection.execute(
            statement("published/detaching", "detach", schema=sql.Identifier(schema)), values
        ).fetchone()
    return bool(row and row[0])


def forget(connection: Connection, schema: str, collection: str) -> Aside | None:
    """Forget that a view stepped aside, and return what it had; None where none did."""
    if not is_detached(connection, schema, collection):
        return None
    query = statement("published/detaching", "forget", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": collection}).fetchone()
    return None if row is None else Aside(*row)


def give_back(connection: Connection, schema: str, lines: list[str]) -> None:
    """Run what gives a view back its grants, comment and owner."""
    if lines:
        query = statement("published/detaching", "give_back", schema=sql.Identifier(schema))
        connection.execute(query, {"lines": lines})


@contextmanager
def replaced(connection: Connection, schema: str, view: sql.Identifier) -> Iterator[None]:
    """Drop a view, and give the one that is made instead what belonged to the old one.

    Raises:
        DatabaseError: something of the team's hangs on the view.
    """
    parts = {"schema": sql.Identifier(schema), "view": sql.Literal(view.as_string(connection))}
    row = connection.execute(statement("published/detaching", "belongings", **parts)).fetchone()
    with _named():
        connection.execute(statement("published/detaching", "drop_view", **parts))
    yield
    give_back(connection, schema, list(row[0] or ()) if row else [])


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate != _IN_THE_WAY:
            raise
        message = (error.diag.message_primary or "").replace("\n", "; ")
        raise DatabaseError(f"{message}.", state="Nothing was changed.", hint=error.diag.message_hint or "") from None
