"""The command that tells beforehand what an upgrade will take."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of, revision_argument, shown_if_others_failed
from vecmig.text import data_size, duration, money

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecmig.config import Config
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

    config = options_of(ctx).config()

    def show(estimates: Sequence[Estimate]) -> None:
        _show(config, revision, estimates, as_json=as_json)

    with shown_if_others_failed(show):
        estimates = runner.estimate(config, revision, rate=rate, max_cost=max_cost)
    show(estimates)


def _show(config: Config, revision: str, estimates: Sequence[Estimate], *, as_json: bool) -> None:
    if as_json:
        render.as_json([_as_json(estimate) for estimate in estimates])
        return
    from vecmig import runner

    passed = runner.passed_by(config, revision)
    if not estimates and not passed:
        render.line("Nothing to do: the database is there already.")
    for one in passed:
        render.line(f"{one.revision}  {one.outcome}  {one.words}")
    for estimate in estimates:
        render.line(f"{estimate.revision}  {estimate.message}", style="bold")
        render.columns(list(_rows(estimate)))
        if estimate.over_budget:
            render.note(
                f"warning: {estimate.revision} may cost more than its budget; it would stop there, and go on once "
                "that is raised.",
                style="yellow",
            )


def _as_json(estimate: Estimate) -> dict[str, Any]:
    return asdict(estimate) | {"seconds": estimate.seconds, "over_budget": estimate.over_budget, "rollback": _ROLLBACK}


def _rows(estimate: Estimate) -> Iterator[tuple[str, str]]:
    yield "  from", estimate.old_tag or "no tag"
    yield "  to", estimate.new_tag
    yield (
        "  records",
        f"{estimate.pending:,} to embed of {estimate.eligible:,} with a text ({estimate.records:,} in all)",
    )
    if estimate.adopted is not None:
        how = "left in place" if estimate.in_place else "copied"
        yield "  adopted", f"{estimate.adopted:,} that have a vector in the source: {how}, and not paid for"
    if estimate.derived is not None:
        yield (
            "  derived",
            f"{estimate.derived:,} from vectors that are there, and not paid for; what the cut costs only evals tell",
        )
    if estimate.texts is not None and estimate.texts < estimate.pending:
        yield "  texts", f"{estimate.texts:,} that differ: each is bought once"
    yield "  chunks", f"about {estimate.chunks:,}"
    yield "  tokens", f"at most about {estimate.tokens:,}"
    yield "  requests", f"about {estimate.requests:,}"
    yield (
        "  cost",
        f"at most about {money(estimate.cost_usd)}" if estimate.priced else "no price_per_million_tokens is given",
    )
    if estimate.spent_usd or estimate.budget_usd is not None:
        yield "  budget", _budget(estimate)
    yield "  time", _time(estimate)
    yield (
        "  disk",
        f"about {data_size(estimate.vector_bytes)} of vectors and {data_size(estimate.index_bytes)} of index",
    )
    yield "  memory", _memory(estimate)
    yield "  rollback", _rollback(estimate)
    for at, lock in enumerate(estimate.locks):
        yield "" if at else "  locks", lock


def _budget(estimate: Estimate) -> str:
    spent = f"{money(estimate.spent_usd)} is spent"
    if estimate.budget_usd is None:
        return f"none; {spent}"
    if not estimate.priced:
        return "cannot be kept without price_per_million_tokens: it would be refused"
    return f"{money(estimate.budget_usd)}, of which {spent}"


def _time(estimate: Estimate) -> str:
    limit = f"at least {duration(estimate.limited_seconds)} because of {estimate.limited_by}"
    if estimate.seconds is None or estimate.rate is None:
        measure = "give --rate, or measure: vecmig upgrade --until expand, then vecmig backfill --limit 1000"
        return f"{limit if estimate.limited_by else 'not known yet'}; {measure}"
    alone = f"about {duration(estimate.pending / estimate.rate)} at {estimate.rate:,.0f} records/s"
    slower = estimate.limited_by and estimate.seconds == estimate.limited_seconds
    return f"{f'{limit}; the provider alone {alone}' if slower else alone}, and the index build"


def _rollback(estimate: Estimate) -> str:
    if not estimate.way_back_cost_usd:
        return _ROLLBACK
    return f"{_ROLLBACK}; embedding everything again would cost about {money(estimate.way_back_cost_usd)}"


def _memory(estimate: Estimate) -> str:
    memory = data_size(estimate.index_memory_mb * 2**20)
    if estimate.index_memory_mb <= estimate.index_memory_cap_mb:
        return f"{memory} for the index build"
    return (
        f"{memory} would hold the index while it is built, but maintenance_work_mem_mb is "
        f"{estimate.index_memory_cap_mb:,}: the build will be many times slower"
    )
