"""Keep what a team granted on the live view and the search function, while these are made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.store.catalog import Source
from vecmig.store.connect import Connection
from vecmig.store.layout import exists
from vecmig.store.statements import statement


@contextmanager
def regranted(connection: Connection, source: Source) -> Iterator[None]:
    """Drop and create both inside, in one transaction: who had rights on them has these afterwards."""
    view, search = source.live, _signature(source)
    grants = [(sql.SQL("TABLE {}").format(view), row) for row in _grants(connection, "view", view)]
    grants += [(sql.SQL("FUNCTION {}").format(search), row) for row in _grants(connection, "search", search)]
    yield
    for target, (privilege, role, grantable) in grants:
        if privilege == "EXECUTE" or exists(connection, view):
            # a privilege is one of PostgreSQL's own words
            connection.execute(
                sql.SQL("GRANT {} ON {} TO {}{}").format(
                    sql.SQL(privilege),
                    target,
                    sql.SQL("PUBLIC") if role is None else sql.Identifier(role),
                    sql.SQL(" WITH GRANT OPTION" if grantable else ""),
                )
            )


def replaced_in_place(connection: Connection, publish: Callable[[], None]) -> bool:
    """Replace view and function where their columns allow it, so that what the team built on them stays.

    Returns:
        Whether it was done; if not, they have to be dropped first.
    """
    try:
        with connection.transaction():
            publish()
    except (DatabaseError, pg.InvalidTableDefinition, pg.InvalidFunctionDefinition):
        return False
    return True


def _grants(connection: Connection, kind: str, target: sql.Composable) -> list[tuple[Any, ...]]:
    values = {"name": target.as_string(connection)}
    return connection.execute(statement("regranting", kind), values).fetchall()


def _signature(source: Source) -> sql.Composed:
    return sql.SQL("{}({}, int, text)").format(source.search, source.pgvector.type("vector"))
