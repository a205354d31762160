"""Clusters of any PostgreSQL whose programs are there, and its own tools: dump, restore, upgrade."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from support.postgres import Postgres, configured, quick_directory, watchdog

#: One run of a tool on a database of a test takes a second or two; a busy machine makes it more.
_PATIENCE: Final = 180


@dataclass(slots=True)
class Cluster:
    """A cluster in ``home/data``, with what ``Postgres`` asks of a server of the wheel."""

    bin_path: Path
    home: Path
    system_user: str | None
    pgdata: Path = field(init=False)

    def __post_init__(self) -> None:
        self.pgdata = self.home / "data"
        # pg_upgrade and the sockets need a directory that the server's user may write to
        self.home.chmod(0o755)
        if self.system_user is not None:
            shutil.chown(self.home, self.system_user)

    def create(self, *options: str) -> None:
        """Initialise it, as ``initdb`` does with these options."""
        self.run("initdb", "-D", self.pgdata, "-U", "postgres", "--auth=trust", "--encoding=UTF8", *options)

    def start(self) -> None:
        """Start its server."""
        options = f'-h "" -k {self.home}'
        self.run("pg_ctl", "-D", self.pgdata, "-w", "-l", self.home / "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop its server, as an administrator would: open connections are ended."""
        if (self.pgdata / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", self.pgdata, "-w", "-m", "fast", "stop")

    def get_postmaster_info(self) -> Any:
        """Say where its socket is."""
        return SimpleNamespace(socket_dir=self.home)

    def run(self, program: str, *args: str | Path) -> None:
        """Run one of its programs as its system user; fails with what it said."""
        # the server that pg_ctl starts would keep a pipe open
        output = self.home / f"{program}.out"
        command = [str(self.bin_path / program), *map(str, args)]
        with output.open("wb") as file:
            done = subprocess.run(
                command,
                check=False,
                timeout=_PATIENCE,
                user=self.system_user,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        assert done.returncode == 0, f"{' '.join(command)}\n{output.read_text(errors='replace')}"


@contextmanager
def own_cluster(programs: Path, pgserver: Any) -> Iterator[Cluster]:
    """Give a cluster in a temporary directory, not yet made; stop it and remove everything at the end.

    pgserver: the module that ``imported_pgserver`` gives.
    """
    home = quick_directory("vecmig-pg-")
    with watchdog(home):
        cluster = Cluster(programs, home, _system_user(pgserver, programs))
        try:
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def running_cluster(programs: Path, pgserver: Any) -> Iterator[Postgres]:
    """Start a server of these programs in a temporary directory; stop it and remove everything at the end."""
    with own_cluster(programs, pgserver) as cluster:
        cluster.create("--no-sync")
        cluster.start()
        yield configured(Postgres(cluster))


def upgrade_cluster(old: Cluster, new: Cluster) -> None:
    """Bring a stopped cluster to the other one's version with its pg_upgrade; the other one is made for it."""
    # from 18 on initdb has them where nothing is said, and pg_upgrade wants both alike
    new.create("--no-sync", "--no-data-checksums")
    folders: list[str | Path] = ["-b", old.bin_path, "-B", new.bin_path, "-d", old.pgdata, "-D", new.pgdata]
    new.run("pg_upgrade", *folders, "-U", "postgres", "--no-sync")


def dump(postgres: Postgres, database: str, target: Path, *options: str) -> None:
    """Dump a database with the server's own pg_dump."""
    _client(postgres, "pg_dump", "-d", postgres.url(database), "-f", target, *options)


def restore(postgres: Postgres, source: Path, database: str, *options: str, user: str = "postgres") -> None:
    """Restore a custom or a plain dump into an empty database; anything that goes wrong fails."""
    url = postgres.url(database, user=user)
    if source.suffix == ".sql":
        _client(postgres, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", source)
    else:
        _client(postgres, "pg_restore", "--exit-on-error", "-d", url, *options, source)


def restore_over(postgres: Postgres, source: Path, database: str) -> str:
    """Restore a custom dump over what is there, as far as it goes; give what pg_restore complains of."""
    return _client(postgres, "pg_restore", "--clean", "--if-exists", "-d", postgres.url(database), source, code=1)


def _client(postgres: Postgres, program: str, *args: str | Path, code: int = 0) -> str:
    command = [str(Path(postgres.server.bin_path) / program), *map(str, args)]
    done = subprocess.run(command, check=False, timeout=_PATIENCE, capture_output=True, stdin=subprocess.DEVNULL)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == code, f"{' '.join(command)}\n{said}"
    return said


def _system_user(pgserver: Any, programs: Path) -> str | None:
    """Name the user that a server must run as where root runs the tests, and let it reach the programs."""
    if os.geteuid() != 0:
        return None
    pgserver.utils.ensure_user_exists("pgserver")
    pgserver.utils.ensure_prefix_permissions(programs)
    return "pgserver"
