"""What the page says of a project, as values that a template only has to lay out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from markupsafe import Markup

from vecmig.runner import CollectionStatus, Insight, Overview, Pulse, Status, TagStatus, Verdict, verdict_of, with_pulse
from vecmig.serve import panels
from vecmig.serve.charts import growth_chart
from vecmig.serve.panels import CheckRow, EvalRow, ProgressRow, TagRow
from vecmig.text import counted, percent, percent_of
from vecmig.wording import events as event_words
from vecmig.wording.names import TagNames
from vecmig.wording.standing import launch_text, paused_text

_TONES: Final = {"OK": "good", "AT WORK": "busy", "PENDING": "wait", "ATTENTION": "bad", "BLOCKED": "bad"}
_STEPS: Final = ("expand", "backfill", "index", "gate", "live", "trusted")
#: The step that comes next after a phase, and what is said of a tag in it.
_NEXT: Final = {"expanded": 1, "backfilled": 2, "indexed": 3}
_PHASES: Final = {
    "expanded": "is being filled",
    "backfilled": "is filled, and its index comes next",
    "indexed": "is ready for the gate",
}
#: Kinds of events that stand out.
_EVENT_TONES: Final = {"failed": "bad", "rollback": "bad", "abandon": "bad", "hold": "bad", "cutover": "good"}


@dataclass(frozen=True, slots=True)
class Section:
    """One collection."""

    name: str
    verdict: str
    tone: str
    why: str
    #: Sentences, each with the command that it names.
    story: tuple[tuple[str, str], ...]
    steps: tuple[tuple[str, str], ...]
    tags: tuple[TagRow, ...]
    growth: Markup
    growth_note: str
    work: tuple[ProgressRow, ...]
    launch: str
    gate_title: str
    gate: tuple[CheckRow, ...]
    scores: tuple[tuple[str, list[tuple[str, str, str, str]]], ...]
    evals: tuple[EvalRow, ...]
    distances: tuple[tuple[str, str, str, Markup, str], ...]
    shadows: tuple[Mapping[str, object], ...]
    after: tuple[tuple[str, str], ...]
    reads: tuple[tuple[str, str], ...]
    waiting: tuple[tuple[str, str, Markup], ...]
    spend: tuple[tuple[str, str, str, Markup], ...]
    #: What is not as it should be, and what somebody decided or may want to know.
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A project."""

    database: str
    verdict: str
    tone: str
    next_command: str
    next_words: tuple[str, ...]
    measured_at: datetime
    sections: tuple[Section, ...]
    events: tuple[Mapping[str, object], ...]
    revisions: tuple[tuple[str, str], ...]


def page(seen: Overview, pulse: Pulse | None) -> Page:
    """Say how a project stands.

    Args:
        seen: what was counted.
        pulse: what was seen since; None where nothing was.
    """
    if pulse is not None:
        seen = with_pulse(seen, pulse)
    status = seen.status
    now = pulse.at if pulse is not None else status.measured_at
    names = {one.name: _names(one) for one in status.collections}
    verdicts = [verdict_of(status, one).word for one in status.collections]
    worst = max(verdicts, key=Verdict.WORDS.index, default="OK")
    if worst == "OK" and not status.settled:
        worst = "PENDING"
    command, words = status.next_command or "", status.next_step.split("\n")
    return Page(
        database=status.database,
        verdict=worst,
        tone=_TONES[worst],
        next_command=command,
        next_words=tuple(words[1:] if command else words),
        measured_at=status.measured_at,
        sections=tuple(
            _section(status, one, seen.insights.get(one.name), names[one.name], now) for one in status.collections
        ),
        events=tuple(_events(pulse, names)) if pulse is not None else (),
        revisions=tuple(_revisions(status)),
    )


def _names(collection: CollectionStatus) -> TagNames:
    route = collection.route
    return TagNames([*(tag.tag for tag in collection.tags), *route.maintained, route.shadow_tag])


def _section(
    status: Status, collection: CollectionStatus, insight: Insight | None, names: TagNames, now: datetime
) -> Section:
    verdict = verdict_of(status, collection)
    required = _required(collection)
    return Section(
        name=collection.name,
        verdict=verdict.word,
        tone=_TONES[verdict.word],
        # a problem stands in full below it
        why="" if collection.problem is not None else verdict.why,
        story=tuple(_story(collection, names)),
        steps=tuple(_steps(collection)),
        tags=tuple(panels.tag_rows(collection, names)),
        growth=growth_chart(list(panels.series(collection, insight, names)), required, now) if insight else Markup(),
        growth_note="" if required is None else f"dashed: {percent(required)}, which the gate asks for",
        work=tuple(panels.work(collection, names, now)),
        launch=launch_text(collection.launch) if collection.launch else "",
        gate_title=panels.gate_title(collection),
        gate=tuple(panels.checks(collection)),
        scores=tuple(panels.scores(collection, names)),
        evals=tuple(panels.evals(insight.evals, names)) if insight else (),
        distances=tuple(panels.distances(collection, names)),
        shadows=tuple(panels.shadows(insight, names)) if insight else (),
        after=tuple(panels.after(collection, names)),
        reads=tuple(panels.reads(collection, names)),
        waiting=tuple(panels.waiting(insight)) if insight else (),
        spend=tuple(panels.spend(status, collection, names)),
        problems=tuple(_problems(collection)),
        remarks=tuple(_remarks(collection)),
    )


