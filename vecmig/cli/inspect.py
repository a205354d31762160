"""The commands that look: status, gate, search."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.checks import show_checks
from vecmig.cli.context import options_of
from vecmig.cli.control import (
    paused_text,
    run_text,
    tuned_words,
)
from vecmig.cli.evals import eval_text
from vecmig.cli.retire import show_rollback
from vecmig.cli.routes import route_lines
from vecmig.cli.status_json import gate_json, status_json
from vecmig.errors import GateRefused, Pending
from vecmig.text import counted, duration, money, noun, percent_of

if TYPE_CHECKING:
    from datetime import datetime

    from vecmig.freshness.changes import Lag
    from vecmig.gate import Report
    from vecmig.homes import Hit
    from vecmig.ledger.control import Run
    from vecmig.runner import CollectionStatus, Status, TagStatus

_JSON = typer.Option("--json", help="Print one JSON document.")
_SNIPPET = 100
_ANY = 10_000
#: The columns of the tags' table that are numbers.
_FIGURES = frozenset(range(2, 8))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, gate, rejected, search):
        app.command()(command)


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, _JSON] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 4 if something is pending.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every --interval seconds.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, metavar="SECONDS")] = 2.0,
) -> None:
    """Show tags, coverage, the gate, and what to run next."""
    from vecmig import runner

    config = options_of(ctx).config()
    while True:
        seen = runner.status(config)
        render.as_json(status_json(seen)) if as_json else show_status(seen)
        if not watch:
            break
        time.sleep(interval)
        render.line()
    if check:
        runner.verify(config)
    if check and not seen.settled:
        command = seen.next_command
        raise Pending("Something is pending.", hint=f"Run: {command}" if command else "Run: vecmig status")


def gate(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, typer.Argument(metavar="COLLECTION", show_default=False)] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Judge the gate of the revision in progress.

    It is judged as its cutover would judge it; exit with 3 if it refuses.
    """
    from vecmig import runner

    reports = runner.gate_reports(options_of(ctx).config(), collection or [])
    if as_json:
        render.as_json([{"collection": name, **gate_json(rev, report)} for name, (rev, report) in reports.items()])
    else:
        for name, (revision, report) in reports.items():
            show_gate(name, revision, report)
        if not reports:
            render.line("No revision is in progress, so there is no gate to judge.")
    for name, (_, report) in reports.items():
        if not report.passed:
            raise refusal(name, report)


