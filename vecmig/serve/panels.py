"""The figures of one collection, panel by panel, as values that a template only has to lay out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from markupsafe import Markup

from vecmig.check import By
from vecmig.model.gate import Gate
from vecmig.runner import CollectionStatus, EvalPair, Insight, Status, TagStatus
from vecmig.serve.charts import Series, column, coverage_bar, distribution, interval
from vecmig.text import count, counted, data_size, duration, money, percent, percent_of
from vecmig.wording.checks import asked, found
from vecmig.wording.names import TagNames
from vecmig.wording.standing import (
    retire_text,
    rollback_text,
    route_lines,
    run_text,
    trust_text,
    tuned_words,
)

_WAITED: Final = ("under 10 s", "under 1 min", "under 10 min", "under 1 h", "under 1 day", "longer")
#: How a share of records is called in a bar.
_STATES: Final = ("fresh", "stale", "rejected", "missing")


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag with its figures."""

    tag: str
    short: str
    role: str
    state: str
    coverage: str
    bar: Markup
    counts: tuple[tuple[str, str], ...]
    vectors: str
    index: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check of the gate."""

    name: str
    tone: str
    word: str
    found: str
    asked: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """A run at work."""

    text: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One suite under two tags that follow each other."""

    suite: str
    old: str
    new: str
    old_coverage: str
    new_coverage: str
    metrics: tuple[tuple[str, str, str, str, Markup], ...]
    note: str


def _ordered(collection: CollectionStatus) -> list[TagStatus]:
    order = ("live", "candidate", "standby", "kept")
    return sorted(collection.tags, key=lambda tag: order.index(collection.route.role(tag.tag)))


def tag_rows(collection: CollectionStatus, names: TagNames) -> Iterator[TagRow]:
    """Yield a row for each tag: live, candidate, standby, and those that are kept."""
    for tag in _ordered(collection):
        yield _tag(collection, tag, names)


def _tag(collection: CollectionStatus, tag: TagStatus, names: TagNames) -> TagRow:
    c = tag.coverage
    counts = {state: getattr(c, state) for state in _STATES}
    shares = {state: number / c.eligible for state, number in counts.items()} if c.eligible else {}
    notes = []
    if tag.adopted is not None:
        verified = f"verified, {tag.verified['good']} of {tag.verified['of']}" if tag.verified else "asserted"
        notes.append(f"adopted from {tag.adopted.adoption.expression}: {verified}")
    if c.compared_at is not None:
        notes.append(f"every record was compared at {c.compared_at:%Y-%m-%d %H:%M} UTC")
    if tag.on_order is not None:
        notes.append(f"{counted(tag.on_order.texts, 'text')} on order since {tag.on_order.since:%Y-%m-%d %H:%M} UTC")
    if tag.theirs:
        notes.append(f"{counted(tag.theirs, 'record')} for the application to write")
    size = f", {data_size(tag.index.bytes)}" if tag.index.bytes else ""
    covered = percent_of(c.fresh, c.eligible)
    return TagRow(
        tag=tag.tag,
        short=names.short(tag.tag),
        role=collection.route.role(tag.tag),
        state=tag.state,
        coverage=covered,
        bar=coverage_bar(shares, f"{covered} fresh"),
        counts=tuple((state, count(number)) for state, number in counts.items()),
        vectors=count(tag.vectors),
        index=f"{tag.index.word}{size}",
        notes=tuple(notes),
    )


def series(collection: CollectionStatus, insight: Insight, names: TagNames) -> Iterator[Series]:
    """Yield a line a tag: its records by when they were embedded, up to the coverage that it has now."""
    for tag in reversed(_ordered(collection)):
        points = [(at, part * tag.coverage.share) for part, at in insight.growth.get(tag.tag, ())]
        if points and tag.state != "gone":
            yield Series(names.short(tag.tag), collection.route.role(tag.tag), points)


