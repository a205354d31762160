"""The command that runs suites against tags, and makes a suite where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import add_command, options_of, shown_if_others_failed
from vecmig.cli.progress import Narrator
from vecmig.errors import UsageError
from vecmig.text import counted, percent

if TYPE_CHECKING:
    from vecmig.evaluation import Difference
    from vecmig.ledger.evals import EvalRun, Score, Scores
    from vecmig.runner import Evaluation, MadeSuite

_SHOWN_KEYS: Final = 5
_SHOWN_QUERIES: Final = 5
#: Digits behind the point that a value of one query has in the JSON.
_DIGITS: Final = 4
#: Queries of a suite that is made.
_SIZE: Final = 200
_SIGNIFICANT: Final = 0.05
_NUMBERS: Final = range(1, 9)


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, _eval)


def _eval(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    suite: Annotated[
        list[str] | None, typer.Argument(metavar="SUITE", help="By name; all in evals/ by default.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="A tag; repeat it. Default: standby, live and candidate.")
    ] = None,
    make: Annotated[
        str | None, typer.Option(metavar="KIND", help="Write a suite without labels instead: known-item.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="With --make: which one.")] = None,
    size: Annotated[int | None, typer.Option(min=1, metavar="N", help="With --make: queries; default 200.")] = None,
    title: Annotated[
        str | None, typer.Option(metavar="SQL", help="With --make: a record's title; default its first sentence.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --make: where to; default evals/known-item.yaml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score tags by suites of queries, and compare them.

    The scores are kept.
    """
    from vecmig import runner

    options = options_of(ctx)
    if make is not None:
        if suite or tag:
            raise UsageError("--make writes a suite; it runs none.", hint="Then run: vecmig eval")
        made = runner.make_suite(
            options.config(), make, collection=collection, size=size or _SIZE, title=title, output=output
        )
        _show_made(made, as_json=as_json)
        return
    given = {"--collection": collection, "--size": size, "--title": title, "--output": output}
    if alone := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"{', '.join(alone)} belongs to --make.", hint="Write: vecmig eval --make known-item")

    def show(evaluated: Sequence[Evaluation]) -> None:
        _show(evaluated, as_json=as_json)

    with shown_if_others_failed(show), Narrator(quiet=options.quiet or as_json) as tell:
        evaluated = runner.evaluate(options.config(), suite or [], tags=tag or [], listener=tell)
    show(evaluated)


def _show(evaluated: Sequence[Evaluation], *, as_json: bool) -> None:
    if as_json:
        render.as_json({"suites": [_json(result) for result in evaluated]})
        return
    for at, result in enumerate(evaluated):
        if at:
            render.line()
        show_evaluated(result)


def _show_made(made: MadeSuite, *, as_json: bool) -> None:
    from vecmig.evaluation import CAN_SHOW, CANNOT_SHOW
    from vecmig.text import shown

    suite = made.suite
    if as_json:
        names = ("name", "path", "collection", "k", "fingerprint")
        render.as_json({name: getattr(suite, name) for name in names} | {"queries": len(suite.queries)})
        return
    render.line(f"{shown(suite.path)}: {len(suite.queries):,} queries to {suite.collection}")
    if len(suite.queries) < made.wanted:
        render.note(f"{made.wanted:,} were asked for; no other record has a title that it alone has.")
    render.note(CAN_SHOW)
    render.note(CANNOT_SHOW)


# For people --------------------------------------------------------------------------------------------------------


