"""The command that tells a pipeline whether something is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.errors import Pending, VecmigError, together

if TYPE_CHECKING:
    from vecmig.cli.context import Options
    from vecmig.runner import Status

_JSON = typer.Option("--json", help="Print one JSON document.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    ctx: typer.Context,
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no database: is there a script for each tag that is asked for?")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Exit with 4 if something is pending.

    That is an object that is gone, a revision to run, or a tag that has no revision yet.
    """
    if offline:
        _check_offline(options_of(ctx), as_json=as_json)
        return
    from vecmig import runner

    status = runner.status(options_of(ctx).config())
    if status.obstacle is not None:
        raise status.obstacle
    unserved = [c for c in status.collections if c.unserved]
    if as_json:
        render.as_json(
            {
                "pending": bool(status.conflicts or status.pending or unserved or status.problems),
                "problems": [{"name": c.name, "problem": e.message, "next": e.hint} for c, e in status.problems],
                "revisions": list(status.pending),
                "collections": [{"name": c.name, "live": c.route.live, "wanted": c.wanted} for c in unserved],
                "conflicts": [{"name": c.collection, "revisions": list(c.revisions)} for c in status.conflicts],
            }
        )
    if pending := _pending(status):
        raise together(pending.values())
    if not as_json:
        render.line("Nothing is pending.")


def _pending(status: Status) -> dict[str, VecmigError]:
    """Return what is pending, by collection: of each what comes first. What upgrades take forward stands together."""
    found: dict[str, VecmigError] = {}
    for collection, problem in status.problems:
        fatal = not collection.tags and not collection.replaced
        found[collection.name] = problem if fatal else Pending(problem.message, hint=problem.hint)
    for conflict in status.conflicts:
        found.setdefault(conflict.collection, conflict.error)
    for one in status.collections:
        if one.missing_recipe:
            what = f"A tag of {one.name} that is in use has no recipe in collections.yaml."
            found.setdefault(one.name, Pending(what, hint=one.missing_recipe))
        if one.unfinished:
            cut_short = f"A downgrade of {one.name} was cut short."
            found.setdefault(one.name, Pending(cut_short, hint=f"Run: {one.unfinished}"))
    told = {id_ for one in status.collections if one.name in found for id_ in one.pending}
    if going := [id_ for id_ in status.pending if id_ not in told]:
        from vecmig.text import listed

        # what comes first in a project may be about another collection
        command = status.upgrade_command if found else status.next_command
        hint = f"Run: {command}" if command else status.next_step
        found[""] = Pending(f"Revisions are pending: {listed(going)}.", hint=hint)
    for one in status.collections:
        if one.unserved and not one.pending:
            reads = f"{one.name} reads {one.route.live or 'no tag'}, and collections.yaml asks for {one.wanted}."
            found.setdefault(one.name, Pending(reads, hint="Run: vecmig revision"))
    return found


def _check_offline(options: Options, *, as_json: bool) -> None:
    """Compare the scripts with collections.yaml, as what is reviewed has both, before there is a database."""
    from vecmig.config.collections import load_collections
    from vecmig.script.moves import movers

    directory = options.scripts()
    collections = load_collections(options.config(database=False).collections_path)
    asked = [
        {"name": name, "newest": script and script.new_tag, "wanted": collections.collection(name).tag}
        for name, script in movers(directory, collections, directory.map.heads).items()
    ]
    if as_json:
        render.as_json({"pending": bool(asked), "collections": asked})
    for one in asked:
        raise Pending(
            f"No revision leads {one['name']} to {one['wanted']}, which collections.yaml asks for: "
            f"the newest one leads to {one['newest'] or 'no tag'}.",
            hint='Run: vecmig revision -m "…"',
        )
    if not as_json:
        render.line("The scripts lead to every tag that collections.yaml asks for.")
