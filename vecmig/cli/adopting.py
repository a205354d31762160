"""The command with which a person says that another table is a collection's source now."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adopt-source")(adopt_source)


def adopt_source(
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False, help="The collection whose source was replaced.")],
) -> None:
    """Say that a replaced table is the collection's source.

    The table that has the source's name now is taken for the one whose vectors are there; every vector is kept.
    """
    from vecmig import runner

    found = runner.adopt_source(options(ctx).config(), collection)
    if not found.changed:
        render.line(f"{collection}: {found.source} is its source already")
        return
    before = f"{found.before} has no trigger of vecmig's any more" if found.before else "the table before is gone"
    render.line(f"{collection}: {found.source} is its source now; {before}")
    render.line(f"All vectors are kept. To embed what differs, run: vecmig sync {collection}")