def show_evaluated(evaluated: Evaluation) -> None:
    """Print what a suite came to: each score beside the coverage it was taken at, then what differs."""
    suite = evaluated.suite
    count = counted(len(suite.queries), "query", "queries")
    head = f"{suite.name}: {count} to {suite.collection}, k {suite.k}, suite {suite.fingerprint[:8]}"
    render.line(head, style="bold")
    names = dict(zip((run.id for run in evaluated.runs), ascii_uppercase, strict=False))
    for run in evaluated.runs:
        place = _place(evaluated, run)
        records = f"{run.eligible:,} records"
        render.line(f"  {names[run.id]}  {run.tag}")
        render.line(f"     {place}coverage {percent(run.coverage)} of {records}")
    _warn_unknown(evaluated)
    render.line()
    _show_scores(evaluated.runs, names)
    for old, new, all_of_them in evaluated.differences():
        overall = [difference for difference in all_of_them if difference.slice is None]
        render.line()
        pair = f"{names[old.id]} → {names[new.id]}"
        render.line(f"  {pair}, at {percent(old.coverage)} and {percent(new.coverage)}", style="bold")
        rows = [
            (
                f"  {difference.metric}",
                f"{difference.mean:+.3f}",
                f"[{difference.low:+.3f}, {difference.high:+.3f}]",
                "p <0.001" if difference.p < 0.001 else f"p {difference.p:.3f}",
                _words(difference),
            )
            for difference in overall
        ]
        render.columns(rows)
        _show_worst(evaluated, old, new)
    if evaluated.pairs:
        render.line("  mean difference as production searches [95 % paired bootstrap interval], p of")
        render.line("  a paired randomisation test, not corrected for looking at several metrics")
    _show_slices(evaluated, names)
    _show_distances(evaluated.runs, names)


def _place(evaluated: Evaluation, run: EvalRun) -> str:
    role = evaluated.route.role(run.tag)
    return "" if role == "kept" else f"{role}, "


def _warn_unknown(evaluated: Evaluation) -> None:
    if evaluated.unknown:
        first = "; ".join(", ".join(key) for key in evaluated.unknown[:_SHOWN_KEYS])
        more = ", …" if len(evaluated.unknown) > _SHOWN_KEYS else ""
        count = len(evaluated.unknown)
        what = "relevant record does not exist and counts" if count == 1 else "relevant records do not exist and count"
        render.line(f"  {count:,} {what} as not found:", style="yellow")
        render.line(f"     {first}{more}")


def _show_scores(runs: Sequence[EvalRun], names: dict[Any, str]) -> None:
    heads = ("", *(f"{names[run.id]} at {percent(run.coverage)}" for run in runs))
    rows = []
    for metric in runs[0].scores:
        rows.append((f"  {metric}", *(_score(run.scores[metric]["search"]) for run in runs)))
        rows.append(("    exact", *(_score(run.scores[metric]["exact"]) for run in runs)))
    rows.append(("  index recall", *(_index_recall(run) for run in runs)))
    render.columns(rows, heads=heads)
    render.line("  mean [95 % bootstrap interval]; exact: without the index, what the model")
    render.line("  can do; index recall: the share of the exact answers that search has found")
    if runs[0].queries < _few():
        render.line(f"  fewer than {_few()} queries: too few to rely on the intervals", style="yellow")


def _few() -> int:
    from vecmig.evaluation import FEW_QUERIES

    return FEW_QUERIES


def _score(score: Score) -> str:
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _index_recall(run: EvalRun) -> str:
    if run.index_recall is None:
        return "no answers"
    return _score(run.index_recall) if run.index_used else "no index used"


def _show_worst(evaluated: Evaluation, old: EvalRun, new: EvalRun) -> None:
    """Print the queries that lost most by the first metric."""
    metric = next(iter(new.scores))
    worse = [change for change in evaluated.changes(old, new, metric) if change.difference < 0]
    if worse:
        render.line(f"  worst by {metric}, old → new")
        render.columns(
            [
                (
                    f"    {change.difference:+.3f}",
                    f"{change.old:.3f} → {change.new:.3f}",
                    " ".join(change.query.split()),
                )
                for change in worse[:_SHOWN_QUERIES]
            ]
        )


def _words(difference: Difference) -> str:
    """Say no more than a difference shows."""
    if difference.few:
        return "too few queries"
    if difference.p >= _SIGNIFICANT:
        return "no difference shown"
    return "higher here" if difference.mean > 0 else "lower here"


