"""The command that tells beforehand what an upgrade will take."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options, revision_argument
from vecmig.text import data_size, duration, money

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecmig.runner import Estimate

#: What a rollback takes, however much there is.
_ROLLBACK: Final = "< 1 s"


def register(app: typer.Typer) -> None:
    """Add the command."""
    # +1 and the like are revisions, not options
    app.command(context_settings={"ignore_unknown_options": True})(plan)


def plan(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="head, a revision id, +1, …", callback=revision_argument)] = "head",
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Records per second to expect of the embedder.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", metavar="USD", help="What it may cost, in place of budget_usd.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Estimate records, tokens, cost, time, disk and locks.

    Nothing is run, written or sent.
    """
    from vecmig import runner

    estimates = runner.estimate(options(ctx).config(), revision, rate=rate, max_cost=max_cost)
    if as_json:
        render.as_json([_as_json(found) for found in estimates])
        return
    if not estimates:
        render.line("Nothing to do: the database is there already.")
    for found in estimates:
        render.line(f"{found.revision}  {found.message}", style="bold")
        render.columns(list(_rows(found)))
        if found.over_budget:
            render.note(
                f"warning: {found.revision} may cost more than its budget; it would stop there, and go on once that is "
                "raised.",
                style="yellow",
            )


def _as_json(found: Estimate) -> dict[str, Any]:

    return asdict(found) | {"seconds": found.seconds, "over_budget": found.over_budget, "rollback": _ROLLBACK}


def _rows(found: Estimate) -> Iterator[tuple[str, str]]:
    yield "  from", found.old_tag or "no tag"
    yield "  to", found.new_tag
    yield "  records", f"{found.pending:,} to embed of {found.eligible:,} with a text ({found.records:,} in all)"
    yield "  chunks", f"about {found.chunks:,}"
    yield "  tokens", f"at most about {found.tokens:,}"
    yield "  requests", f"about {found.requests:,}"
    yield (
        "  cost",
        f"at most about {money(found.cost_usd)}" if found.priced else "no price_per_million_tokens is given",
    )
    if found.spent_usd or found.budget_usd is not None:
        yield "  budget", _budget(found)
    yield "  time", _time(found)
    yield "  disk", f"about {data_size(found.vector_bytes)} of vectors and {data_size(found.index_bytes)} of index"
    yield "  memory", _memory(found)
    yield "  rollback", _rollback(found)
    for at, lock in enumerate(found.locks):
        yield "" if at else "  locks", lock


def _budget(found: Estimate) -> str:
    spent = f"{money(found.spent_usd)} is spent"
    if found.budget_usd is None:
        return f"none; {spent}"
    if not found.priced:
        return "cannot be kept without price_per_million_tokens: it would be refused"
    return f"{money(found.budget_usd)}, of which {spent}"


def _time(found: Estimate) -> str:
    limit = f"at least {duration(found.limited_seconds)} because of {found.limited_by}"
    if found.seconds is None or found.rate is None:
        measure = "give --rate, or measure: vecmig upgrade --until expand, then vecmig backfill --limit 1000"
        return f"{limit if found.limited_by else 'not known yet'}; {measure}"
    alone = f"about {duration(found.pending / found.rate)} at {found.rate:,.0f} records/s"
    slower = found.limited_by and found.seconds == found.limited_seconds
    return f"{f'{limit}; the provider alone {alone}' if slower else alone}, and the index build"


def _rollback(found: Estimate) -> str:

    if not found.way_back_cost_usd:
        return _ROLLBACK
    return f"{_ROLLBACK}; embedding everything again would cost about {money(found.way_back_cost_usd)}"


def _memory(found: Estimate) -> str:
    memory = data_size(found.index_memory_mb * 2**20)
    if found.index_memory_mb <= found.index_memory_cap_mb:
        return f"{memory} for the index build"
    return (
        f"{memory} would hold the index while it is built, but maintenance_work_mem_mb is "
        f"{found.index_memory_cap_mb:,}: the build will be many times slower"
    )
