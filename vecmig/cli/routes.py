"""The commands about which tag answers which searches: route, compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.errors import UsageError
from vecmig.text import duration, percent

if TYPE_CHECKING:
    from vecmig.ledger.rows import Route
    from vecmig.ledger.shadows import Question
    from vecmig.runner import Comparison, Interval

_JSON = typer.Option("--json", help="Print one JSON document.")
#: Below this many queries an interval is too narrow to rely on.
_FEW: Final = 30
#: What a line of a query has before its text, and the fewest letters of it that are shown.
_BEFORE_QUESTION: Final = 25
_FEWEST_LETTERS: Final = 44
#: What no comparison of two tags can show.
_CAUTION: Final = (
    "Overlap measures difference, not quality: how far the two tags answer alike,",
    "not which answers better. For that run: vecmig eval",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (route, compare):
        app.command()(command)


def route(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False)],
    shadow: Annotated[
        str | None, typer.Option(metavar="TAG", help="Ask this tag too, in the background, and keep how it differs.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="For which share of the searches; 0.05 unless said.")
    ] = None,
    no_shadow: Annotated[bool, typer.Option("--no-shadow", help="Ask no other tag any more.")] = False,
    ramp: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Let the candidate serve so much of the traffic; 0 ends it.")
    ] = None,
    keep_queries: Annotated[
        bool | None,
        typer.Option("--keep-queries/--no-keep-queries", help="Keep the text of shadowed queries, too."),
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show or set which tags answer searches through readers.

    A second tag may be queried too (shadow), or serve a share of the traffic (ramp).
    """
    from vecmig import runner

    if no_shadow and (shadow is not None or share is not None or keep_queries is not None):
        raise UsageError("--no-shadow ends what --shadow, --share and --keep-queries are about.")
    reads = runner.RouteChange(shadow, share, no_shadow, ramp, keep_queries)
    now = runner.route(options_of(ctx).config(), collection, reads)
    if as_json:
        render.as_json(_route_json(now))
        return
    render.columns(list(_route_rows(now)))
    if now.ramp_share == 1:
        render.note(
            "This is no cutover: the live tag, the live view and the search function stay as they are, "
            "and so does the gate. For the cutover run: vecmig upgrade"
        )


def compare(
    ctx: typer.Context,
    collection: Annotated[str, typer.Argument(show_default=False)],
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="How many queries to list, the worst first.")] = 5,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Compare the answers of two tags, by shadow reads.

    It shows how much they differ, not which is better.
    """
    from vecmig import runner

    comparisons = runner.compare(options_of(ctx).config(), collection, worst=worst)
    if as_json:
        render.as_json([_comparison_json(comparison) for comparison in comparisons])
        return
    for number, comparison in enumerate(comparisons):
        if number:
            render.line()
        _show_comparison(comparison)
    if comparisons:
        render.line()
        for text in _CAUTION:
            render.line(text)
    else:
        render.line(f"No search of {collection} was asked of two tags yet.")
        render.line(f"Begin: vecmig route {collection} --shadow TAG")


# The route ---------------------------------------------------------------------------------------------------------


def _route_rows(route: Route) -> Iterator[tuple[str, str]]:
    yield route.collection, f"version {route.version}"
    yield "  live", route.live or "none"
    if route.standby:
        yield "  standby", route.standby
    if route.candidate:
        yield "  candidate", route.candidate
    if route.candidate and route.ramp_share:
        yield "  ramp", f"{percent(route.ramp_share)} of the searches through readers are served by the candidate"
    if route.shadow:
        kept = "kept as text" if route.keep_queries else "not kept as text"
        yield (
            "  shadow",
            f"{percent(route.shadow_share)} of the searches also ask {route.shadow}; queries are {kept}",
        )


def _route_json(route: Route) -> dict[str, Any]:
    names = ("collection", "live", "standby", "candidate", "version", "keep_queries")
    shares = {name: round(getattr(route, name), 6) for name in ("shadow_share", "ramp_share")}
    return {name: getattr(route, name) for name in names} | {"shadow_tag": route.shadow} | shares


# The comparison ----------------------------------------------------------------------------------------------------


def _show_comparison(comparison: Comparison) -> None:
    pair = comparison.pair
    render.line(f"live   {pair.live_tag}", style="bold")
    render.line(f"other  {pair.other_tag}", style="bold")
    asked = f"{pair.samples:,} searches of {comparison.questions:,} queries"
    render.line(f"{asked}, {pair.first_at:%Y-%m-%d %H:%M} to {pair.last_at:%Y-%m-%d %H:%M} UTC")
    render.line()
    places = f"@{comparison.k}" if comparison.k else "@k"
    rows = [
        (f"overlap{places}", *_interval(comparison.overlap)),
        ("rank-biased overlap", *_interval(comparison.rbo)),
        ("another first answer", *_interval(comparison.top_changed)),
    ]
    render.columns(rows, heads=("", "mean", "95 % interval"), right=[1])
    if comparison.questions < _FEW:
        render.line(f"Fewer than {_FEW} queries: these intervals are too narrow to rely on.")
    render.line()
    latencies = [("live", *_latency(pair.live_ms), "-"), ("other", *_latency(pair.other_ms), _errors(pair.errors))]
    render.columns(latencies, heads=("", "p50", "p95", "no answer"), right=[1, 2])
    if comparison.worst:
        render.line()
        listed = [
            (f"{query.overlap:.2f}", f"{query.rbo:.3f}", "changed" if query.top_changed else "same", _name(query))
            for query in comparison.worst
        ]
        render.columns(listed, heads=("overlap", "RBO", "first", "query"), right=[0, 1])


def _interval(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "-", "-"
    return percent(interval.value), f"{percent(interval.low)} to {percent(interval.high)}"


def _latency(quantiles: tuple[float, float] | None) -> tuple[str, str]:
    return ("-", "-") if quantiles is None else (duration(quantiles[0] / 1000), duration(quantiles[1] / 1000))


def _errors(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items()) or "0"


def _name(question: Question) -> str:
    """Name a query: by its text where that is kept, cut to the line that there is, else by its hash."""
    if question.text is None:
        return question.hash
    text = " ".join(question.text.split())
    room = max(render.width() - _BEFORE_QUESTION, _FEWEST_LETTERS)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    data = asdict(comparison)
    pair: dict[str, Any] = data.pop("pair")
    return pair | data