def rejected(
    ctx: typer.Context,
    collection: Annotated[str | None, typer.Argument(show_default=False, help="Which one; all by default.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Let the next backfill or sync try them again.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """List the records that cannot be embedded, and why."""
    from vecmig import runner

    config = options_of(ctx).config()
    if retry:
        count = runner.retry_rejected(config, collection)
        again = f"{counted(count, 'record')} {noun(count, 'is', 'are')} tried again"
        render.line(f"{again} by the next vecmig backfill or vecmig sync.")
        return
    records = runner.rejected(config, collection)
    if as_json:
        fields = ("collection", "tag", "key", "reason", "at")
        render.as_json([{name: getattr(record, name) for name in fields} for record in records])
        return
    rows = [(record.collection, ", ".join(map(str, record.key)), record.tag, record.reason) for record in records]
    render.columns(rows, heads=("collection", "key", "tag", "reason"))
    if not records:
        render.line("No record is rejected.")


def search(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False)],
    text: Annotated[str, typer.Argument(help="The query.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many answers.")] = 10,
    tag: Annotated[str | None, typer.Option(help="Search this tag instead of the live one.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="A condition over the source's columns; %s stands for a --param.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="VALUE", help="The value of the next %s in --where; may be repeated.")
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Search a collection by text.

    The tag's own recipe embeds the query, and that tag's vectors answer.
    """
    from vecmig.reader import Reader

    with Reader.for_project(options_of(ctx).config()) as reader:
        # a search that names its tag is not the application's: neither ramped, nor shadowed, nor counted by a gate
        asked = reader.live_tag(collection) if tag is None else tag
        hits = reader.search(collection, text, k, tag=asked, where=where, params=param or ())
    if as_json:
        fields = ("key", "tag", "chunk", "distance", "text", "record")
        render.as_json([{name: getattr(hit, name) for name in fields} for hit in hits])
    else:
        show_hits(hits)


def show_hits(hits: Sequence[Hit], *, longest: int = _SNIPPET) -> None:
    """Print the answers of a search, one a line, each text cut to ``longest`` characters."""
    rows = [(f"{hit.distance:.4f}", ", ".join(map(str, hit.key)), _snippet(hit.text, longest)) for hit in hits]
    if hits:
        render.note(f"tag {hits[0].tag}")
    render.columns(rows, heads=("distance", "key", "text"))


# Status ------------------------------------------------------------------------------------------------------------


def show_status(project: Status) -> None:
    """Print how everything stands."""
    render.line(f"database  {project.database}")
    render.line(f"current   {', '.join(project.current) or 'nothing applied'}")
    render.line(f"heads     {', '.join(project.heads) or 'no revisions'}")
    if project.pending:
        phases = [f"{r} ({_phase(project, r)})" for r in project.pending]
        render.line(f"pending   {', '.join(phases)}")
    for passed in project.passed:
        render.line(f"{passed.outcome:<9} {passed.revision} {passed.words}")
    for spend in project.spend:
        if spend.usd > 0:
            render.line(f"spent     {money(spend.usd)} for {spend.revision}: {spend.tokens:,} tokens by {spend.what}")
    for collection in project.collections:
        render.line()
        _show_collection(collection)
        # print who is at work on a collection, and what operators want of them, also while no run is
        control = collection.control
        rows = []
        if control is not None and control.paused:
            rows.append(("  paused", f"{paused_text(control)}; to go on: vecmig resume {collection.name}"))
        if control is not None and (tuned := tuned_words(control, only_set=True)):
            rows.append(("  tuned", ", ".join(tuned)))
        if collection.failure is not None:
            rows.append(("  last run", collection.failure.words))
        rows += [("  at work", f"{run_text(run)}, seen {_ago(run, project.measured_at)}") for run in collection.runs]
        render.columns(rows)
    render.line()
    render.line(f"next      {project.next_step}")


def _phase(project: Status, revision: str) -> str:
    row = project.revisions.get(revision)
    if row is None:
        return "not started"
    return row.phase if row.withdrawn_at is None else "rolled back"


def _show_collection(collection: CollectionStatus) -> None:
    blank = collection.records - collection.eligible
    without = f", {blank:,} without text" if blank else ""
    records = f"  {counted(collection.records, 'record')}{without}" if collection.tags or not collection.problem else ""
    render.line(f"{collection.name}{records}", style="bold")
    problem = collection.problem
    aside = [collection.detached.text] if collection.detached else []
    lines = f"{problem.message}\n{problem.hint}".strip().split("\n") if problem else []
    for text in [*aside, *collection.notes, *lines]:
        render.line(f"  {text}")
    if collection.without_key:
        render.line(f"  left out: {counted(collection.without_key, 'record')} without a key, which has NULL in it")
    if not collection.tags:
        if collection.problem is None:
            render.line("  no tag yet")
        return
    heads = ("", "state", "coverage", "fresh", "stale", "missing", "rejected", "vectors", "index", "tag")
    _show_tags([_tag_row(collection, tag) for tag in collection.tags], heads)
    for tag in collection.tags:
        for run in tag.evals:
            render.line(f"  eval of {_mark(collection, tag) or tag.tag}: {eval_text(run)}")
    for what, text in route_lines(collection.route):
        render.line(f"  {what} {text}")
    for text in _tracking_lines(collection):
        render.line(f"  {text}")
    if collection.gate is not None:
        row, report = collection.gate
        render.line(f"  gate of {row.id}: {_verdict(report)}", style="bold")
        show_checks(report.checks)
    show_rollback(collection)


def _ago(run: Run, now: datetime) -> str:
    return f"{duration(round(max((now - run.seen_at).total_seconds(), 0)))} ago" if run.seen_at else "never"


def _show_tags(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> None:
    """Print one row for each tag; where that is too wide, the tag below its figures."""
    whole = render.column_lines(rows, heads=heads, right=_FIGURES, width=_ANY)
    if max(map(len, whole)) <= render.width():
        below = [""] * len(rows)
    else:
        whole = render.column_lines([row[:-1] for row in rows], heads=heads[:-1], right=_FIGURES, width=_ANY)
        below = [f"   {row[-1]}" for row in rows]
    for text, tag in zip(whole, ["", *below], strict=True):
        render.line(text)
        if tag:
            render.line(tag)


def changed_text(lag: Lag) -> str:
    """Say what some tags are behind: 1 record changed 12 s ago; 5 records changed, the oldest 2 min 3 s ago."""
    if lag.records == 1:
        return f"1 record changed {duration(lag.seconds)} ago"
    return f"{lag.records:,} records changed, the oldest {duration(lag.seconds)} ago"


def _tracking_lines(collection: CollectionStatus) -> Iterator[str]:
    """Say what is known to have changed, and what would not be known."""
    if collection.lag.records:
        yield changed_text(collection.lag)
    for note in collection.full_pass:
        yield f"full pass needed: {note.reason} (since {note.first:%Y-%m-%d %H:%M} UTC)"
    if collection.scanned:
        yield f"changes are found by scanning: {collection.scanned}"
    for what, name in collection.silent:
        who = (
            f"subscription {name}" if what == "subscription" else f"{name}, whose session_replication_role is replica,"
        )
        yield f"writes by {who} fire no trigger, so only a full pass finds them; what helps: vecmig audit"


def _tag_row(collection: CollectionStatus, tag: TagStatus) -> tuple[str, ...]:
    c = tag.coverage
    counts = (c.fresh, c.stale, c.missing, c.rejected, tag.vectors)
    return (
        _mark(collection, tag) or " ",
        tag.state,
        percent_of(c.fresh, c.eligible),
        *(f"{count:,}" for count in counts),
        tag.index.word,
        tag.tag,
    )


def _mark(collection: CollectionStatus, tag: TagStatus) -> str:
    marks = {collection.route.live: "→", collection.route.candidate: "+", collection.route.standby: "←"}
    return marks.get(tag.tag, "")


# The gate ----------------------------------------------------------------------------------------------------------


def show_gate(collection: str, revision: str, report: Report) -> None:
    """Print the gate of a collection's revision with its checks."""
    render.line(f"{collection}: gate of {revision} to {report.tag}", style="bold")
    show_checks(report.checks)


def refusal(collection: str, report: Report) -> GateRefused:
    """Return the error of a gate of which a check does not hold."""
    return GateRefused(
        f"The gate of {collection} refuses: {', '.join(check.name for check in report.failed)}.",
        hint=report.remedies,
    )


def _verdict(report: Report) -> str:
    if report.passed:
        return "open"
    refuses = any(check.passed is False for check in report.checks)
    return "refuses" if refuses else "open, but for the canary and the spot check, which vecmig gate runs"


def _snippet(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
