"""A connection that reads for real and writes down what it would write: the SQL of ``--sql``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from psycopg import errors as pg
from psycopg import sql

from vecmig.postgres.core import core_of
from vecmig.postgres.named_sql import with_plain_percent
from vecmig.postgres.sessions import Connection


class _Recording:
    """Stands in for the cursor of a statement that did not run: it is as if it had matched its one row."""

    def __init__(self, rowcount: int = 1, *, returning: bool = False) -> None:
        self.rowcount = rowcount
        #: As a driver tells of the columns; SQLAlchemy reads rows only where there are some.
        self.description = [("returned", None, None, None, None, None, None)] if returning else None

    def fetchone(self) -> tuple[Any, ...] | None:
        return (0,) if self.rowcount else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(())

    def close(self) -> None:
        pass


class _RecordingCursor:
    """Is what SQLAlchemy takes for the driver's cursor."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._cursor: Any = _Recording()

    def execute(self, query: Any, params: Any = None) -> None:
        self._cursor = self._recorder.execute(query, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Recorder:
    """Wraps a connection; quacks like one as far as vecmig's own statements need it."""

    recording = True

    def __init__(self, connection: Connection, write: Callable[[str], None]) -> None:
        self._connection = connection
        self._write = write
        self._probing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def core(self) -> sqlalchemy.Connection:
        """SQLAlchemy's face of the recorder, as a session has one."""
        return core_of(self)

    def cursor(self) -> _RecordingCursor:
        """Return a cursor that records."""
        return _RecordingCursor(self)

    def execute(self, query: Any, params: Any = None) -> Any:
        """Run a statement that only reads; hand the text of any other one to ``write``."""
        text = self._text(query, params)
        if not self._probing and not _reads(text):
            self._write(terminated(text))
            return _Recording(returning=" RETURNING " in text)
        try:
            with self._connection.transaction():
                return self._connection.execute(query, params)
        except pg.UndefinedTable:
            # a table that an earlier statement of this very recording would have made
            return _Recording(rowcount=0, returning=True)

    def _text(self, query: Any, params: Any) -> str:
        if params is not None and isinstance(query, sql.Composable):
            query = with_plain_percent(query, self._connection)
        return psycopg.ClientCursor(self._connection).mogrify(query, params)

    @contextmanager
    def transaction(self, *, force_rollback: bool = False) -> Iterator[None]:
        """Open a transaction; in one that is rolled back anyway, everything runs for real."""
        with self._connection.transaction(force_rollback=force_rollback):
            around, self._probing = self._probing, self._probing or force_rollback
            try:
                yield
            finally:
                self._probing = around


def terminated(text: str) -> str:
    """End a statement with one semicolon, which no comment at its end may swallow."""
    bare = text.strip().rstrip("; \n\t")
    return f"{bare}\n;" if "--" in bare.rpartition("\n")[2] else f"{bare};"


def _reads(text: str) -> bool:
    return text.lstrip().upper().startswith("SELECT") and "pg_notify(" not in text