def _show_slices(evaluated: Evaluation, names: dict[Any, str]) -> None:
    groups = sorted(evaluated.runs[0].slices)
    if not groups:
        return
    metric = next(iter(evaluated.runs[0].scores))
    shifts = [
        {difference.slice: difference for difference in all_of_them if difference.metric == metric}
        for _, _, all_of_them in evaluated.differences()
    ]
    pairs = [f"{names[old.id]} → {names[new.id]}" for old, new in evaluated.pairs]
    render.line()
    heads = [
        f"  {metric} of slice",
        "queries",
        *(f"{names[run.id]} at {percent(run.coverage)}" for run in evaluated.runs),
    ]
    rows = []
    for group in groups:
        queries = evaluated.runs[0].slices[group].queries
        row = [f"  {group}", f"{queries:,}", *(f"{_mean(run.slices[group].scores, metric)}" for run in evaluated.runs)]
        row += [f"{shift[group].mean:+.3f}" for shift in shifts]
        rows.append((*row, f"too small: below {_few()}" if queries < _few() else ""))
    render.columns(rows, heads=(*heads, *pairs, ""), right=_NUMBERS[: len(heads) + len(pairs) - 1])


def _mean(scores: Scores, metric: str) -> str:
    return f"{scores[metric]['search'].mean:.3f}"


def _show_distances(runs: Sequence[EvalRun], names: dict[Any, str]) -> None:
    quantiles = next((distances for run in runs for distances in run.distances.values() if distances), None)
    if quantiles is None:
        return
    render.line()
    heads = ("  distance of", *(percent(float(name)) for name in quantiles))
    rows = [row for run in runs for row in _distance_rows(run, names[run.id])]
    render.columns(rows, heads=heads, right=_NUMBERS[: len(quantiles)])
    render.line("  A threshold on similarity or distance does not carry over from one tag to")
    render.line("  another: set one for each.")


def _distance_rows(run: EvalRun, name: str) -> Iterator[tuple[str, ...]]:
    for which, what in (("nearest", "the nearest record"), ("last", f"record {run.k}, or the last")):
        if run.distances[which]:
            yield f"  {name}: {what}", *(f"{value:.3f}" for value in run.distances[which].values())


# As JSON -----------------------------------------------------------------------------------------------------------


def _json(evaluated: Evaluation) -> dict[str, Any]:
    suite = evaluated.suite
    return {
        "suite": suite.name,
        "path": suite.path,
        "collection": suite.collection,
        "suite_fingerprint": suite.fingerprint,
        "k": suite.k,
        "queries": len(suite.queries),
        "unknown_keys": [list(key) for key in evaluated.unknown],
        "tags": [_run_json(run) | {"place": _place(evaluated, run).rstrip(", ") or None} for run in evaluated.runs],
        "differences": [
            {"old_tag": old.tag, "new_tag": new.tag, "old_coverage": old.coverage, "new_coverage": new.coverage}
            | {"metrics": [asdict(difference) | {"few": difference.few} for difference in differences]}
            | {"queries": {metric: _changes_json(evaluated, old, new, metric) for metric in new.scores}}
            for old, new, differences in evaluated.differences()
        ],
    }


def _changes_json(evaluated: Evaluation, old: EvalRun, new: EvalRun, metric: str) -> list[dict[str, Any]]:
    return [
        {"query": change.query, "slice": change.slice}
        | {name: round(getattr(change, name), _DIGITS) for name in ("old", "new", "difference")}
        for change in evaluated.changes(old, new, metric)
    ]


def _run_json(run: EvalRun) -> dict[str, Any]:
    names = ("tag", "id", "at", "coverage", "eligible", "records", "index_used")
    return {name: getattr(run, name) for name in names} | {
        "index_recall": asdict(run.index_recall) if run.index_recall else None,
        "scores": _scores_json(run.scores),
        "slices": {
            name: {"queries": group.queries, "few": group.queries < _few(), "scores": _scores_json(group.scores)}
            for name, group in run.slices.items()
        },
        "distances": run.distances,
    }


def _scores_json(scores: Scores) -> dict[str, Any]:
    return {metric: {kind: asdict(score) for kind, score in kinds.items()} for metric, kinds in scores.items()}


# What status shows -------------------------------------------------------------------------------------------------


def eval_json(run: EvalRun) -> dict[str, Any]:
    """Return the last run of a suite as the documented JSON of status."""
    names = ("suite", "at", "coverage", "eligible", "suite_fingerprint")
    means = {metric: kinds["search"].mean for metric, kinds in run.scores.items()}
    return {name: getattr(run, name) for name in names} | {"scores": means}