def work(collection: CollectionStatus, names: TagNames, now: datetime) -> Iterator[ProgressRow]:
    """Yield a row for each run at work, with how far it is."""
    for run in collection.runs:
        share = min(run.done / run.total, 1.0) if run.total else 0.0
        ends_at = run.ends_at
        if ends_at is None and run.state == "running" and run.rate > 0:
            ends_at = now + timedelta(seconds=(run.total - run.done) / run.rate)
        left = f", about {duration((ends_at - now).total_seconds())} left" if ends_at and ends_at > now else ""
        tone = "fresh" if run.state == "running" else "stale"
        bar = coverage_bar({tone: share}, percent(share)) if run.total else Markup()
        yield ProgressRow(run_text(run, names.short) + left, bar)
    if not collection.runs and collection.runner is not None:
        yield ProgressRow(f"{collection.runner.what or 'a run'} on {collection.runner.place}", Markup())


def checks(collection: CollectionStatus) -> Iterator[CheckRow]:
    """Yield a row for each check of the gate in progress."""
    words = {True: ("good", "holds"), False: ("bad", "refuses"), None: ("unasked", "not asked here")}
    for check in collection.gate[1].checks if collection.gate else ():
        tone, word = words[check.passed]
        remedy = check.remedy if check.passed is False else None
        if remedy is not None and remedy.by is By.UPGRADE:
            # an upgrade that goes on sees to it
            tone, word, remedy = "wait", "not yet", None
        yield CheckRow(
            check.name, tone, word, found(check), asked(check), check.detail, "" if remedy is None else remedy.text
        )


