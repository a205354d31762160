"""SQLAlchemy's face of a session: Core statements on its connection, in the transaction that it has open.

The session decides what is committed (``connection.transaction()``), SQLAlchemy never. What the driver raises stays as
it is, so that an error is told apart in one way, whichever face the statement came through.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import BindTyping, ExceptionContext
from sqlalchemy.pool import PoolProxiedConnection


class _Dialect(PGDialect_psycopg):
    """PostgreSQL through psycopg: without casts, which it needs none of."""

    supports_statement_cache = True
    bind_typing = BindTyping.NONE

    def is_disconnect(self, *_: Any) -> bool:
        """Leave it to the session to say what it broke of."""
        return False


class _Lent(PoolProxiedConnection):
    """A session, or what stands in for one, as SQLAlchemy takes it out of a pool; nothing that it does ends it."""

    is_valid = True

    def __init__(self, session: Any) -> None:
        self.dbapi_connection = self.driver_connection = session

    def cursor(self, *args: Any, **options: Any) -> Any:
        return self.dbapi_connection.cursor(*args, **options)  # type: ignore[union-attr]  # it is one

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        pass

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        pass


def _nowhere() -> NoReturn:
    raise AssertionError("sessions are opened elsewhere")


DIALECT: Final = _Dialect(dbapi=psycopg)  # type: ignore[no-untyped-call]  # SQLAlchemy's own
#: It connects to nothing, and remembers how statements are compiled.
_ENGINE: Final = sa.Engine(sa.NullPool(_nowhere), DIALECT, sa.make_url("postgresql+psycopg://"))


@event.listens_for(DIALECT, "handle_error")
def _as_the_driver_said(context: ExceptionContext) -> BaseException:
    return context.original_exception


def core_of(session: Any) -> sa.Connection:
    """Return SQLAlchemy's connection over a session, or over what stands in for one; it is made anew each time."""
    return sa.Connection(_ENGINE, _Lent(session))
