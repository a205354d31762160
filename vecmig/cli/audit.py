"""The command that looks for what is not as it should be, and says what to do about each."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options
from vecmig.errors import Pending

if TYPE_CHECKING:
    from vecmig.runner import Audit, Finding

_COLLECTIONS = typer.Argument(metavar="[COLLECTION]...", help="Which collections; all by default.", show_default=False)
_WIDTH: Final = 80
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
    """Look for vectors nobody vouches for, drifted recipes, models and rights, and broken indexes; exit 4 if any."""
    from vecmig import runner

    found = runner.audit(options(ctx).config(), collection or [], ask=not no_embedder)
    if as_json:
        render.as_json(_json(found))
    else:
        with render.page(_WIDTH):
            show_audit(found)
    if found.findings:
        raise Pending(f"The audit has {_count(len(found.findings), 'finding')}.", hint="What each means: docs/audit.md")


def show_audit(found: Audit) -> None:
    """Print the findings with their fixes, and how many there are."""
    for finding in found.findings:
        _show(finding)
        render.line()
    by = Counter(finding.severity for finding in found.findings)
    counts = {"error": _count(by["error"], "error"), "warning": _count(by["warning"], "warning")}
    words = [counts.get(name, f"{number} not checked") for name, number in by.items()]
    models = "" if found.asked else "; the models were not asked"
    looked = f"{_count(len(found.collections), 'collection')}, {_count(found.tags, 'tag')}{models}"
    render.line(f"{', '.join(words) or 'No findings'} ({looked})")


def _show(finding: Finding) -> None:
    where = f"{finding.collection}: " if finding.collection else ""
    render.line(f"{where}{finding.kind} ({finding.severity})", style=_STYLES[finding.severity])
    rows = {"object": finding.object, "tag": finding.tag, "found": finding.detail, "fix": finding.fix}
    for name, text in rows.items():
        if text:
            render.line(f"  {name:<6}  {text}")


def _json(found: Audit) -> dict[str, Any]:
    return {
        "database": found.database,
        "measured_at": found.measured_at,
        "collections": list(found.collections),
        "tags": found.tags,
        "models_asked": found.asked,
        "findings": [asdict(finding) for finding in found.findings],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
