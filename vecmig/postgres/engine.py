"""A team's own SQLAlchemy engine as the way to its database: with its creator, its events and its tokens."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import exc, make_url

from vecmig.errors import UsageError
from vecmig.postgres.core import DIALECT
from vecmig.postgres.loaders import load_alike

_C = TypeVar("_C", bound=psycopg.Connection[Any] | psycopg.AsyncConnection[Any])


def require_psycopg(engine: sqlalchemy.Engine) -> None:
    """Refuse an engine by which vecmig cannot work.

    Raises:
        UsageError: it is of another driver than psycopg, or for asyncio.
    """
    if not isinstance(engine, sqlalchemy.Engine):
        raise UsageError(
            f"{type(engine).__name__} is no engine that vecmig can use.",
            hint="Give it one that sqlalchemy.create_engine made; an AsyncReader takes the same.",
        )
    if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
        raise UsageError(
            f"The engine speaks to its database by {engine.dialect.name}+{engine.dialect.driver}.",
            hint="Create it with: postgresql+psycopg://",
        )


def open_by(engine: sqlalchemy.Engine) -> psycopg.Connection[Any]:
    """Open a connection as an engine opens one, for the caller alone: it never goes back to the engine's pool.

    Raises:
        psycopg.OperationalError: there is no answer, or the server refuses.
    """
    try:
        proxied = engine.pool.recreate().connect()
    except exc.DBAPIError as error:
        raise error.orig or error from None
    connection: psycopg.Connection[Any] = proxied.driver_connection  # type: ignore[assignment]  # it is psycopg's
    proxied.detach()
    # an event may have begun a transaction
    connection.rollback()
    return connection


def taken_over(given: psycopg.Connection[Any], kind: type[_C]) -> _C:
    """Return a connection as one of another class, over the same socket; ``given`` is not to be used any more."""
    connection = kind(given.pgconn)
    # who is forgotten while its socket is open warns of that
    connection.__dict__["taken_from"] = given
    load_alike(connection.adapters)
    connection.prepare_threshold = None
    return connection


def parameters_of(url: str) -> dict[str, Any]:
    """Return the connection parameters of a URL as libpq reads it, or as SQLAlchemy does where it names a driver.

    Raises:
        psycopg.ProgrammingError: it is none, or has parameters that libpq does not know.
        sqlalchemy.exc.ArgumentError: it is none.
    """
    scheme, separator, _ = url.partition("://")
    if separator and "+" in scheme:
        _, parameters = DIALECT.create_connect_args(make_url(url))  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        parameters.pop("context", None)
        return dict(parameters)
    return conninfo_to_dict(url)
