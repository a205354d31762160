"""The commands that look closer: gate, rejected, search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.checks import show_checks
from vecmig.cli.context import options_of
from vecmig.cli.status_json import gate_json
from vecmig.errors import GateRefused, VecmigError, together
from vecmig.text import counted, noun

if TYPE_CHECKING:
    from vecmig.gate import Report
    from vecmig.homes import Hit

_JSON = typer.Option("--json", help="Print one JSON document.")
_SNIPPET = 100


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (gate, rejected, search):
        app.command()(command)


def gate(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, typer.Argument(metavar="COLLECTION", show_default=False)] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Judge the gate of the revision in progress.

    It is judged as its cutover would judge it; exit with 3 if it refuses.
    """
    from vecmig import runner

    failed: list[VecmigError] = []
    try:
        reports = runner.gate_reports(options_of(ctx).config(), collection or [])
    except VecmigError as error:
        if error.done is None:
            raise
        reports, failed = error.done, [error]
    if as_json:
        render.as_json([{"collection": name, **gate_json(rev, report)} for name, (rev, report) in reports.items()])
    else:
        for name, (revision, report) in reports.items():
            show_gate(name, revision, report)
        if not reports and not failed:
            render.line("No revision is in progress, so there is no gate to judge.")
    failed += [refusal(name, report) for name, (_, report) in reports.items() if not report.passed]
    if failed:
        raise together(failed)


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


def _snippet(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
