"""The command that finds the vectors that a database has already, and puts what adopts them into the project."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(discover)


def discover(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", show_default=False, help="Tables, or collections that it proposes; * for any letters."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the collections and their first revisions into the project.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The model that made the vectors: no table tells.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="PROVIDER", help="Who serves it, where its name does not say so."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Propose to leave the vectors in their columns, and copy nothing.")
    ] = False,
) -> None:
    """Find the vectors that a database has, and what adopts them.

    It writes nothing in the database. Large tables are sampled.
    """
    from vecmig import runner

    options = options_of(ctx)
    config = options.config()
    found = runner.discover(config, names or [], model=model, provider=provider, in_place=in_place)
    written = runner.write_discovered(config, found) if write else ()
    if as_json:
        from vecmig.cli.discover_json import discovery_document

        render.as_json(discovery_document(found, written))
    elif write:
        from vecmig.cli.discover_page import show_written

        show_written(options, found, written)
    else:
        from vecmig.cli.discover_page import show_discovery

        show_discovery(found)