def scores(collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Yield the first metric of each suite, by tag with its interval and the coverage that it was taken at."""
    for suite in sorted({run.suite for tag in collection.tags for run in tag.evals}):
        runs = [(tag.tag, run) for tag in _ordered(collection) for run in tag.evals if run.suite == suite]
        metric = next(iter(runs[0][1].scores))
        rows: list[tuple[str, str, str, str]] = []
        for tag, run in runs:
            # a suite that was changed may have another k
            score = next(iter(run.scores.values()))["search"]
            between = f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
            rows.append((collection.route.role(tag), names.short(tag), between, percent(run.coverage)))
        yield f"{suite}, {metric}", rows


def evals(pairs: Sequence[EvalPair], names: TagNames) -> Iterator[EvalRow]:
    """Yield a row for each suite under two tags that follow each other."""
    for pair in pairs:
        reach = max([abs(end) for one in pair.differences for end in (one.low, one.high)], default=0.05) or 0.05
        metrics = tuple(
            (
                one.metric,
                f"{pair.old.scores[one.metric]['search'].mean:.3f}",
                f"{pair.new.scores[one.metric]['search'].mean:.3f}",
                f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]",
                interval(one.low, one.mean, one.high, reach),
            )
            for one in pair.differences
        )
        yield EvalRow(
            suite=f"{pair.new.suite}, {counted(pair.new.queries, 'query', 'queries')}",
            old=names.short(pair.old.tag),
            new=names.short(pair.new.tag),
            old_coverage=percent(pair.old.coverage),
            new_coverage=percent(pair.new.coverage),
            metrics=metrics,
            note=_eval_note(pair),
        )


def _eval_note(pair: EvalPair) -> str:
    """Say what keeps two runs from telling much."""
    if not pair.differences:
        return "the two runs are of different states of the suite, so they are not compared"
    if min(pair.old.coverage, pair.new.coverage) < Gate().coverage:
        return "taken before both tags were complete: what is missing cannot be found, so it says little of the model"
    return "too few queries to rely on the intervals" if any(one.few for one in pair.differences) else ""


def distances(collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, str, str, Markup, str]]:
    """Yield the distances of the nearest and the last record of the answers, by suite and tag, on one scale a suite."""
    for suite in sorted({run.suite for tag in collection.tags for run in tag.evals}):
        rows = [
            (tag, what, run.distances[which])
            for tag in _ordered(collection)
            for run in tag.evals
            if run.suite == suite
            for which, what in (("nearest", "nearest"), ("last", f"record {run.k}"))
            if len(run.distances.get(which, {})) == 5
        ]
        values = [value for _, _, quantiles in rows for value in quantiles.values()]
        for tag, what, quantiles in rows:
            drawn = distribution(quantiles, min(values), max(values), collection.route.role(tag.tag))
            middle = f"{quantiles['0.5']:.3f}"
            yield suite, names.shortest(tag.tag), what, drawn, middle


def shadows(insight: Insight, names: TagNames) -> Iterator[Mapping[str, object]]:
    """Yield what each two tags answered to the same searches."""
    for one in insight.shadows:
        pair, other = one.pair, one.pair.other_ms
        shares = [("overlap", one.overlap), ("rank-biased overlap", one.rbo), ("another first answer", one.top_changed)]
        yield {
            "live": names.short(pair.live_tag),
            "other": names.short(pair.other_tag),
            "samples": f"{counted(pair.samples, 'search', 'searches')} of {counted(one.questions, 'query', 'queries')}",
            "shares": [
                (what, percent(own.value), f"{percent(own.low)} to {percent(own.high)}", column(own.value, 1.0))
                for what, own in shares
                if own is not None
            ],
            "latency": [
                ("live", duration(pair.live_ms[0] / 1000), duration(pair.live_ms[1] / 1000)),
                *([("other", duration(other[0] / 1000), duration(other[1] / 1000))] if other else []),
            ],
            "errors": ", ".join(f"{name} ({times:,})" for name, times in pair.errors.items()),
            "worst": [(f"{query.overlap:.2f}", query.text or query.hash) for query in one.worst],
        }


def after(collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, str]]:
    """Yield what a rollback would find, and how much trust the live tag has earned."""
    if collection.rollback is not None:
        yield "rollback", rollback_text(collection.rollback, names.short)
    if (trust := collection.trust) is not None:
        yield "trust", trust_text(trust)
        yield "retire", retire_text(trust)


def reads(collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, str]]:
    """Yield which tag serves what, and what reads are behind."""
    route, lag = collection.route, collection.lag
    for role in ("live", "candidate", "standby"):
        if (tag := getattr(route, role)) is not None:
            yield role, names.short(tag)
    yield from route_lines(route, names.short)
    behind = f"{counted(lag.records, 'record')}, the oldest for {duration(lag.seconds)}" if lag.records else "nothing"
    yield "reads lack", behind
    if collection.scanned:
        yield "changes", f"found by scanning: {collection.scanned}"
    if collection.control is not None and (tuned := tuned_words(collection.control, only_set=True)):
        yield "tuned", ", ".join(tuned)


def waiting(insight: Insight) -> Iterator[tuple[str, str, Markup]]:
    """Yield how many changes wait, by how long."""
    most = max(insight.waiting, default=0)
    for name, number in zip(_WAITED, insight.waiting, strict=True) if most else ():
        yield name, count(number), column(number, most)


def spend(status: Status, collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, str, str, Markup]]:
    """Yield what embedding has cost, against its budget."""
    budgets = {tag.tag: tag.budget_usd for tag in collection.tags}
    for spend in status.spend:
        row = status.revisions.get(spend.revision)
        if row is None or row.collection != collection.name or row.new_tag is None:
            continue
        budget = budgets.get(row.new_tag) if spend.what == "backfill" else None
        of = f" of {money(budget)}" if budget is not None else ""
        share = {"stale" if spend.usd > 0.9 * budget else "fresh": min(spend.usd / budget, 1.0)} if budget else {}
        bar = coverage_bar(share, percent(min(spend.usd / budget, 1.0))) if budget else Markup()
        yield f"{names.short(row.new_tag)}, {spend.what}", f"{money(spend.usd)}{of}", f"{spend.tokens:,} tokens", bar


def gate_title(collection: CollectionStatus) -> str:
    """Say in a line how the gate in progress stands."""
    if collection.gate is None:
        return ""
    row, report = collection.gate
    held = sum(check.passed is True for check in report.checks)
    unasked = sum(check.passed is None for check in report.checks)
    waits = "not yet" if report.waits_for is None else "refuses"
    word = waits if report.refusing else "open so far" if unasked else "open"
    rest = f", {unasked} not asked here" if unasked else ""
    return f"{row.id}: {word}; {held} of {len(report.checks)} checks hold{rest}"
