"""The one place where a database URL becomes a connection, and a driver's error becomes a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vecmig.config import redact
from vecmig.errors import ConfigError, DatabaseError, DatabaseUnreachable, UsageError
from vecmig.store.embedded import start_embedded
from vecmig.store.statements import with_plain_percent

Connection = psycopg.Connection[tuple[Any, ...]]

_EMBEDDED: Final = "embedded:"
_OLDEST_SERVER: Final = 150_000
#: How values become text is pinned, because keys travel as text and hashes are taken of it.
_SESSION: Final = (
    "SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; "
    "SET bytea_output = 'hex'; SET client_min_messages = warning"
)
#: A query fails where a policy would hide rows from vecmig: a hidden row would otherwise count as covered.
#: A role's limits are meant for its application: a runner's lock is idle for hours, and an index build may take them.
_SEE_ALL: Final = "SET row_security = off; SET statement_timeout = 0; SET idle_session_timeout = 0"
#: A URL with a second @ before its path, or with one in its path.
_MISREAD: Final = re.compile(r"[^:]*://(?:[^/?]*@[^/?]*@|[^@/?]*:[^@/?]*/[^?]*@)")
_RESUME: Final = "Nothing that was committed is lost. When the database is back, run the same command again."


class _Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """Reads ``%`` in names, values and a user's SQL as what it is, also where a statement has parameters."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        if params is not None and isinstance(query, sql.Composable):
            query = with_plain_percent(query, self)
        return super().execute(query, params, **options)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that vecmig works on: where it is, and the schema that holds vecmig's own tables."""

    url: str = field(repr=False)
    schema: str = "vecmig"
    application_name: str = "vecmig"
    #: Whether row-level security may not hide rows from this connection: a query that it would filter fails instead.
    sees_all: bool = True

    @property
    def safe_url(self) -> str:
        """The URL as it may be shown: without its password."""
        return self.url if self.url.startswith(_EMBEDDED) else redact(self.url)

    def connect(self, *, autocommit: bool = True) -> Connection:
        """Open a connection of its own.

        Raises:
            DatabaseUnreachable: there is no answer, or the server refuses this user.
            ConfigError: the URL cannot be read.
            DatabaseError: the server is too old, or refuses vecmig's settings.
        """
        conninfo = _conninfo(self.url)
        try:
            connection = psycopg.connect(
                conninfo,
                autocommit=True,
                application_name=self.application_name,
                prepare_threshold=None,
                cursor_factory=_Cursor,
            )
        except psycopg.OperationalError as error:
            raise _unreachable(error, self.safe_url) from None
        try:
            self._prepare(connection)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        if connection.info.server_version < _OLDEST_SERVER:
            version = connection.info.server_version // 10_000
            raise DatabaseError(f"PostgreSQL {version} is too old.", hint="vecmig needs PostgreSQL 15 or newer.")
        with translated(self.safe_url):
            connection.execute(_SESSION)
            if self.sees_all:
                connection.execute(_SEE_ALL)

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Give an autocommit connection; inside, errors of the driver leave as errors of vecmig."""
        connection = self.connect()
        try:
            with translated(self.safe_url):
                yield connection
        finally:
            with suppress(psycopg.Error):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection inside one transaction, committed when the block ends without an error."""
        with self.session() as connection, connection.transaction():
            yield connection


def _plain(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql://{rest}" if separator and scheme.startswith(("postgresql+", "postgres+")) else url


def _conninfo(url: str) -> str:
    if url.startswith(_EMBEDDED):
        url = start_embedded(Path(url.removeprefix(_EMBEDDED)))
    if _MISREAD.match(url):
        # the driver would take a part of the password for the host, and name it in its error
        raise ConfigError(
            f"database_url cannot be read: {redact(url)}",
            hint="In a URL, write / in a user or password as %2F, @ as %40 and : as %3A",
        )
    try:
        known = conninfo_to_dict(_plain(url))
    except psycopg.Error:
        raise ConfigError(
            f"database_url is not a PostgreSQL URL: {redact(url)}",
            hint="Write postgresql://user:password@host/database, or embedded:.vecmig/pgdata",
        ) from None
    known.setdefault("connect_timeout", "10")
    return make_conninfo("", **known)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of the driver into errors of vecmig. They are told apart by SQLSTATE, never by their text."""
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error, where) from error
    except UnicodeEncodeError as error:
        raise UsageError(f"A text cannot be sent to the database: {error.reason}.") from error


def _translate(error: psycopg.Error, where: str) -> Exception:
    message = error.diag.message_primary or str(error).strip() or type(error).__name__
    if isinstance(error, pg.InsufficientPrivilege):
        return DatabaseError(
            f"The database refuses: {message}.",
            hint="Connect as the owner of the source table, or have its owner grant what is missing; "
            "if row-level security is the reason, the role needs BYPASSRLS: a hidden record would count as covered.",
        )
    if isinstance(error, pg.DiskFull):
        return DatabaseError(
            f"The database's disk is full: {message}.",
            state="What was committed stays; the statement that failed left nothing behind.",
            hint="Free some space, then run the same command again: it goes on where it stopped.",
        )
    lost = isinstance(
        error, pg.AdminShutdown | pg.CrashShutdown | pg.CannotConnectNow | pg.IdleInTransactionSessionTimeout
    )
    if lost or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
        return _unreachable(error, where)
    return DatabaseError(f"The database refuses: {message} (SQLSTATE {error.sqlstate}).")


def _unreachable(error: psycopg.Error, where: str) -> DatabaseUnreachable:
    reason = (error.diag.message_primary or str(error)).strip().splitlines()
    return DatabaseUnreachable(
        f"The database at {where} cannot be reached: {reason[0] if reason else type(error).__name__}",
        state=_RESUME,
        hint="Check database_url (vecmig.ini or VECMIG_DATABASE_URL) and that the server accepts connections.",
    )