def _required(collection: CollectionStatus) -> float | None:
    """Return the coverage that the gate in progress asks for."""
    for check in collection.gate[1].checks if collection.gate else ():
        if check.name == "coverage" and check.required is not None:
            return float(check.required.value)
    return None


# In words ----------------------------------------------------------------------------------------------------------


def _story(collection: CollectionStatus, names: TagNames) -> Iterator[tuple[str, str]]:
    """Say in sentences which tag searches use, what is on its way, and what a rollback would find."""
    route, tags, name = collection.route, {tag.tag: tag for tag in collection.tags}, names.short
    if (live := tags.get(route.live or "")) is not None:
        yield f"Searches use {name(live.tag)}, which has {_covered(live)} of {_records(live.coverage.eligible)}.", ""
    elif route.candidate is None and collection.problem is None:
        yield f"Nothing is embedded yet: {_records(collection.eligible)} with a text.", ""
    if (candidate := tags.get(route.candidate or "")) is not None:
        phase = collection.gate[0].phase if collection.gate else ""
        yield f"{name(candidate.tag)} {_PHASES.get(phase, 'is on its way')}: {_covered(candidate)}.", ""
    elif collection.gate is not None and collection.gate[0].index_only:
        yield "Another index is on its way for the live tag.", ""
    if route.ramp_share and route.candidate:
        yield f"It serves {percent(route.ramp_share)} of the searches already.", ""
    if (way := collection.rollback) is not None and not way.retired:
        if way.ready:
            yield f"Going back to {name(way.tag)} takes less than a second:", way.command
        else:
            yield f"Going back to {name(way.tag)} would be refused now.", ""


def _records(number: int) -> str:
    return counted(number, "record")


def _covered(tag: TagStatus) -> str:
    return percent_of(tag.coverage.fresh, tag.coverage.eligible)


def _steps(collection: CollectionStatus) -> Iterator[tuple[str, str]]:
    """Give each step of a revision, and whether it is done, now, next or to come."""
    gate, trust = collection.gate, collection.trust
    if gate is not None:
        at = _NEXT.get(gate[0].phase, 0)
    elif collection.pending:
        at = 0
    elif collection.route.live is not None:
        at = 5 if trust is not None and not trust.holds else 6
    else:
        at = 0
    working = collection.runner is not None or any(run.what != "sync" for run in collection.runs)
    for n, step in enumerate(_STEPS):
        now = "now" if working or at == 5 else "next"
        days = f", day {int(trust.days)} of {trust.rule.days:g}" if n == at == 5 and trust is not None else ""
        yield f"{step}{days}", "done" if n < at else now if n == at else "later"


def _problems(collection: CollectionStatus) -> Iterator[str]:
    if collection.problem is not None:
        yield f"{collection.problem.message} {collection.problem.hint}".strip()
    if collection.detached is not None:
        yield collection.detached.text
    if collection.missing_recipe:
        yield collection.missing_recipe
    if collection.failure is not None and not collection.tried_again:
        yield f"Last run: {collection.failure.words} {collection.failure.hint}".strip()
    if collection.unfinished:
        yield f"A downgrade was cut short; to finish it: {collection.unfinished}"
    if collection.control is not None and collection.control.paused:
        yield f"Paused {paused_text(collection.control)}; to go on: vecmig resume {collection.name}"
    for tag in collection.half_retired:
        yield f"{tag} is half retired; to finish it: vecmig retire {collection.name} {tag}"


def _remarks(collection: CollectionStatus) -> Iterator[str]:
    for passed in collection.held:
        yield f"{passed.revision} {passed.outcome}: {passed.words}"
    yield from collection.notes


# The project -------------------------------------------------------------------------------------------------------


def _events(pulse: Pulse, names: Mapping[str, TagNames]) -> Iterator[Mapping[str, object]]:
    for event in pulse.events:
        of = names.get(event.collection or "")
        yield {
            "at": event.at,
            "collection": event.collection or "",
            "who": event_words.who(event),
            "what": event_words.what(event, of.short if of else str),
            "sources": event_words.sources(event),
            "tone": _EVENT_TONES.get(event.kind, ""),
        }


def _revisions(status: Status) -> Iterator[tuple[str, str]]:
    if status.current:
        yield "current", ", ".join(status.current)
    if status.pending:
        yield "pending", ", ".join(status.pending)
    for passed in status.passed:
        yield passed.outcome, f"{passed.revision} {passed.words}"
    if status.obstacle is not None:
        yield "blocked", f"{status.obstacle.message} {status.obstacle.hint}".strip()
    for conflict in status.conflicts:
        yield "conflict", f"{conflict.error.message} {conflict.error.hint}".strip()
