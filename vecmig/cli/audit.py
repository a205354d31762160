"""The command that looks for what is not as it should be, and says what to do about each."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.errors import Pending
from vecmig.text import counted

if TYPE_CHECKING:
    from vecmig.config.known_findings import KnownFinding
    from vecmig.runner import Audit, Finding

_COLLECTIONS = typer.Argument(metavar="COLLECTION", help="Which collections; all by default.", show_default=False)
_STYLES: Final = {"error": "bold red", "warning": "bold", "unchecked": "bold"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, _COLLECTIONS] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    no_embedder: Annotated[
        bool, typer.Option("--no-embedder", help="Do not ask the models whether they are what they were.")
    ] = False,
) -> None:
    """Find vectors, recipes, rights and indexes that are wrong.

    Exit with 4 if there are any.
    """
    from vecmig import runner

    report = runner.audit(options_of(ctx).config(), collection or [], ask=not no_embedder)
    if as_json:
        render.as_json(
            {
                "database": report.database,
                "measured_at": report.measured_at,
                "collections": list(report.collections),
                "tags": report.tags,
                "models_asked": report.asked,
                "findings": [asdict(finding) for finding in report.findings],
                "ignored": [asdict(ignored) for ignored in report.ignored],
                "ended": [asdict(ended) for ended in report.ended],
                "unmatched": [asdict(entry) for entry in report.unmatched],
            }
        )
    else:
        show_audit(report)
    if report.findings:
        raise Pending(f"The audit has {counted(len(report.findings), 'finding')}.")


def show_audit(report: Audit) -> None:
    """Print the findings with their fixes, what is known of already, and how many there are."""
    ended = {id(ignored.finding): ignored.entry for ignored in report.ended}
    for finding in report.findings:
        _show(finding, ended.get(id(finding)))
        render.line()
    for ignored in report.ignored:
        where = f"{ignored.finding.collection}: " if ignored.finding.collection else ""
        about = f"{where}{ignored.finding.kind}: {ignored.finding.object}"
        render.line(f"known: {about}, until {ignored.entry.until}: {ignored.entry.reason}")
    for entry in report.unmatched:
        about = "".join(f" of {part}" for part in (entry.collection, entry.object) if part)
        render.line(f"collections.yaml, line {entry.line}: ignore: there is no finding {entry.finding!r}{about}.")
    if report.ignored or report.unmatched:
        render.line()
    by = Counter(finding.severity for finding in report.findings)
    counts = {"error": counted(by["error"], "error"), "warning": counted(by["warning"], "warning")}
    words = [counts.get(name, f"{number} not checked") for name, number in by.items()] or ["No findings"]
    if report.ignored:
        words.append(f"{len(report.ignored)} known")
    models = "" if report.asked else "; the models were not asked"
    looked = f"{counted(len(report.collections), 'collection')}, {counted(report.tags, 'tag')}{models}"
    render.line(f"{', '.join(words)} ({looked})")


def _show(finding: Finding, ended: KnownFinding | None) -> None:
    where = f"{finding.collection}: " if finding.collection else ""
    render.line(f"{where}{finding.kind} ({finding.severity})", style=_STYLES[finding.severity])
    rows = {"object": finding.object, "tag": finding.tag, "found": finding.detail}
    if ended is not None:
        rows["known"] = f"until {ended.until}, which is over: {ended.reason}"
    render.columns([(f"  {name:<6}", text) for name, text in rows.items() if text])
    # on one line, so that a statement can be copied in one piece
    render.line(f"  fix     {finding.fix}")
