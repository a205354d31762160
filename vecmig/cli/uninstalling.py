"""The command that removes everything that vecmig made: it says what goes and what stays, and asks for a name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator
from vecmig.errors import UsageError
from vecmig.text import counted, data_size, money, shown

if TYPE_CHECKING:
    from vecmig.config import Config
    from vecmig.runner import CollectionRemoval, TagSize, Uninstallation


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(uninstall)


def uninstall(
    ctx: typer.Context,
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="COLLECTION", help="Remove this one only; vecmig's own tables stay."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
) -> None:
    """Remove everything that vecmig made; your tables stay.

    It says first what goes.
    """
    from vecmig import runner

    options = options_of(ctx)
    config = options.config()
    planned = runner.uninstallation(config, collection)
    if planned.empty:
        what = f"of {collection} " if collection else ""
        render.line(f"Nothing to do: nothing {what}that vecmig made is in {planned.database}.")
        return
    show_leaving(planned, config)
    if dry_run:
        return
    if not yes:
        _ask(planned, collection)
    with Narrator(quiet=options.quiet) as tell:
        done = runner.uninstall(config, collection, listener=tell)
    freed = data_size(sum(removed.bytes for removed in done.collections))
    what = f"{collection} is uninstalled" if collection else f"vecmig is uninstalled from {done.database}"
    render.line(f"{what}; {freed} are free again")


def _ask(planned: Uninstallation, collection: str | None) -> None:
    what, name = ("the collection's name", collection) if collection else ("the database's name", planned.database)
    if not sys.stdin.isatty():
        raise UsageError(
            f"There is no terminal on which {what} could be typed.",
            state="Nothing was changed.",
            hint="To uninstall without being asked, add --yes",
        )
    typed = typer.prompt(f"To remove all this, type {what}", default="", show_default=False, err=True)
    if typed.strip() != name:
        raise UsageError(f"That is not {what}.", state="Nothing was changed.")


def show_leaving(planned: Uninstallation, config: Config) -> None:
    """Print what goes, collection by collection, and what stays."""
    for leaving in planned.collections:
        render.line(f"goes: {leaving.name}", style="bold")
        render.columns([*_rows(leaving), *_costs(leaving)])
    if planned.ledger:
        render.line("goes: what is vecmig's own", style="bold")
        tables = [piece for piece in planned.ledger if piece.kind == "table"]
        routines = len(planned.ledger) - len(tables)
        schema = tables[0].schema
        size = data_size(sum(piece.bytes or 0 for piece in tables))
        history = counted(planned.events, "event")
        rows = [
            ("  ledger", f"{len(tables)} tables and {counted(routines, 'function')} in {schema}, {size}"),
            ("  history", f"{history}, revisions, evals, costs"),
        ]
        render.columns(rows + [("  schema", left.name) for left in planned.schemas if not left.why])
    elif planned.schemas:
        render.columns([("  schema", leaving.name) for leaving in planned.schemas])
    if planned.along:
        render.line("with them ends: " + "; ".join(planned.along))
    if planned.mentions:
        render.line("may fail then, for a name of it stands in their text: " + "; ".join(planned.mentions))
    render.line("stays", style="bold")
    render.columns(_staying(planned, config))


def _rows(leaving: CollectionRemoval) -> list[tuple[str, str]]:
    rows = [
        (f"  {piece.kind}", piece.shown)
        for piece in leaving.pieces
        if piece.kind not in ("partition", "detached", "stranger")
    ]
    rows += [("  tag", _tag_text(tag)) for tag in leaving.tags]
    return rows or [("  ledger", "what it knows of it; its objects are gone already")]


def _tag_text(tag: TagSize) -> str:
    vectors = f"{counted(tag.vectors, 'vector')} of {counted(tag.records, 'record')}"
    return f"{tag.tag}: {vectors}, {data_size(tag.bytes)} in {tag.relation}"


def _costs(leaving: CollectionRemoval) -> list[tuple[str, str]]:
    if not any(tag.vectors for tag in leaving.tags):
        return []
    cost = f"embedding it has cost {money(leaving.usd)}; a new start pays again" if leaving.usd else ""
    return [("  to get it back", cost or "everything is embedded again")]


def _staying(planned: Uninstallation, config: Config) -> list[tuple[str, str]]:
    sources = [leaving.source for leaving in planned.collections if leaving.source]
    files = [config.path] if config.path is not None else []
    named = " and ".join(shown(path) for path in [*files, config.script_location])
    rows = [("  source", f"{source}, with all its rows and columns") for source in dict.fromkeys(sources)]
    rows += [("  schema", f"{schema.name}: {schema.why}") for schema in planned.schemas if schema.why]
    rows += [("  extension", "vector"), ("  files", named)]
    if not planned.ledger and planned.collections:
        rows.append(("  ledger", "vecmig's own tables, with the history"))
    return rows
