"""The command that tells beforehand what an upgrade will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of, revision_argument, shown_if_others_failed
from vecmig.text import counted, data_size, duration, listed, money
from vecmig.wording.standing import launch_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecmig.config import Config
    from vecmig.runner import Estimate, IndexEstimate

#: What a rollback takes, however much there is.
_ROLLBACK: Final = "< 1 s"
#: Of so many revisions each has a page of its own, and of more a line.
_MOST_PAGES: Final = 3
#: What to do where no rate is known.
_UNMEASURED: Final = "give --rate, or measure: vecmig upgrade --until expand, then vecmig backfill --limit 1000"
#: The width of lines that are not broken.
_NO_END: Final = 100_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    # +1 and the like are revisions, not options
    app.command(context_settings={"ignore_unknown_options": True})(plan)


def plan(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="head, a revision id, +1, …", callback=revision_argument)] = "head",
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Records per second to expect of the embedder.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", metavar="USD", help="What it may cost, in place of budget_usd.")
    ] = None,
    in_sum: Annotated[
        bool, typer.Option("--sum", help="A line for each revision and the sum, as where there are many.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Estimate records, tokens, cost, time, disk and locks.

    Nothing is run, written or sent.
    """
    from vecmig import runner

    config = options_of(ctx).config()

    def show(estimates: Sequence[Estimate]) -> None:
        _show(config, revision, estimates, in_sum=in_sum, as_json=as_json)

    with shown_if_others_failed(show):
        estimates = runner.estimate(config, revision, rate=rate, max_cost=max_cost)
    show(estimates)


def _show(config: Config, revision: str, estimates: Sequence[Estimate], *, in_sum: bool, as_json: bool) -> None:
    if as_json:
        revisions = [_as_json(estimate) for estimate in estimates]
        render.as_json({"revisions": revisions, "sum": asdict(_Sum.of(estimates))} if in_sum else revisions)
        return
    from vecmig import runner

    passed = runner.passed_by(config, revision)
    if not estimates and not passed:
        render.line("Nothing to do: the database is there already.")
    for one in passed:
        render.line(f"{one.revision}  {one.outcome}  {one.words}")
    if in_sum or len(estimates) > _MOST_PAGES:
        _show_sum(estimates)
    else:
        for estimate in estimates:
            render.line(f"{estimate.revision}  {estimate.message}", style="bold")
            render.columns(list(_rows(estimate)))
    over = [estimate.revision for estimate in estimates if estimate.over_budget]
    if over:
        they, that = ("it", "that is") if len(over) == 1 else ("they", "those are")
        its = "its budget" if len(over) == 1 else "their budgets"
        render.note(
            f"warning: {listed(over)} may cost more than {its}; {they} would stop there, and go on once {that} raised.",
            style="yellow",
        )


@dataclass(frozen=True, slots=True)
class _Sum:
    """What several revisions take together, one after the other."""

    revisions: int
    records: int
    eligible: int
    pending: int
    adopted: int
    derived: int
    chunks: int
    tokens: int
    requests: int
    cost_usd: float
    #: Whether every recipe that has something to embed says what a token costs.
    priced: bool
    spent_usd: float
    #: None where the rate of one that has something to embed is not known.
    seconds: float | None
    vector_bytes: int
    index_bytes: int
    over_budget: int

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> _Sum:
        """Add up estimates; a table that several of them are about counts each time."""
        rates = [estimate.seconds if estimate.pending else 0.0 for estimate in estimates]
        return cls(
            revisions=len(estimates),
            records=sum(estimate.records for estimate in estimates),
            eligible=sum(estimate.eligible for estimate in estimates),
            pending=sum(estimate.pending for estimate in estimates),
            adopted=sum(estimate.adopted or 0 for estimate in estimates),
            derived=sum(estimate.derived or 0 for estimate in estimates),
            chunks=sum(estimate.chunks for estimate in estimates),
            tokens=sum(estimate.tokens for estimate in estimates),
            requests=sum(estimate.requests for estimate in estimates),
            cost_usd=sum(estimate.cost_usd for estimate in estimates),
            priced=all(estimate.priced or not estimate.pending for estimate in estimates),
            spent_usd=sum(estimate.spent_usd for estimate in estimates),
            seconds=None if None in rates else sum(filter(None, rates)),
            vector_bytes=sum(estimate.vector_bytes for estimate in estimates),
            index_bytes=sum(estimate.index_bytes for estimate in estimates),
            over_budget=sum(estimate.over_budget for estimate in estimates),
        )


