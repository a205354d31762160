"""The commands that look: status, gate, search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecmig.cli import render
from vecmig.cli.context import options
from vecmig.cli.progress import percent
from vecmig.errors import GateRefused, Pending

if TYPE_CHECKING:
    from vecmig.gate import Check, Report
    from vecmig.runner import CollectionStatus, Status, TagStatus

_JSON = typer.Option("--json", help="Print one JSON document.")
_SNIPPET = 100


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, gate, search):
        app.command()(command)


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, _JSON] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 4 if something is pending.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every --interval seconds.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, metavar="SECONDS")] = 2.0,
) -> None:
    """Show each tag with its coverage, the gate beside it, and what to run next."""
    from vecmig import runner

    config = options(ctx).config()
    while True:
        found = runner.status(config)
        render.as_json(_status_json(found)) if as_json else _show_status(found)
        if not watch:
            break
        time.sleep(interval)
        render.line()
    if check and not found.settled:
        raise Pending("Something is pending.", hint=f"Run: {found.next_command}")


def gate(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, typer.Argument(metavar="[COLLECTION]...", show_default=False)] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Judge the gate of the revision in progress, as its cutover would; exit with 3 if it refuses."""
    from vecmig import runner

    reports = runner.gate_reports(options(ctx).config(), collection or [])
    if as_json:
        render.as_json([{"collection": name, **gate_json(rev, report)} for name, (rev, report) in reports.items()])
    else:
        for name, (revision, report) in reports.items():
            render.line(f"{name}: gate of {revision} to {report.tag}", style="bold")
            show_checks(report)
    refused = [(name, report) for name, (_, report) in reports.items() if not report.passed]
    if refused:
        name, report = refused[0]
        raise GateRefused(
            f"The gate of {name} refuses: {', '.join(check.name for check in report.failed)}.",
            report=None,
            hint=f"Run: {report.failed[0].remedy}",
        )


def search(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False)],
    text: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many answers.")] = 10,
    tag: Annotated[str | None, typer.Option(help="Search this tag instead of the live one.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Search a collection: the tag's own recipe embeds the question, and that tag's vectors answer."""
    from vecmig.reader import Reader

    config = options(ctx).config()
    with Reader(config.database_url, config.schema) as reader:
        hits = reader.search(collection, text, k, tag=tag)
    if as_json:
        fields = ("key", "tag", "chunk", "distance", "text", "record")
        render.as_json([{name: getattr(hit, name) for name in fields} for hit in hits])
        return
    rows = [(f"{hit.distance:.4f}", ", ".join(map(str, hit.key)), _snippet(hit.text)) for hit in hits]
    if hits:
        render.note(f"tag {hits[0].tag}")
    render.columns(rows, heads=("distance", "key", "text"))


# Status ------------------------------------------------------------------------------------------------------------


def _show_status(found: Status) -> None:
    render.line(f"database  {found.database}")
    render.line(f"current   {', '.join(found.current) or 'nothing applied'}")
    render.line(f"heads     {', '.join(found.heads) or 'no revisions'}")
    if found.pending:
        phases = [f"{r} ({_phase(found, r)})" for r in found.pending]
        render.line(f"pending   {', '.join(phases)}")
    for collection in found.collections:
        render.line()
        _show_collection(collection)
    render.line()
    render.line(f"next      {found.next_command or 'nothing: all is done'}")


def _phase(found: Status, revision: str) -> str:
    rows = [row for row in found.in_progress.values() if row.id == revision]
    return rows[0].phase if rows else "not started"


def _show_collection(collection: CollectionStatus) -> None:
    blank = collection.records - collection.eligible
    without = f", {blank:,} without text" if blank else ""
    render.line(f"{collection.name}  {collection.records:,} records{without}", style="bold")
    if not collection.tags:
        render.line("  no tag yet")
        return
    heads = ("", "state", "coverage", "fresh", "stale", "missing", "rejected", "vectors", "index", "tag")
    render.columns([_tag_row(collection, tag) for tag in collection.tags], heads=heads, right=range(2, 8))
    if collection.outbox.records:
        render.line(f"  {collection.outbox.records:,} changed records wait, the oldest since {_since(collection)}")
    if collection.gate is not None:
        row, report = collection.gate
        render.line(f"  gate of {row.id}: {'open' if not _refusing(report) else 'refuses'}", style="bold")
        show_checks(report)


def _since(collection: CollectionStatus) -> str:
    oldest = collection.outbox.oldest
    return f"{oldest:%Y-%m-%d %H:%M:%S} UTC" if oldest else "now"


def _tag_row(collection: CollectionStatus, tag: TagStatus) -> tuple[str, ...]:
    mark = {collection.route.live: "→", collection.route.candidate: "+", collection.route.standby: "←"}
    c = tag.coverage
    counts = (c.fresh, c.stale, c.missing, c.rejected, tag.vectors)
    return (
        mark.get(tag.tag, " "),
        tag.state,
        percent(c.share),
        *(f"{count:,}" for count in counts),
        tag.index.word,
        tag.tag,
    )


def _status_json(found: Status) -> dict[str, Any]:
    return {
        "database": found.database,
        "current": list(found.current),
        "heads": list(found.heads),
        "pending": list(found.pending),
        "settled": found.settled,
        "next": found.next_command,
        "measured_at": found.measured_at,
        "collections": [_collection_json(collection) for collection in found.collections],
    }


def _collection_json(collection: CollectionStatus) -> dict[str, Any]:
    route = collection.route
    return {
        "name": collection.name,
        "live_tag": route.live,
        "standby_tag": route.standby,
        "candidate_tag": route.candidate,
        "wanted_tag": collection.wanted,
        "records": collection.records,
        "eligible": collection.eligible,
        "changed": collection.outbox.records,
        "oldest_change": collection.outbox.oldest,
        "tags": [_tag_json(tag) for tag in collection.tags],
        "gate": gate_json(collection.gate[0].id, collection.gate[1]) if collection.gate else None,
    }


def _tag_json(tag: TagStatus) -> dict[str, Any]:
    c = tag.coverage
    return {
        "tag": tag.tag,
        "state": tag.state,
        "dims": tag.dims,
        "records": tag.records,
        "vectors": tag.vectors,
        "fresh": c.fresh,
        "stale": c.stale,
        "missing": c.missing,
        "rejected": c.rejected,
        "coverage": c.share,
        "index": tag.index.word,
        "index_bytes": tag.index.bytes,
        "evals": [],
    }


# The gate ----------------------------------------------------------------------------------------------------------


def gate_json(revision: str, report: Report) -> dict[str, Any]:
    """Give a gate's report as the documented JSON."""
    fields = ("name", "passed", "value", "required", "detail")
    checks = [{name: getattr(check, name) for name in fields} for check in report.checks]
    return {"revision": revision, "passed": not _refusing(report), "checks": checks}


def show_checks(report: Report) -> None:
    """Print the checks of a gate, one a line."""
    heads = ("", "check", "value", "required", "")
    render.columns([_check_row(check) for check in report.checks], heads=heads)


def _check_row(check: Check) -> tuple[str, ...]:
    word = {True: "ok", False: "NO", None: "?"}[check.passed]
    return (f"  {word}", check.name, _value(check, check.value), _value(check, check.required), check.detail)


def _value(check: Check, value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and check.name in ("coverage", "freshness", "way back"):
        return percent(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _refusing(report: Report) -> bool:
    return any(check.passed is False for check in report.checks)


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SNIPPET else f"{line[: _SNIPPET - 1]}…"
