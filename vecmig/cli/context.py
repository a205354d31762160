"""What every command is handed: the global options, and the configuration once it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vecmig.errors import UsageError

if TYPE_CHECKING:
    from vecmig.config import Config
    from vecmig.script import ScriptDirectory


def _no_database(config: Config) -> Iterable[str]:  # noqa: ARG001  # stands in until main() gives a reader
    raise UsageError("This command cannot ask the database where it is.")


@dataclass(slots=True)
class Options:
    """The options before the command. ``main`` makes one for each run; the callback fills it in."""

    config_path: Path | None = None
    x: tuple[str, ...] = ()
    raiseerr: bool = False
    quiet: bool = False
    #: Asks the database for the ids that it is at.
    read_current: Callable[[Config], Iterable[str]] = _no_database
    _configs: dict[bool, Config] = field(default_factory=dict)

    def config(self, *, database: bool = True) -> Config:
        """Load the configuration, once; without ``database`` one that names none will do.

        Raises:
            ConfigError: there is none, or it cannot be used.
        """
        from vecmig.config import load_config

        if database not in self._configs:
            self._configs[database] = load_config(self.config_path, x=self.x, database=database)
        return self._configs[database]

    def scripts(self) -> ScriptDirectory:
        """Open the script directory; no database is needed.

        Raises:
            ConfigError, ScriptError: the configuration or the script location cannot be used.
        """
        from vecmig.script import ScriptDirectory

        return ScriptDirectory(self.config(database=False))

    def current_heads(self) -> tuple[str, ...]:
        """Ask the database for the ids of the revisions that it is at.

        Raises:
            VecmigError: the configuration names no database, or it cannot be read.
        """
        return tuple(self.read_current(self.config()))


def options(ctx: typer.Context) -> Options:
    """Give the global options of this run."""
    found = ctx.find_object(Options)
    assert found is not None, "main() passes one"
    return found


def add_command(app: typer.Typer, function: Callable[..., Any], *, name: str = "") -> None:
    """Register a command by its function's name; one with an underscore also, hidden, with a dash."""
    name = name or function.__name__.strip("_")
    app.command(name)(function)
    if "_" in name:
        app.command(name.replace("_", "-"), hidden=True)(function)
