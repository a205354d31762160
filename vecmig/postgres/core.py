"""SQLAlchemy's face of a session: Core statements on its connection, in the transaction that it has open.

The session decides what is committed (``connection.transaction()``), SQLAlchemy never. What the driver raises stays as
it is, so that an error is told apart in one way, whichever face the statement came through.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import BindTyping, ExceptionContext

_URL: Final = sa.make_url("postgresql+psycopg://")


class _Dialect(PGDialect_psycopg):
    """PostgreSQL through psycopg, without casts, which psycopg's own typing needs none of, and without transactions."""

    supports_statement_cache = True
    bind_typing = BindTyping.NONE

    def do_begin(self, dbapi_connection: Any) -> None:
        pass

    def do_commit(self, dbapi_connection: Any) -> None:
        pass

    def do_rollback(self, dbapi_connection: Any) -> None:
        pass

    def is_disconnect(self, *_: Any) -> bool:
        """Leave it to the session to say what it broke of."""
        return False


DIALECT: Final = _Dialect(dbapi=psycopg)  # type: ignore[no-untyped-call]  # SQLAlchemy's own


@event.listens_for(DIALECT, "handle_error")
def _as_the_driver_said(context: ExceptionContext) -> BaseException:
    return context.original_exception


def core_of(connection: Any) -> sa.Connection:
    """Return SQLAlchemy's connection over one of psycopg, or over what stands in for one."""
    return sa.Engine(sa.StaticPool(lambda: connection, dialect=DIALECT, reset_on_return=None), DIALECT, _URL).connect()