def _show_sum(estimates: Sequence[Estimate]) -> None:
    """Print a line for each revision, and what they take together."""
    total = _Sum.of(estimates)
    tags = {estimate.new_tag for estimate in estimates}
    if len(tags) == 1:
        render.line(f"{counted(total.revisions, 'revision')} to {tags.pop()}", style="bold")
    rows = [_line(estimate, estimate.revision) for estimate in estimates]
    rows += [_line(total, "together")] if total.revisions > 1 else []
    heads = ("records", "to embed", "adopted", "derived", "inputs", "tokens", "cost", "time", "revision")
    # a column in which no row has anything says nothing; neither do inputs that are the records themselves
    said = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    if all(row[1] == row[4] for row in rows):
        said.remove(4)
    table = [[row[at] for at in said] for row in rows]
    # the name comes last and is not broken: each revision has one line, however long it is
    for text in render.column_lines(
        table, heads=[heads[at] for at in said], right=frozenset(range(len(said) - 1)), width=_NO_END
    ):
        render.line(text)
    size = f"about {data_size(total.vector_bytes)} of vectors and {data_size(total.index_bytes)} of index"
    unmeasured = [("time", _UNMEASURED)] if total.pending and total.seconds is None else []
    render.columns([*unmeasured, ("disk", size), ("rollback", f"{_ROLLBACK} each")])
    render.note(f"For all of one revision: vecmig plan {estimates[0].revision}")


def _line(one: Estimate | _Sum, name: str) -> tuple[str, ...]:
    cost = money(one.cost_usd) if one.priced else f"{money(one.cost_usd)} + ?" if one.cost_usd else "no price"
    return (
        f"{one.eligible:,}",
        f"{one.pending:,}",
        f"{one.adopted:,}" if one.adopted else "",
        f"{one.derived:,}" if one.derived else "",
        f"{one.chunks:,}",
        f"{one.tokens:,}",
        cost if one.pending else "",
        "" if not one.pending else "?" if one.seconds is None else duration(one.seconds),
        name,
    )


def _as_json(estimate: Estimate) -> dict[str, Any]:
    from vecmig.cli.status_json import launch_json

    derived = {"seconds": estimate.seconds, "over_budget": estimate.over_budget, "rollback": _ROLLBACK}
    return asdict(estimate) | derived | {"launch": launch_json(estimate.launch)}


def _rows(estimate: Estimate) -> Iterator[tuple[str, str]]:
    if estimate.old_tag == estimate.new_tag:
        yield "  index of", estimate.new_tag
    else:
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
    if estimate.ordered:
        yield "  on order", f"{counted(estimate.ordered, 'text')}, which are paid for"
    yield "  chunks", f"about {estimate.chunks:,}"
    yield "  tokens", f"at most about {estimate.tokens:,}"
    yield "  requests", "through the Batch API, at half the price" if estimate.batch else f"about {estimate.requests:,}"
    yield (
        "  cost",
        f"at most about {money(estimate.cost_usd)}" if estimate.priced else "no price_per_million_tokens is given",
    )
    if estimate.spent_usd or estimate.budget_usd is not None:
        yield "  budget", _budget(estimate)
    yield "  time", _time(estimate)
    if estimate.launch is not None:
        yield "  launch", launch_text(estimate.launch)
    yield (
        "  disk",
        f"about {data_size(estimate.vector_bytes)} of vectors and {data_size(estimate.index_bytes)} of index",
    )
    yield "  memory", _memory(estimate)
    for at, index in enumerate(estimate.indexes):
        yield "" if at else "  index", _index(index)
    yield "  rollback", _rollback(estimate)
    for at, lock in enumerate(estimate.locks):
        yield "" if at else "  locks", lock


def _index(index: IndexEstimate) -> str:
    took = f"built in about {duration(index.seconds)}" if index.seconds is not None else "no such build was timed yet"
    chosen = "; as configured" if index.chosen else ""
    return (
        f"{index.type}: about {data_size(index.bytes)}, {data_size(index.memory_mb * 2**20)} of memory, {took}{chosen}"
    )


def _budget(estimate: Estimate) -> str:
    spent = f"{money(estimate.spent_usd)} is spent"
    if estimate.budget_usd is None:
        return f"none; {spent}"
    if not estimate.priced:
        return "cannot be kept without price_per_million_tokens: it would be refused"
    return f"{money(estimate.budget_usd)}, of which {spent}"


def _time(estimate: Estimate) -> str:
    if estimate.batch:
        return "up to 24 h for what is ordered, and the index build"
    limit = f"at least {duration(estimate.limited_seconds)} because of {estimate.limited_by}"
    if estimate.seconds is None or estimate.rate is None:
        return f"{limit if estimate.limited_by else 'not known yet'}; {_UNMEASURED}"
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
