"""The command that shows everything: demo."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vecmig.cli import inspect, migrate, render
from vecmig.cli.progress import Narrator
from vecmig.errors import Interrupted
from vecmig.text import duration

if TYPE_CHECKING:
    from vecmig.demo.story import Part, Result

#: Columns of the page, so that it can be read anywhere and pasted.
_WIDTH: Final = 80
#: Characters of an answer that fit beside its distance and key.
_LONGEST: Final = 60


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Leave the project and its database in this directory.")
    ] = None,
) -> None:
    """Run the full story on real text; no key, no network.

    Two tags, the gate, the cutover and the rollback.
    """
    from vecmig.demo.home import kept_home, require_extra, temporary_home

    require_extra()
    began = time.monotonic()
    with render.page(_WIDTH), _stopped_by_signals():
        if keep is not None:
            _tell(kept_home(keep))
            _say_what_to_try(keep, time.monotonic() - began)
            return
        try:
            with temporary_home() as home:
                _tell(home)
        except Interrupted:
            raise KeyboardInterrupt from None  # there is nothing left to resume
        took = duration(time.monotonic() - began)
        render.line()
        render.line(f"That was {took}. The PostgreSQL is stopped, and its directory removed.")
        render.line("To keep such a project and play with it: vecmig demo --keep DIR")


def _tell(home: Path) -> None:
    from vecmig.demo.story import Story

    with Narrator() as listener:
        for part in Story(home, listener).tell():
            _show(part)


def _show(part: Part) -> None:
    from vecmig.demo import story

    match part:
        case story.Chapter(title):
            render.line()
            render.line(title, style="bold")
        case story.Said(words):
            for text in render.broken(words, _WIDTH - 2):
                render.line(f"# {text}")
        case story.Typed(command):
            render.line(f"$ {command}", style="cyan")
        case _:
            _show_result(part)


def _show_result(part: Result) -> None:
    """Show what a command gave the way that the command does."""
    from vecmig.demo import story

    match part:
        case story.Wrote(paths):
            render.line(f"Wrote {', '.join(paths)}")
        case story.Walk(results):
            migrate.show_results(results)
        case story.Covered(coverage):
            migrate.show_coverage(coverage)
        case story.Judged():
            for name, (revision, report) in part.reports.items():
                # in full only what does not hold: the page is long enough
                inspect.show_gate(name, revision, replace(report, checks=report.failed))
                held = [check.name for check in report.checks if check.passed]
                render.line(f"  ok  {', '.join(held)}")
                if not report.passed:
                    render.error(inspect.refusal(name, report))
        case story.Answered(hits):
            inspect.show_hits(hits, longest=_LONGEST)
        case story.Stood(status):
            from vecmig.cli.status_page import show_status

            show_status(status)


def _say_what_to_try(keep: Path, took: float) -> None:
    render.line()
    render.line(f"That was {duration(took)}. The project stays in {keep}, with its database. To try:")
    for command in (f"cd {shlex.quote(str(keep))}", "vecmig status", 'vecmig search documents "your query"'):
        render.line(f"$ {command}", style="cyan")
    for command in ("vecmig downgrade -1", "vecmig history -v"):
        render.line(f"$ {command}", style="cyan")
    if "VECMIG_DATABASE_URL" in os.environ:
        render.line("VECMIG_DATABASE_URL is set here and would win over vecmig.ini: unset it first.")


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Take a closed terminal or a polite kill as Ctrl-C, so that nothing stays behind."""
    caught = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, _interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
