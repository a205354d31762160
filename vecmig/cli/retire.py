"""The command that removes a tag's vectors: it says what goes, and asks for the tag's name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecmig.cli import render
from vecmig.cli.checks import check_json
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator
from vecmig.errors import UsageError
from vecmig.text import counted, data_size, duration, money
from vecmig.wording.standing import days_live, retire_text, rollback_text, short_trust_text, trust_text

if TYPE_CHECKING:
    from vecmig.runner import CollectionStatus, Passed, Retirement, RollbackStatus, TrustReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(retire)


def retire(
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False)],
    tag: Annotated[str, typer.Argument(help="The tag whose vectors are to go.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the tag's name.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the history.")] = None,
) -> None:
    """Delete an old tag's vectors, once the live one is trusted.

    Reads go on. It must be a tag that reads used before.
    """
    from vecmig import runner

    options = options_of(ctx)
    config = options.config()
    planned = runner.retirement(config, collection, tag)
    show_retirement(planned)
    if not yes:
        _ask(planned)
    with Narrator(quiet=options.quiet) as tell:
        done = runner.retire(config, collection, tag, reason=reason, listener=tell)
    render.line(f"{done.tag} is retired; {data_size(done.bytes_freed)} are free again")


def _ask(planned: Retirement) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal on which the tag's name could be typed.",
            state="Nothing was changed.",
            hint="To retire it without being asked, add --yes",
        )
    typed = typer.prompt("To delete it, type the tag's name", default="", show_default=False, err=True)
    if typed.strip() != planned.tag:
        raise UsageError("That is not the tag's name.", state="Nothing was changed.")


def show_retirement(planned: Retirement) -> None:
    """Print what goes with a tag, and what getting it back would take."""
    render.line(f"{planned.collection}: {planned.tag}", style="bold")
    index = f", of which {data_size(planned.index_bytes)} index" if planned.index_bytes else ""
    vectors = f"{counted(planned.vectors, 'vector')} of {counted(planned.records, 'record')}"
    rows = [
        ("  goes", f"{vectors}, {data_size(planned.bytes)}{index}"),
        ("  to get it back", _redone(planned)),
    ]
    if planned.begun:
        rows.append(("  begun", "an earlier run began it and was cut short"))
    if planned.trust is not None:
        rows.append(("  instead", f"{planned.trust.tag}, live for {days_live(planned.trust)}"))
    render.columns(rows)


def _redone(planned: Retirement) -> str:
    again = planned.redone
    cost = f", {money(again.usd)}" if again.priced else ""
    takes = f", about {duration(again.seconds)} at its last rate" if again.seconds is not None else ""
    return f"everything is embedded again: about {again.tokens:,} tokens{cost}{takes}, and the index is built"


# In status ---------------------------------------------------------------------------------------------------------


def rollback_rows(
    collection: CollectionStatus, name: Callable[[str], str], *, verbose: bool
) -> Iterator[tuple[str, str]]:
    """Say what a rollback would find, and how much trust the live tag has earned.

    Args:
        collection: the collection.
        name: what a tag is called here.
        verbose: whether all is said that trust asks for.
    """
    trust = collection.trust
    if collection.rollback is not None:
        yield "  rollback", rollback_text(collection.rollback, name)
    if trust is not None and verbose:
        yield "  trust", trust_text(trust)
        yield "  retire", retire_text(trust)
    elif trust is not None:
        yield "  trust", short_trust_text(trust)
        if trust.holds:
            yield "  retire", retire_text(trust)
    for tag in collection.half_retired:
        yield "  half retired", f"{tag}; to finish it: vecmig retire {collection.name} {tag}"


def passed_json(passed: Passed) -> dict[str, Any]:
    """Return a revision that upgrades pass by as the documented JSON."""
    hold = passed.hold
    return {
        "revision": passed.revision,
        "collection": passed.collection,
        "new_tag": passed.new_tag,
        "hold": None if hold is None else {"at": hold.at, "by": hold.by, "reason": hold.reason},
        "waits_for": passed.waits_for or None,
        "replaced_by": passed.replaced_by or None,
    }


def rollback_json(way: RollbackStatus | None) -> dict[str, Any] | None:
    """Return what a rollback would find, as status has it in its JSON."""
    if way is None:
        return None
    command = way.command if way.ready else "vecmig sync"
    return {
        "to": way.tag,
        "revision": way.revision,
        "coverage": way.share,
        "lacking": way.lacking,
        "budget": way.budget,
        "ready": way.ready,
        "retired": way.retired,
        "command": command if way.coverage is not None else None,
    }


def trust_json(trust: TrustReport | None) -> dict[str, Any] | None:
    """Return how much trust the live tag has earned, as status has it in its JSON."""
    if trust is None:
        return None
    return {
        "revision": trust.revision,
        "old_tag": trust.old_tag,
        "since": trust.since,
        "days": trust.days,
        "days_required": trust.rule.days,
        "eval_days": trust.eval_days,
        "eval_days_required": trust.rule.eval_days,
        "due": trust.due,
        "holds": trust.holds,
        "checks": [check_json(check) for check in trust.checks],
    }
