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
from vecmig.text import counted, data_size, duration, money, noun, percent, percent_up

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
        rows.append(("  instead", f"{planned.trust.tag}, live for {_days(planned.trust)}"))
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
        yield "  rollback", _rollback_text(collection.rollback, name)
    if trust is not None and verbose:
        yield "  trust", _trust_text(trust)
        yield "  retire", _retire_text(trust)
    elif trust is not None:
        yield "  trust", _short_trust_text(trust)
        if trust.holds:
            yield "  retire", _retire_text(trust)
    for tag in collection.half_retired:
        yield "  half retired", f"{tag}; to finish it: vecmig retire {collection.name} {tag}"


def _rollback_text(way: RollbackStatus, name: Callable[[str], str]) -> str:
    if way.retired:
        return f"none: {name(way.tag)} was retired; to have it again: vecmig revision --to-tag {way.tag}"
    if way.coverage is None:
        return f"none: the vectors of {name(way.tag)} are gone"
    covered = f"{percent(way.share)} covered"
    if not way.ready:
        records = f"{way.lacking:,} of {counted(way.coverage.eligible, 'record')}"
        then = f"{way.theirs:,} are the application's to write" if way.kept_by_theirs else "run: vecmig sync"
        return f"refused: {name(way.tag)} lacks {records}, {covered}; {then}"
    missing = f" ({counted(way.lacking, 'record')} lacking)" if way.lacking else ""
    besides = f" (rolls back {' and '.join(way.besides)} too)" if way.besides else ""
    return f"to {name(way.tag)}, {covered}{missing}, < 1 s: {way.command}{besides}"


def _days(trust: TrustReport) -> str:
    days = int(trust.days * 10) / 10
    return f"{days:g} {noun(days, 'day')}"


def _trust_text(trust: TrustReport) -> str:
    parts = [f"live for {_days(trust)}, {trust.rule.days:g} asked for"]
    checks = {check.name: check for check in trust.checks}
    if trust.rule.eval_days and trust.old_tag is not None:
        asked = f"{counted(trust.eval_days, 'day')} with evals, {trust.rule.eval_days} asked for"
        parts.append(f"{checks['eval days'].detail} ({asked})" if trust.worse else asked)
    if checks["shadow"].value:
        parts.append(f"{percent_up(float(checks['shadow'].value))} of its shadow reads failed")
    return "; ".join(parts)


def _short_trust_text(trust: TrustReport) -> str:
    parts = [f"live {int(trust.days * 10) / 10:g} of {trust.rule.days:g} days"]
    if trust.rule.eval_days and trust.old_tag is not None:
        parts.append(f"evals on {trust.eval_days:,} of {trust.rule.eval_days:,}")
    others = [check.name for check in trust.failed if check.name not in ("days live", "eval days")]
    if others:
        parts.append(f"not met: {', '.join(others)}")
    if any(check.name == "days live" for check in trust.failed):
        when = "from" if len(trust.failed) == 1 else "not before"
        parts.append(f"retire {when} {trust.due:%Y-%m-%d}")
    return ", ".join(parts)


def _retire_text(trust: TrustReport) -> str:
    if trust.holds:
        return f"now: vecmig retire {trust.collection} {trust.old_tag}"
    days = next(check for check in trust.checks if check.name == "days live")
    others = [check for check in trust.failed if check.name != "days live"]
    if trust.ramp:
        return f"not while a candidate serves {percent(trust.ramp)} of the searches"
    first = "; then ".join(check.remedy.text for check in others if check.remedy)
    if days.passed:
        return f"not yet; first {first}"
    when = f"{trust.old_tag} possible from {trust.due:%Y-%m-%d}"
    return f"{when}, but first: {first}" if first else when


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
