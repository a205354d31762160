"""The commands that speak to runs at work, through the database: pause, resume, tune."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.errors import UsageError
from vecmig.wording.standing import paused_text, run_text, tuned_words

if TYPE_CHECKING:
    from vecmig.ledger.control import Control, Run
    from vecmig.ledger.failures import Failure
    from vecmig.postgres.locks import Holder
    from vecmig.runner import Controlled

_COLLECTIONS = typer.Argument(metavar="COLLECTION", help="Which collections; all by default.", show_default=False)
#: By their names on the command line: the names that the library has for them, and what takes them back.
_SETTINGS: Final = {"concurrency": "concurrency", "max-rate": "max_rate"}
_TAKES_BACK: Final = ("default", "none")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (pause, resume, tune):
        app.command()(command)


def pause(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, _COLLECTIONS] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; vecmig status shows it.")] = None,
) -> None:
    """Pause backfills and syncs, from any host.

    They wait until vecmig resume, those that begin later too.
    """
    from vecmig import runner

    for name, controlled in runner.pause(options_of(ctx).config(), collection or [], reason=reason).items():
        render.line(f"{name}: {'paused' if controlled.changed else 'already paused'} {paused_text(controlled.control)}")
        _show_runs(controlled, "Pauses within 2 s, after writing the requests in flight.")


def resume(ctx: typer.Context, collection: Annotated[list[str] | None, _COLLECTIONS] = None) -> None:
    """Resume what was paused, from any host."""
    from vecmig import runner

    for name, controlled in runner.resume(options_of(ctx).config(), collection or []).items():
        render.line(f"{name}: resumed" if controlled.changed else f"{name}: was not paused")
        _show_runs(controlled, "Resumes within 2 s." if controlled.changed else "")


def tune(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COLLECTION|SETTING=VALUE",
            help="Settings: concurrency=4 (requests in flight), max-rate=500 (records a second); "
            "concurrency=default and max-rate=none take one back.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set or show how fast backfills and syncs may go.

    It holds for those that run and for later ones.
    """
    from vecmig import runner

    collections = [word for word in words or [] if "=" not in word]
    settings = settings_of([word for word in words or [] if "=" in word])
    config = options_of(ctx).config()
    by_collection = runner.tune(config, settings, collections) if settings else runner.controlled(config, collections)
    for name, controlled in by_collection.items():
        render.line(f"{name}: {', '.join(tuned_words(controlled.control))}")
        _show_runs(controlled, "It follows within 2 s." if settings else "")


def settings_of(words: Sequence[str]) -> dict[str, float | None]:
    """Read words such as ``concurrency=4`` and ``max-rate=none``.

    Raises:
        UsageError: a setting is not known, its value is none that it can have, or it is named twice.
    """
    from vecmig.text import nearest

    settings: dict[str, float | None] = {}
    for word in words:
        written, _, value = word.partition("=")
        name = written.replace("_", "-")
        if name not in _SETTINGS:
            close = nearest(name, _SETTINGS)
            raise UsageError(
                f"There is no setting {written!r}{f'; did you mean {close}?' if close else '.'}",
                hint=f"The settings are {' and '.join(_SETTINGS)}, as in: vecmig tune concurrency=4 max-rate=500",
            )
        if _SETTINGS[name] in settings:
            raise UsageError(f"{name} is set twice.")
        settings[_SETTINGS[name]] = _value(name, value)
    return settings


def _value(name: str, text: str) -> float | None:
    if text in _TAKES_BACK:
        return None
    if name == "concurrency":
        if re.fullmatch(r"0*[1-9][0-9]{0,4}", text):
            return int(text)
        raise UsageError(f"concurrency={text}: a whole number from 1 to 99999 is needed, or default.")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"max-rate={text}: a number of records a second above 0 is needed, or none.")
    return value


def _show_runs(controlled: Controlled, effect: str) -> None:
    """Print who is at work on a collection, and that a setting waits for the next run if none is."""
    for run in controlled.runs:
        render.line(f"  {run_text(run)}")
    if not controlled.runs:
        kept = "; the next run follows this" if not controlled.control.says_nothing else ""
        render.line(f"  no run is at work on it now{kept}")
    elif effect:
        render.line(f"  {effect}")


def control_json(control: Control) -> dict[str, Any] | None:
    """Return what operators have set as the documented JSON; None where nothing is set."""
    if control.says_nothing:
        return None
    fields = ("paused", "reason", "paused_at", "paused_by", "concurrency", "max_rate")
    return {name: getattr(control, name) for name in fields}


def run_json(run: Run) -> dict[str, Any]:
    """Return a run as the documented JSON."""
    fields = ("what", "tag", "host", "pid", "state", "reason", "done", "total", "rejected", "rate", "concurrency")
    return {name: getattr(run, name) for name in (*fields, "started_at", "seen_at", "ends_at")}


def failure_json(failure: Failure | None) -> dict[str, Any] | None:
    """Return how the last run failed as the documented JSON; None where it did not."""
    names = ("at", "host", "what", "error", "exit_code", "hint")
    return None if failure is None else {name: getattr(failure, name) for name in names}


def runner_json(runner: Holder | None) -> dict[str, Any] | None:
    """Return who holds the lock of a collection as the documented JSON; None where none does."""
    return None if runner is None else {"what": runner.what, "place": runner.place}
