"""The commands that let a live view step aside for a migration of its source: view detach, view attach."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator

_COLLECTION = typer.Argument(metavar="COLLECTION", show_default=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    view = typer.Typer(no_args_is_help=True, help="Detach a live view for a migration of its source.")
    for command in (detach, attach):
        view.command()(command)
    app.add_typer(view, name="view")


def detach(ctx: typer.Context, collection: Annotated[str, _COLLECTION]) -> None:
    """Drop the live view, keeping its grants; searches go on.

    The triggers bind no column until vecmig view attach, so that a migration may change the source.
    """
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        aside, changed = runner.detach_view(options.config(), collection, listener=tell)
    when = f"since {aside.at:%Y-%m-%d %H:%M:%S} UTC by {aside.by}"
    render.line(f"{collection}: view detached" if changed else f"{collection}: view detached already, {when}")
    render.line(f"  when your migration is done, run: vecmig view attach {shlex.quote(collection)}")


def attach(ctx: typer.Context, collection: Annotated[str, _COLLECTION]) -> None:
    """Put the live view back, with its grants and triggers."""
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        changed = runner.attach_view(options.config(), collection, listener=tell)
    render.line(f"{collection}: view attached" if changed else f"{collection}: the view was not detached")
