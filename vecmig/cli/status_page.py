"""How everything stands, for people: a verdict on each collection, what is not right with it, and what to run next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from vecmig.cli import render
from vecmig.cli.checks import show_checks
from vecmig.cli.retire import rollback_rows
from vecmig.runner import verdict_of
from vecmig.text import count, counted, duration, money, percent_of
from vecmig.wording.names import TagNames
from vecmig.wording.standing import eval_text, launch_text, paused_text, route_lines, run_text, tuned_words

if TYPE_CHECKING:
    from datetime import datetime

    from vecmig.freshness.changes import Lag
    from vecmig.gate import Report
    from vecmig.ledger.control import Run
    from vecmig.runner import CollectionStatus, Status, TagStatus

_ANY: Final = 10_000
#: So many revisions of one script are named each.
_FEW: Final = 4
#: Columns of a terminal from which on tags have their full names.
_WIDE: Final = 120
_HEADS: Final = ("", "state", "coverage", "fresh", "stale", "missing", "rejected", "vectors", "index", "tag")
_FIGURES: Final = frozenset(range(2, 8))
#: What is left out of the table of tags on a narrow terminal where it is 0 for all of them.
_SPARED: Final = frozenset({4, 5, 6})
_STYLES: Final = {
    "OK": "bold green",
    "AT WORK": "bold cyan",
    "PENDING": "bold yellow",
    "ATTENTION": "bold red",
    "BLOCKED": "bold red",
}


def show_status(project: Status, *, verbose: bool = False) -> None:
    """Print how everything stands; ``verbose`` with every check, and with all that trust in a tag asks for."""
    with render.breaking():
        _show_labelled("database", project.database)
        _show_labelled("current", _listed(project, project.current) or "nothing applied")
        _show_labelled("heads", _listed(project, project.heads) or "no revisions")
        if project.obstacle is not None:
            _show_labelled("blocked", project.obstacle.message, style="bold red")
        if project.pending:
            _show_labelled("pending", _listed(project, project.pending, lambda r: _phase(project, r)))
        for passed in project.passed:
            _show_labelled(passed.outcome, f"{passed.revision} {passed.words}")
        for spend in project.spend:
            if spend.usd > 0:
                tokens = f"{spend.tokens:,} tokens by {spend.what}"
                _show_labelled("spent", f"{money(spend.usd)} for {spend.revision}: {tokens}")
        for collection in project.collections:
            render.line()
            _Section(project, collection, verbose=verbose).show()
        render.line()
        first, *others = project.next_step.split("\n")
        _show_labelled("next", first, style="bold")
    for text in others:
        # it may be to be copied
        render.line(f"{'':<10}{text}")


def _show_labelled(label: str, text: str, *, style: str | None = None) -> None:
    for line in render.column_lines([(f"{label:<8}", text)], width=render.width()):
        render.line(line, style=style)


def _listed(project: Status, revisions: Sequence[str], words: Callable[[str], str] = lambda _: "") -> str:
    """Join revisions, each with what is said of it; of many that are one script over a pattern, how many they are."""
    script_of = {id_: script for script, ids in project.patterns.items() for id_ in ids}
    groups: dict[tuple[str, str], list[str]] = {}
    for id_ in revisions:
        groups.setdefault((script_of.get(id_, id_), words(id_)), []).append(id_)
    texts = []
    for (script, said), ids in groups.items():
        if len(ids) > _FEW:
            many = f"{len(ids)} of {len(project.patterns[script])} collections"
            texts.append(f"{script} ({', '.join(filter(None, [many, said]))})")
        else:
            texts += [f"{id_} ({said})" if said else id_ for id_ in ids]
    return ", ".join(texts)


def _phase(project: Status, revision: str) -> str:
    row = project.revisions.get(revision)
    if row is None:
        return "not started"
    return row.phase if row.withdrawn_at is None else "rolled back"


class _Section:
    """What is said of one collection."""

    def __init__(self, project: Status, collection: CollectionStatus, *, verbose: bool) -> None:
        self._project, self._collection, self._verbose = project, collection, verbose
        route = collection.route
        names = [tag.tag for tag in collection.tags]
        self._names = TagNames([*names, route.live, route.standby, route.candidate, route.shadow_tag])
        #: What a tag is called in a line.
        self._name: Callable[[str], str] = str if verbose or render.width() >= _WIDE else self._names.shortest

    def show(self) -> None:
        """Print it."""
        verdict = verdict_of(self._project, self._collection)
        render.line(self._verdict_line(), style=_STYLES[verdict.word])
        self._show_source()
        self._show_control()
        if self._collection.tags:
            _show_tags(self._collection, self._names, verbose=self._verbose)
            for text in self._lines():
                render.line(f"  {text}")
            self._show_gate()
            if self._collection.launch is not None:
                render.columns([("  launch", launch_text(self._collection.launch))])
            render.columns(list(rollback_rows(self._collection, self._name, verbose=self._verbose)))

    def _verdict_line(self) -> str:
        """Return the verdict with what most want to know, within the line if that can be."""
        verdict, collection = verdict_of(self._project, self._collection), self._collection
        # a problem stands in full below it
        why = "" if verdict.word in ("OK", "PENDING") or collection.problem else verdict.why
        lines = [
            f"{collection.name}  {verdict.word}  {', '.join(filter(None, (why, *_facts(collection, name))))}"
            for name in (self._names.short, self._names.shortest)
        ]
        return next((line for line in lines if render.cells(line) <= render.width()), lines[-1])

    def _show_source(self) -> None:
        """Print how many records there are, and what is wrong with the collection itself."""
        collection, problem = self._collection, self._collection.problem
        blank = collection.records - collection.eligible
        if collection.tags or not problem:
            without = f", {blank:,} without text" if blank else ""
            render.line(f"  {counted(collection.records, 'record')}{without}")
        aside = [collection.detached.text] if collection.detached else []
        lines = f"{problem.message}\n{problem.hint}".strip().split("\n") if problem else []
        for text in [*aside, *collection.notes, *lines]:
            render.line(f"  {text}")
        if collection.without_key:
            render.line(f"  left out: {counted(collection.without_key, 'record')} without a key, which has NULL in it")

    def _lines(self) -> Iterator[str]:
        collection = self._collection
        for tag in collection.tags:
            for run in tag.evals:
                yield f"eval of {_mark(collection, tag) or self._name(tag.tag)}: {eval_text(run)}"
            yield from self._adopted_lines(tag)
            if tag.on_order is not None:
                yield f"on order: {counted(tag.on_order.texts, 'text')} since {tag.on_order.since:%Y-%m-%d %H:%M} UTC"
        for what, text in route_lines(collection.route, self._name):
            yield f"{what} {text}"
        yield from _tracking_lines(collection, self._project.measured_at)

    def _adopted_lines(self, tag: TagStatus) -> Iterator[str]:
        """Say what a tag has adopted, what is known of it, and who writes so that it is stale."""
        if tag.adopted is None:
            return
        said, found, refuted = tag.adopted.adoption, tag.verified, tag.refuted
        known = f"verified, {found['good']} of {found['of']}" if found else "asserted: no spot check has compared it"
        if refuted:
            known = f"asserted: {refuted['good']} of {refuted['of']} are what the recipe gives"
        if found and found.get("taken_over"):
            known += f", {count(found['taken_over'])} taken over since"
        how = "in place" if said.in_place else "copied"
        yield f"adopted {_mark(self._collection, tag) or self._name(tag.tag)}: {said.expression} {how}; {known}"
        if tag.theirs:
            then = "the application's to write, or to empty" if said.fill else "the application's to write; fill is off"
            yield f"{counted(tag.theirs, 'record')} without a fresh vector: {then}"
        for role, application, records in tag.text_writers:
            who = f"{role} ({application})" if application else role
            yield f"{who} changed the text of {counted(records, 'record')}, and not the vector in {said.expression}"

    def _show_gate(self) -> None:
        """Print the gate: all of it if that is asked for, else what a person has to see to, and the rest in a line."""
        if self._collection.gate is None:
            return
        row, report = self._collection.gate
        passed = f"{counted(sum(check.passed is True for check in report.checks), 'check')} passed"
        if self._verbose:
            render.line(f"  gate of {row.id}: {_judged(report)}", style="bold")
            show_checks(report.checks)
        elif not report.refusing:
            render.line(f"  gate of {row.id}: {_judged(report)}; {passed}")
        elif report.waits_for is None:
            names = ", ".join(check.name for check in report.refusing)
            render.line(f"  gate of {row.id}: not before vecmig upgrade has seen to {names}; {passed}")
        else:
            render.line(f"  gate of {row.id}: {_judged(report)}", style="bold")
            show_checks(report.refusing)
            render.line(f"  {passed}")

    def _show_control(self) -> None:
        """Print who is at work on it, and what operators want of them, also while no run is."""
        control, rows = self._collection.control, []
        if control is not None and control.paused:
            rows.append(("  paused", f"{paused_text(control)}; to go on: vecmig resume {self._collection.name}"))
        if control is not None and (tuned := tuned_words(control, only_set=True)):
            rows.append(("  tuned", ", ".join(tuned)))
        if self._collection.failure is not None:
            rows.append(("  last run", self._collection.failure.words))
        runner = self._collection.runner
        if runner is not None and not any(run.what != "sync" for run in self._collection.runs):
            rows.append(("  at work", f"{runner.what or 'a run'} on {runner.place}"))
        for run in self._collection.runs:
            seen = f"seen {_ago(run, self._project.measured_at)}"
            rows.append(("  at work", f"{run_text(run, self._name)}, {seen}"))
        render.columns(rows)


def _facts(collection: CollectionStatus, name: Callable[[str], str]) -> Iterator[str]:
    """Say which tag reads use, what comes after it, whether a rollback is ready, and what reads are behind."""
    route, tags = collection.route, {tag.tag: tag for tag in collection.tags}
    if route.live is not None:
        yield f"live {name(route.live)}"
    elif route.candidate is None:
        yield "no tag yet" if not tags else "no live tag"
    candidate = tags.get(route.candidate or "")
    if candidate is not None:
        phase = collection.gate[0].phase if collection.gate else candidate.state
        covered = percent_of(candidate.coverage.fresh, candidate.coverage.eligible)
        yield f"{name(candidate.tag)} {phase} at {covered}"
    row = collection.gate[0] if collection.gate else None
    if row is not None and row.index_only:
        yield f"{row.id}: another index, {row.phase}"
    if held := [passed.revision for passed in collection.held if passed.hold]:
        yield f"{', '.join(held)} on hold"
    way = collection.rollback
    if way is not None and not way.retired:
        yield "rollback ready" if way.ready else "rollback refused" if way.coverage else "no rollback"
    live = tags.get(route.live or "")
    if live is not None:
        yield f"{live.coverage.stale + live.coverage.missing:,} behind"


def _judged(report: Report) -> str:
    if report.passed:
        return "open"
    return "refuses" if report.refusing else "open, but for the canary and the spot check, which vecmig gate runs"


def _ago(run: Run, now: datetime) -> str:
    return f"{duration(round(max((now - run.seen_at).total_seconds(), 0)))} ago" if run.seen_at else "never"


def changed_text(lag: Lag) -> str:
    """Say what some tags are behind: 1 record changed 12 s ago; 5 records changed, the oldest 2 min 3 s ago."""
    if lag.records == 1:
        return f"1 record changed {duration(lag.seconds)} ago"
    return f"{lag.records:,} records changed, the oldest {duration(lag.seconds)} ago"


def _tracking_lines(collection: CollectionStatus, now: datetime) -> Iterator[str]:
    """Say what is known to have changed, since when, and what would not be known."""
    if collection.lag.records:
        yield changed_text(collection.lag)
    if compared := [tag.coverage.compared_at for tag in collection.tags if tag.coverage.compared_at is not None]:
        ago = duration(round(max((now - min(compared)).total_seconds(), 0)))
        yield f"verified {ago} ago: every record was compared then, and triggers have noted each change since"
    for note in collection.full_pass:
        yield f"full pass needed: {note.reason} (since {note.first:%Y-%m-%d %H:%M} UTC)"
    if collection.scanned:
        yield f"changes are found by scanning: {collection.scanned}"
    for what, name in collection.silent:
        who = (
            f"subscription {name}" if what == "subscription" else f"{name}, whose session_replication_role is replica,"
        )
        yield f"writes by {who} fire no trigger, so only a full pass finds them; what helps: vecmig audit"


# The tags ----------------------------------------------------------------------------------------------------------


def _show_tags(collection: CollectionStatus, names: TagNames, *, verbose: bool) -> None:
    """Print a row for each tag: where it does not fit, with shorter names, then without columns that say nothing."""
    rows = [_tag_row(collection, tag) for tag in collection.tags]
    all_columns = range(len(_HEADS))
    telling = [at for at in all_columns if at not in _SPARED or any(row[at] != "0" for row in rows)]
    tries: list[tuple[Callable[[str], str], Sequence[int]]] = [(str, all_columns)]
    if not verbose:
        tries += [(name, columns) for columns in (all_columns, telling) for name in (names.short, names.shortest)]
    for name, columns in tries:
        lines = _table([(*row[:-1], name(row[-1])) for row in rows], columns)
        if max(map(render.cells, lines)) <= render.width():
            for text in lines:
                render.line(text)
            return
    # the tag below its figures
    head, *lines = _table(rows, tries[-1][1][:-1])
    render.line(head)
    for text, row in zip(lines, rows, strict=True):
        render.line(text)
        render.line(f"   {(str if verbose else names.short)(row[-1])}")


def _table(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[str]:
    """Lay out some columns of the table of tags."""
    heads = [_HEADS[at] for at in columns]
    right = frozenset(place for place, at in enumerate(columns) if at in _FIGURES)
    return render.column_lines([[row[at] for at in columns] for row in rows], heads=heads, right=right, width=_ANY)


def _tag_row(collection: CollectionStatus, tag: TagStatus) -> tuple[str, ...]:
    c = tag.coverage
    counts = (c.fresh, c.stale, c.missing, c.rejected, tag.vectors)
    return (
        _mark(collection, tag) or " ",
        tag.state,
        percent_of(c.fresh, c.eligible),
        *(f"{count:,}" for count in counts),
        tag.index.word,
        tag.tag,
    )


def _mark(collection: CollectionStatus, tag: TagStatus) -> str:
    marks = {collection.route.live: "→", collection.route.candidate: "+", collection.route.standby: "←"}
    return marks.get(tag.tag, "")
