"""The commands that show scripts; none of them needs a database unless it is asked about `current`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import Options, add_command, options_of
from vecmig.errors import ScriptError

if TYPE_CHECKING:
    from vecmig.cli.script_lines import ScriptLines
    from vecmig.script import ScriptDirectory

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print everything about each revision.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    for function in (history, heads, branches, show):
        add_command(app, function)


def history(
    ctx: typer.Context,
    rev_range: Annotated[
        str | None,
        typer.Option(
            "-r",
            "--rev-range",
            metavar="START:END",
            show_default=False,
            help="Only from START to END; either may be left out, or current.",
        ),
    ] = None,
    verbose: Verbose = False,
    indicate_current: Annotated[
        bool, typer.Option("-i", "--indicate-current", help="Mark the revisions that the database is at.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the revisions, newest first."""
    options = options_of(ctx)
    scripts, rev_range = options.scripts(), ":" if rev_range is None else rev_range
    current = options.current_heads() if indicate_current or "current" in rev_range.split(":") else ()
    lines = _lines(scripts, current if indicate_current else ())
    listed = scripts.history(rev_range, current)
    if as_json:
        render.as_json(lines.jsons(listed))
    else:
        _print(lines.entries(listed, verbose=verbose, step=True))
        _say_if_empty(options, scripts)


def heads(
    ctx: typer.Context,
    verbose: Verbose = False,
    resolve_dependencies: Annotated[
        bool, typer.Option("--resolve-dependencies", help="Leave out those that another revision depends on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the revisions that none follows."""
    options = options_of(ctx)
    scripts = options.scripts()
    lines = _lines(scripts)
    listed = scripts.heads(resolve_dependencies=resolve_dependencies)
    if as_json:
        render.as_json(lines.jsons(listed))
        return
    _print(lines.entries(listed, verbose=verbose))
    _say_if_empty(options, scripts)
    try:
        scripts.branches.refuse_ambiguous("head")
    except ScriptError as problem:
        options.note(f"{problem.message}\n{problem.hint}")


def branches(ctx: typer.Context, verbose: Verbose = False, as_json: Json = False) -> None:
    """List the revisions that more than one follows."""
    options = options_of(ctx)
    scripts = options.scripts()
    lines = _lines(scripts)
    listed = scripts.branch_points()
    if as_json:
        render.as_json(lines.jsons(listed))
        return
    for script in listed:
        _print(lines.fork(script, verbose=verbose))
    if not listed:
        options.note("There are no branch points.")


def show(
    ctx: typer.Context,
    rev: Annotated[
        str, typer.Argument(metavar="REV", help="An id or the start of one, a label, head, heads, or current.")
    ],
    as_json: Json = False,
) -> None:
    """Print everything about a revision."""
    options = options_of(ctx)
    scripts = options.scripts()
    listed = scripts.find(rev, options.current_heads() if rev == "current" else ())
    lines = _lines(scripts)
    if as_json:
        render.as_json(lines.jsons(listed))
    else:
        _print(lines.entries(listed, verbose=True))
        if not listed:
            options.note(f"{rev} is before the first revision: there is nothing to show.")


def _lines(scripts: ScriptDirectory, current: Sequence[str] = ()) -> ScriptLines:
    from vecmig.cli.script_lines import ScriptLines

    return ScriptLines(scripts, current)


def _print(lines: Iterable[str]) -> None:
    for text in lines:
        render.line(text)


def _say_if_empty(options: Options, scripts: ScriptDirectory) -> None:
    for text in scripts.without_collection:
        options.note(text)
    if not scripts.files:
        options.note('There are no revisions yet. To write the first: vecmig revision -m "first tag"')
