"""What every command is handed: the global options, and the configuration once it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vecmig.errors import UsageError, VecmigError

if TYPE_CHECKING:
    from vecmig.cli.progress import Narrator
    from vecmig.config import Config
    from vecmig.script import ScriptDirectory


@dataclass(slots=True)
class Options:
    """The options before the command. ``main`` makes one for each run; the callback fills it in."""

    config_path: Path | None = None
    x: tuple[str, ...] = ()
    raiseerr: bool = False
    quiet: bool = False
    _configs: dict[bool, Config] = field(default_factory=dict)
    _narrator: Narrator | None = None

    def config(self, *, database: bool = True, provider_wait: str | None = None) -> Config:
        """Load the configuration, once; without ``database`` one that names none will do.

        A ``provider_wait`` of the command's own wins over the one that is configured.

        Raises:
            ConfigError: there is none, or it cannot be used.
        """
        from vecmig.config import load_config

        if database not in self._configs:
            overrides = {} if provider_wait is None else {"provider_wait": provider_wait}
            config = load_config(
                self.config_path, x=self.x, database=database, overrides=overrides, at_terminal=sys.stderr.isatty()
            )
            config = self._configs[database] = replace(config, on_wait=self._tell_wait)
            if config.path is not None and str(config.path.parent) not in sys.path:
                # scripts and recipes name the project's own modules, wherever the command is run
                sys.path.insert(0, str(config.path.parent))
        return self._configs[database]

    def _tell_wait(self, reason: str, cause: str) -> None:
        from vecmig.cli.progress import Narrator
        from vecmig.events import Waiting

        if self._narrator is None:
            self._narrator = Narrator(quiet=self.quiet)
        self._narrator(Waiting(reason, cause=cause))

    def note(self, text: str) -> None:
        """Print a line to stderr, unless results only are wanted."""
        from vecmig.cli import render

        if not self.quiet:
            render.note(text)

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
        from vecmig import runner

        return tuple(script.id for script in runner.current(self.config()).heads)


def web(module: str, needs: str) -> Any:
    """Return a module of the extra ``web``, which ``needs`` it, in words.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        return import_module(f"vecmig.serve.{module}")
    except ImportError as error:
        raise UsageError(f"{needs} the extra web: {error}.", hint="Run: pip install 'vecmig[web]'") from error


def options_of(ctx: typer.Context) -> Options:
    """Return the global options of this run."""
    options = ctx.find_object(Options)
    assert options is not None, "main() passes one"
    return options


@contextmanager
def shown_if_others_failed(show: Callable[[Any], None]) -> Iterator[None]:
    """Show what a command came to with other collections before the error of those that failed."""
    try:
        yield
    except VecmigError as error:
        if error.done:
            show(error.done)
        raise


def revision_argument(text: str) -> str:
    """Let -1 and +1 pass as revisions where unknown options are let through for their sake."""
    if text.startswith("-") and not text[1:].isdigit():
        raise UsageError(
            f"No such option: {text}",
            hint="Options for every command, such as -q and -c, stand before the command: vecmig -q upgrade head",
        )
    return text


def add_command(app: typer.Typer, function: Callable[..., Any], *, name: str = "") -> None:
    """Register a command by its function's name; one with an underscore also, hidden, with a dash."""
    name = name or function.__name__.strip("_")
    app.command(name)(function)
    if "_" in name:
        app.command(name.replace("_", "-"), hidden=True)(function)
