"""One session: psycopg's connection, with what vecmig knows of it, and SQLAlchemy's face of it."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import psycopg
import sqlalchemy
from psycopg import sql
from psycopg.abc import PQGen

from vecmig.postgres.core import core_of
from vecmig.postgres.lock_watch import Watched
from vecmig.postgres.named_sql import with_plain_percent

_T = TypeVar("_T")


class Session(Watched):
    """Says to its end what it broke of: the driver says so once, and from then on that the connection is closed."""

    #: The schemas in which it has seen vecmig's own tables as this program makes them; None where it may outlive them.
    current_schemas: set[str] | None = None
    #: Whether what it is given to write is written down, and nothing made.
    recording: bool = False
    _end: psycopg.OperationalError | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = Cursor

    @property
    def core(self) -> sqlalchemy.Connection:
        """SQLAlchemy's face of this session: what it runs is in the transaction that the session has open."""
        return core_of(self)

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        try:
            return super().wait(gen, *args, **options)
        except psycopg.OperationalError as error:
            if self._end is None:
                self._end = error if self.closed else None
                raise
            raise self._ended(self._end) from None

    def _check_connection_ok(self) -> None:
        if self._end is not None:
            raise self._ended(self._end)
        super()._check_connection_ok()

    @staticmethod
    def _ended(end: psycopg.OperationalError) -> psycopg.OperationalError:
        return type(end)(*end.args)


class Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """Reads ``%`` in names, values and a user's SQL as what it is, also where a statement has parameters."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        if params is not None and isinstance(query, sql.Composable):
            query = with_plain_percent(query, self)
        return super().execute(query, params, **options)
