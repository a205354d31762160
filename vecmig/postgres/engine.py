"""A team's own SQLAlchemy engine as the way to its database: with its creator, its events and its tokens."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import exc, make_url

from vecmig.errors import UsageError
from vecmig.postgres.core import DIALECT
from vecmig.postgres.loaders import load_alike

_C = TypeVar("_C", bound=psycopg.Connection[Any] | psycopg.AsyncConnection[Any])

#: One of the hosts that SQLAlchemy reads from a URL's query.
_HOST: Final = re.compile(r"(?:^|&)host=")


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
    if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg") or engine.dialect.is_async:
        spoken = f"{engine.dialect.name}+{engine.dialect.driver}{' for asyncio' if engine.dialect.is_async else ''}"
        raise UsageError(f"The engine speaks {spoken}.", hint="Create it with: create_engine('postgresql+psycopg://…')")
    if isinstance(engine.pool, sqlalchemy.StaticPool):
        raise UsageError(
            "The engine has one connection for all, which vecmig would take away from the application.",
            hint="Give vecmig an engine that opens a connection whenever it is asked for one.",
        )


def open_by(engine: sqlalchemy.Engine) -> psycopg.Connection[Any]:
    """Open a connection as an engine opens one, for the caller alone: it never goes back to the engine's pool.

    It speaks UTF-8, because models and their providers read and write every script.

    Raises:
        psycopg.OperationalError: there is no answer, the server refuses, or what the engine asks for a token does.
        UsageError: the connection is somebody else's.
    """
    try:
        proxied = engine.pool.recreate().connect()
    except psycopg.Error:
        raise
    except Exception as error:
        if isinstance(error, exc.DBAPIError) and isinstance(error.orig, psycopg.Error):
            raise error.orig from None
        # its text may quote a token
        raise psycopg.OperationalError(f"the engine's own code raised {type(error).__name__}") from error
    connection: psycopg.Connection[Any] = proxied.driver_connection  # type: ignore[assignment]  # it is psycopg's
    proxied.detach()
    if (pool := getattr(connection, "_pool", None)) is not None:
        pool.putconn(connection)
        raise UsageError(
            "The engine's creator hands out the connections of a pool, which vecmig would keep.",
            hint="Give vecmig an engine whose creator opens a connection.",
        )
    if connection.info.encoding != "utf-8":
        connection.execute("SET client_encoding TO 'UTF8'")
    # what an event has set in a transaction that it left open, such as a role, holds as it does for the application
    connection.commit()
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
    """Return the connection parameters of a URL as libpq reads it; where it names a driver, with several ``host=`` too.

    Raises:
        psycopg.ProgrammingError: it is none, or has parameters that libpq does not know.
        sqlalchemy.exc.ArgumentError, ValueError: it is none.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.startswith(("postgresql+", "postgres+")):
        return conninfo_to_dict(url)
    if len(_HOST.findall(rest.partition("?")[2])) > 1:
        _, parameters = DIALECT.create_connect_args(make_url(url))  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        return {name: value for name, value in parameters.items() if name not in ("context", "conninfo")}
    return conninfo_to_dict(f"postgresql://{rest}")
