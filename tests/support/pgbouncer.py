"""A real PgBouncer in front of the test server."""

from __future__ import annotations

import itertools
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from support.postgres import Postgres

_PORT = 6432
#: Where Debian puts it is not on everybody's PATH; .ci/run puts it beside Python where it may not install packages.
_PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
PGBOUNCER = shutil.which("pgbouncer", path=_PLACES)


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """A running PgBouncer; clients need no password, and all are the user postgres to the server."""

    directory: Path

    def url(self, database_url: str, *, user: str = "postgres") -> str:
        """Give the URL by which a database of the test server is reached through it."""
        name = database_url.split("?", maxsplit=1)[0].rpartition("/")[2]
        return f"postgresql://{user}@/{name}?host={quote(str(self.directory))}&port={_PORT}"


@contextmanager
def running_pgbouncer(postgres: Postgres, **settings: object) -> Iterator[PgBouncer]:
    """Start PgBouncer on a socket in a directory of its own, and end it with the block, or with this process.

    settings: of its section [pgbouncer], such as ``pool_mode="transaction"``.
    """
    directory = Path(tempfile.mkdtemp(prefix="vecmig-pgb-"))
    try:
        command = _prepare(directory, postgres, settings)
        # the shell reads from a pipe that the system closes with our process, whatever ends it
        shell = ["/bin/sh", "-c", '"$@" & cat; kill -9 $!; wait $!', "sh", *command]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(directory)
            yield PgBouncer(directory)
        finally:
            process.communicate()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def balanced(*urls: str) -> Iterator[str]:
    """Give one address behind which clients are led to several in turn, as several poolers stand behind one name."""
    directory = Path(tempfile.mkdtemp(prefix="vecmig-lb-"))
    places = itertools.cycle([unquote(url.partition("host=")[2].partition("&")[0]) for url in urls])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / f".s.PGSQL.{_PORT}"))
        listener.listen()
        thread = threading.Thread(target=_lead, args=[listener, places], daemon=True)
        thread.start()
        try:
            head, _, rest = urls[0].partition("?host=")
            yield f"{head}?host={quote(str(directory))}&{rest.partition('&')[2]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            shutil.rmtree(directory)


def _lead(listener: socket.socket, places: Iterator[str]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{next(places)}/.s.PGSQL.{_PORT}")
        threading.Thread(target=_relay, args=[client, server], daemon=True).start()


def _relay(client: socket.socket, server: socket.socket) -> None:
    """Carry bytes to and fro until one of both is gone."""
    # whoever is gone is found out by writing to it, too
    with suppress(ConnectionError), client, server:
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65_536)
                if not data:
                    return
                (server if source is client else client).sendall(data)


def _prepare(directory: Path, postgres: Postgres, settings: dict[str, object]) -> list[str]:
    assert PGBOUNCER is not None, "tests are skipped without it"
    own = {"listen_port": _PORT, "unix_socket_dir": directory, "auth_type": "any", "logfile": ""}
    lines = [f"{name} = {value}" for name, value in (own | settings).items()]
    upstream = postgres.server.get_postmaster_info().socket_dir
    ini = directory / "pgbouncer.ini"
    ini.write_text("\n".join(["[databases]", f"* = host={upstream} user=postgres", "[pgbouncer]", *lines, ""]))
    directory.chmod(0o755)
    if postgres.system_user is None:
        return [PGBOUNCER, str(ini)]
    # it refuses to run as root; the server's user may enter the directory of the server's socket
    shutil.chown(directory, postgres.system_user)
    return [PGBOUNCER, "-u", postgres.system_user, str(ini)]


def _wait_for(directory: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(directory / f".s.PGSQL.{_PORT}")) == 0:
                return
        assert time.monotonic() < deadline, (directory / "log").read_text()
        time.sleep(0.01)
