"""The commands that carry vectors from one database to another: vectors export, vectors import."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator
from vecmig.text import count, counted, data_size, noun, percent

if TYPE_CHECKING:
    from vecmig.runner import Imported

_JSON = typer.Option("--json", help="Print one JSON document.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    vectors = typer.Typer(no_args_is_help=True, help="Carry the vectors of a tag from one database to another.")
    vectors.command("export")(export)
    vectors.command("import")(import_)
    app.add_typer(vectors, name="vectors")


def export(
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", show_default=False)],
    tag: Annotated[str, typer.Argument(metavar="TAG", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write the vectors of a tag into a file.

    They go by the hashes of their texts; no text and no key is in it.
    """
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        made = runner.export_vectors(options.config(), collection, tag, file, listener=tell)
    if as_json:
        render.as_json(asdict(made))
        return
    what = f"{counted(made.vectors, 'vector')} of {counted(made.texts, 'text')}"
    render.line(f"{made.file}: {what} under {made.tag}, {data_size(made.bytes)}")
    render.line(f"  where they are wanted, run: vecmig vectors import {shlex.quote(made.file.name)}")


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Take vectors of a file for records that lack them.

    These are the records that have one of its texts, and no fresh vector. No
    provider is asked. Running it again goes on.
    """
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        done = runner.import_vectors(options.config(), file, listener=tell)
    if as_json:
        render.as_json(_imported_json(done))
        return
    taken = done.taken
    render.line(
        f"{done.collection}: {counted(taken.records, 'record')} {noun(taken.records, 'has', 'have')} vectors of the "
        f"file under {done.tag} now; coverage {percent(done.coverage.share)}"
    )
    for line in _not_taken(done):
        render.line(f"  {line}")


def _not_taken(done: Imported) -> Iterator[str]:
    """Say of the texts of a file why they were not taken."""
    taken = done.taken
    reasons = (
        (taken.present, "in records that have their vectors already"),
        (taken.unknown, "of no record here"),
        (taken.unsound, "with a vector that cannot be stored or found"),
        (taken.mismatched, "cut into another number of chunks here"),
    )
    for number, why in reasons:
        if number:
            yield f"{counted(number, 'text')} of the file not taken: {why}"
    if taken.changed:
        yield f"{count(taken.changed)} {noun(taken.changed, 'record')} changed meanwhile, and pending still"


def _imported_json(done: Imported) -> dict[str, Any]:
    """Return an import as the documented JSON."""
    return {
        "collection": done.collection,
        "tag": done.tag,
        "file": {"vectors": done.vectors, "texts": done.texts},
        **asdict(done.taken),
        "fresh": done.coverage.fresh,
        "eligible": done.coverage.eligible,
        "coverage": done.coverage.share,
    }
