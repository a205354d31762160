"""The command that takes a collection's triggers off."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator
from vecmig.text import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(untrack)


def untrack(ctx: typer.Context, collection: Annotated[str, typer.Argument(show_default=False)]) -> None:
    """Drop the triggers that note a collection's changes.

    Whatever became of its source; the vectors stay.
    """
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        done = runner.untrack(options.config(), collection, listener=tell)
    for name, table in done.triggers:
        render.line(f"{name} is off {table}")
    render.line(f"{collection} is untracked: {counted(len(done.triggers), 'trigger was', 'triggers were')} dropped")
    render.line(
        "The next sync or upgrade installs them again, unless change_tracking: scan stands in collections.yaml; "
        "a vecmig sync --watch that is at work already does not, and finds changes by scanning."
    )
