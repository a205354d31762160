"""The one place where a database URL becomes a connection, and a driver's error becomes a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import ArgumentError

from vecmig.config import LOCK_TIMEOUT, redact
from vecmig.errors import Blocked, ConfigError, DatabaseError, DatabaseUnreachable, OutOfRoom, UsageError
from vecmig.postgres.called import path_hint
from vecmig.postgres.embedded import start_embedded
from vecmig.postgres.engine import open_by, parameters_of, require_psycopg, taken_over
from vecmig.postgres.kept import KeptSessions
from vecmig.postgres.loaders import CONTEXT
from vecmig.postgres.lock_watch import LockWatch
from vecmig.postgres.named_sql import statement
from vecmig.postgres.pooler_check import moved, refusal, sharing
from vecmig.postgres.session import Session
from vecmig.postgres.settings import SEARCH_PATH, lock_timeout, session_settings, transaction_settings

#: What opens connections where a team has its own way to its database.
Engine = sqlalchemy.Engine
#: A session, as what works on one calls it.
Connection = Session

_EMBEDDED: Final = "embedded:"
_OLDEST_SERVER: Final = 150_000
#: A URL with a second @ before its path, or with one in its path.
_MISREAD: Final = re.compile(r"[^:]*://(?:[^/?]*@[^/?]*@|[^@/?]*:[^@/?]*/[^?]*@)")
#: A server that is gone without a word is given up after two minutes; the system's own patience is up to two hours.
_PATIENCE: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "9",
    "tcp_user_timeout": "90000",
}
#: What of a URL must be a number, or several.
_NUMBERS: Final = {"port", "connect_timeout"}
_RESUME: Final = "Nothing that was committed is lost. When the database is back, run the same command again."


class Outdated(DatabaseError):
    """A table or column that a statement was made for has gone since."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database that vecmig works on: where it is, and the schema that holds vecmig's own tables."""

    #: Where it is; not read where an engine says how to get there.
    url: str = field(repr=False)
    schema: str = "vecmig"
    application_name: str = "vecmig"
    #: The schema of the vectors of collections to come; None for vecmig's own.
    vectors_schema: str | None = None
    #: Whether vecmig works here, in a session of its own where row-level security may hide no rows: a query that it
    #: would filter fails instead. Otherwise an application reads, maybe through a pooler: nothing is set for a session.
    sees_all: bool = True
    #: Seconds that a statement waits for a lock before it gives up; None for ever. Who holds it is told meanwhile.
    lock_wait: float | None = None
    #: Seconds that a change waits for a lock in one go, where others would queue behind it.
    lock_timeout: float = LOCK_TIMEOUT
    watch: LockWatch | None = field(default=None, repr=False, compare=False)
    #: A team's own way to its database, in place of the URL.
    engine: Engine | None = field(default=None, repr=False)
    _kept: KeptSessions = field(default_factory=KeptSessions, init=False, repr=False, compare=False)
    #: Host and port of poolers that were found to keep a session for each client.
    _whole: set[tuple[str, int]] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.engine is not None:
            require_psycopg(self.engine)

    @property
    def safe_url(self) -> str:
        """The URL as it may be shown: without its password."""
        if self.engine is not None:
            return redact(self.engine.url.render_as_string())
        return self.url if self.url.startswith(_EMBEDDED) else redact(self.url)

    @property
    def url_on_this_host(self) -> str:
        """The URL for other processes; the embedded database is started for them, and reached on this host only.

        Raises:
            UsageError: there is none: an engine of this process says how to get there.
        """
        if self.engine is not None:
            raise UsageError(
                "Workers of a fleet cannot use the engine of this process.",
                hint="Give the configuration a database_url, or run it with engine local",
            )
        embedded = self.url.startswith(_EMBEDDED)
        return start_embedded(Path(self.url.removeprefix(_EMBEDDED))) if embedded else self.url

    @property
    def conninfo(self) -> str:
        """What a driver or a pool connects by; it holds the password. Empty where an engine connects.

        Raises:
            ConfigError: the URL cannot be read.
        """
        return "" if self.engine is not None else _conninfo(self.url)

    def connect(self, *, autocommit: bool = True) -> Session:
        """Open a connection of its own.

        Raises:
            DatabaseUnreachable: there is no answer, or the server refuses this user.
            ConfigError: the URL cannot be read.
            DatabaseError: the server is too old, or refuses vecmig's settings, or a pooler would share the session.
        """
        connection = self._open(self.conninfo)
        try:
            with translated(self.safe_url):
                self._prepare(connection)
                connection.autocommit = autocommit
                if self.watch is not None:
                    self.watch.add(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, conninfo: str) -> Session:
        try:
            if self.engine is not None:
                return self._named(taken_over(open_by(self.engine), Session))
            return Session.connect(
                conninfo,
                autocommit=True,
                application_name=self.application_name,
                prepare_threshold=None,
                context=CONTEXT,
            )
        except psycopg.OperationalError as error:
            raise _unreachable(error, self.safe_url) from None

    def _named(self, connection: Session) -> Session:
        """Say whose session it is, as a URL's parameters do: the vectors note who else writes to them."""
        connection.autocommit = True
        if self.sees_all:
            query = statement("postgres/connect", "name")
            connection.execute(query, {"name": self.application_name})
        return connection

    def _prepare(self, connection: Session) -> None:
        if connection.info.server_version < _OLDEST_SERVER:
            version = connection.info.server_version // 10_000
            raise DatabaseError(f"PostgreSQL {version} is too old.", hint="vecmig needs PostgreSQL 15 or newer.")
        connection.process = connection.info.backend_pid
        if self.sees_all:
            _require_unicode(connection)
            # a pooler invents the number of the process that it names to its client
            connection.process = self._settle(connection, connection.process)
            if connection.process != connection.info.backend_pid:
                self._settle_behind_pooler(connection, connection.process)

    def _settle_behind_pooler(self, connection: Session, process: int) -> None:
        """Give the session its settings if a pooler keeps it for this client; refuse before anything is set if not."""
        place = (connection.info.host, connection.info.port)
        if place not in self._whole:
            # not by the name alone: it may stand for several poolers
            address = {"hostaddr": connection.info.hostaddr} if connection.info.hostaddr else {}
            same = make_conninfo(self.conninfo, host=place[0], port=place[1], **address)
            found = sharing(connection, process, lambda: self._open(same))
            if found is not None:
                raise refusal(found)
            self._whole.add(place)
        now = self._settle(connection, process)
        if now != process:
            raise refusal(moved(process, now))

    def _settle(self, connection: Connection, process: int) -> int:
        """Give a session its settings, if this process of the server answers; give the one that does."""
        query = statement(
            "postgres/connect", "settle", process=sql.Literal(process), **session_settings(self.lock_wait)
        )
        row = connection.execute(query).fetchone()
        assert row is not None, "it gives a row for each setting"
        return int(row[0])

    def keeping_sessions(self) -> AbstractContextManager[None]:
        """Let sessions be used again inside, one after the other."""
        return self._kept.keeping()

    def close_idle(self) -> None:
        """Close the sessions that are kept for later: what comes now takes long."""
        self._kept.close()

    def tell_wait(self, who: str, ids: str) -> None:
        """Tell who holds a lock that is waited for, if anybody is told of waits."""
        if self.watch is not None:
            self.watch.tell(f"a lock is taken by {who}", ids)

    def take(self, *, fresh: bool = False) -> Connection:
        """Return a session that was given back, or a new one, as a ``fresh`` one is."""
        session = (None if fresh else self._kept.take()) or self.connect()
        if self._kept.kept and session.current_schemas is None:
            # it ends with the run
            session.current_schemas = self._kept.current_schemas()
        return session

    def give_back(self, connection: Connection) -> None:
        """Keep a session as it was made by ``connect`` for whoever takes one next, where sessions are kept."""
        self._kept.give_back(connection)

    @contextmanager
    def session(self, *, fresh: bool = False) -> Iterator[Connection]:
        """Yield an autocommit connection; inside, errors of the driver leave as errors of vecmig.

        Args:
            fresh: whether it is a new one that is not used after this: to read back what was claimed, or to leave
                settings behind.
        """
        connection = self.take(fresh=fresh)
        try:
            with translated(self.safe_url, connection, own=self.schema):
                yield connection
        except BaseException:
            with suppress(psycopg.Error):
                connection.close()
            raise
        if fresh:
            with suppress(psycopg.Error):
                connection.close()
        else:
            self.give_back(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection inside one transaction, committed when the block ends without an error."""
        with self.session() as connection, connection.transaction():
            yield connection


def database_at(place: str | Engine, schema: str = "vecmig", **options: Any) -> Database:
    """Return the database at a URL, or the one to which an engine leads.

    Raises:
        UsageError: the engine is none by which vecmig can work.
    """
    if isinstance(place, str):
        return Database(place, schema, **options)
    return Database("", schema, engine=place, **options)


@contextmanager
def by_the_roles_path(connection: Connection) -> Iterator[None]:
    """Read inside, in the open transaction, what a team wrote for sessions of this role: by the role's search_path."""
    connection.execute("SET LOCAL search_path TO DEFAULT")
    yield
    connection.execute(f"SET LOCAL search_path TO {SEARCH_PATH}")


def settle_transaction(connection: Connection, lock_wait: float | None) -> None:
    """Give the open transaction of an application's session the settings that hold in vecmig's own."""
    more = {} if lock_wait is None else lock_timeout(lock_wait)
    connection.execute(statement("postgres/connect", "settle_transaction", settings=transaction_settings(more)))


def _require_unicode(connection: Connection) -> None:
    """Refuse a database that cannot keep each text, before anything is made in it."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"The database {connection.info.dbname} is in the encoding {encoding}; vecmig needs UTF8, because models "
            "and their providers read and write every script.",
            state="Nothing was changed.",
            hint="Restore a dump of it into a database made with: CREATE DATABASE name ENCODING 'UTF8' "
            "TEMPLATE template0",
        )


def _conninfo(url: str) -> str:
    if url.startswith(_EMBEDDED):
        url = start_embedded(Path(url.removeprefix(_EMBEDDED)))
    if not url.strip():
        raise ConfigError("database_url is empty.", hint="Write postgresql://user:password@host/database")
    if _MISREAD.match(url):
        # the driver would take a part of the password for the host, and name it in its error
        raise ConfigError(
            f"database_url cannot be read: {redact(url)}",
            hint="In a URL, write / in a user or password as %2F, @ as %40 and : as %3A",
        )
    try:
        # a database that has texts in another encoding lets the server translate them
        known = _PATIENCE | parameters_of(url) | {"client_encoding": "UTF8"}
        # the driver would name what stands in place of a number, which may be a password
        for name in _NUMBERS & known.keys():
            for number in str(known[name]).split(","):
                int(number or 0)
        return make_conninfo("", **known)
    except (psycopg.Error, ArgumentError, ValueError):
        raise ConfigError(
            f"database_url is not a PostgreSQL URL: {redact(url)}",
            hint="Write postgresql://user:password@host/database, or embedded:.vecmig/pgdata",
        ) from None


@contextmanager
def translated(where: str, connection: Connection | None = None, *, own: str = "") -> Iterator[None]:
    """Turn errors of the driver into errors of vecmig. They are told apart by SQLSTATE, never by their text.

    Args:
        where: the server, for messages.
        connection: what is worked on, to ask what helps.
        own: the schema of vecmig's own functions.
    """
    try:
        yield
    except psycopg.Error as error:
        found = _translate(error, where)
        if connection is not None and isinstance(found, DatabaseError) and not found.hint:
            found.hint = path_hint(connection, error, own=own)
        raise found from error
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
        return OutOfRoom(
            f"The database's disk is full: {message}.",
            state="What was committed stays; the statement that failed left nothing behind.",
            hint="Free some space, then run the same command again: it goes on where it stopped.",
        )
    if isinstance(error, pg.ProtocolViolation):
        return OutOfRoom(
            f"A pooler in front of the database refuses: {message}.",
            hint="Connect to the server itself, or to a pool in session mode that gives vecmig twelve connections.",
        )
    if isinstance(error, pg.LockNotAvailable):
        return _blocked(error)
    if isinstance(error, pg.ReadOnlySqlTransaction):
        # after a failover this is the old primary, or a standby that is about to be the new one
        return DatabaseUnreachable(
            f"The server at {where} only lets itself be read: it is a standby ({message}).",
            state=_RESUME,
            hint="Point database_url at the primary: name all servers and add ?target_session_attrs=read-write",
        )
    lost = isinstance(
        error,
        pg.AdminShutdown | pg.CrashShutdown | pg.CannotConnectNow | pg.IdleInTransactionSessionTimeout,
    )
    if lost or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
        return _unreachable(error, where)
    return DatabaseError(f"The database refuses: {message} (SQLSTATE {error.sqlstate}).")


def _blocked(error: psycopg.Error) -> Blocked:
    seen, hint = (
        *getattr(error, "__notes__", ()),
        "somebody else has it, for a moment or longer",
        "Let that transaction end, or end it with: SELECT pg_terminate_backend(pid); then run this again.",
    )[:2]
    return Blocked(
        f"Could not acquire a lock in time: {seen}.",
        state="What was committed stays.",
        hint=f"{hint} lock_wait in vecmig.ini says how long to wait.",
    )


def _unreachable(error: psycopg.Error, where: str) -> DatabaseUnreachable:
    reason = (error.diag.message_primary or str(error)).strip().splitlines()
    return DatabaseUnreachable(
        f"The database at {where} cannot be reached: {reason[0] if reason else type(error).__name__}",
        state=_RESUME,
        hint="Check database_url (vecmig.ini or VECMIG_DATABASE_URL) and that the server accepts connections.",
    )
