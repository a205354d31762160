"""The command with which a person says that another table is a collection's source now."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of


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

    adopted = runner.adopt_source(options_of(ctx).config(), collection)
    if not adopted.changed:
        render.line(f"{collection}: {adopted.source} is its source already")
        return
    before = f"{adopted.before} has no trigger of vecmig's any more" if adopted.before else "the table before is gone"
    render.line(f"{collection}: {adopted.source} is its source now; {before}")
    render.line(f"All vectors are kept. To embed what differs, run: vecmig sync {collection}")
