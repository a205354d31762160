"""Say which searches another tag is asked too or serves, and show what the two tags' answers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from vecmig.config import Config
from vecmig.errors import DatabaseError, UsageError
from vecmig.evaluation import mean_interval, share_interval
from vecmig.freshness.coverage import measure_coverage
from vecmig.homes.index import index_state
from vecmig.homes.table import is_attached
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Route
from vecmig.ledger.schema import ensure, installed_version
from vecmig.ledger.shadows import Pair, Question, pairs, questions
from vecmig.model.gate import Gate
from vecmig.model.tag import Tag
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.text import percent

DEFAULT_SHARE: Final = 0.05
#: The version of vecmig's schema that keeps what shadow reads have shown.
_KEEPS_SHADOWS: Final = 3


@dataclass(frozen=True, slots=True)
class Reads:
    """What is to change about a route; None for what stays."""

    #: Another tag to ask too, and for which share of the searches, from 0 to 1.
    shadow: str | None = None
    share: float | None = None
    no_shadow: bool = False
    #: Percent of the searches that the candidate serves.
    ramp: float | None = None
    keep_queries: bool | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is to change."""
        return self == Reads()


@dataclass(frozen=True, slots=True)
class Interval:
    """An average with the interval that holds it at 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two tags' answers to the same searches have in common; the averages are None where no search is kept."""

    pair: Pair
    questions: int
    #: Answers of a search, where it was the same for all.
    k: int | None
    overlap: Interval | None
    rbo: Interval | None
    top_changed: Interval | None
    #: The queries whose answers differ most, the worst first.
    worst: tuple[Question, ...]


def route(config: Config, collection: str, reads: Reads = Reads()) -> Route:
    """Change how a collection's searches are led, unless ``reads`` is empty, and give its route as it is then.

    Raises:
        UsageError: the change does not fit: the tag is not kept complete, has no usable index, lacks records, …
    """
    project = Project(config)
    project.collections.collection(collection)
    before = _route(project, collection)
    if reads.empty:
        return before
    if not before.version and not before.maintained:
        raise UsageError(f"Nothing of {collection} is searched yet.", hint="Run: vecmig upgrade")
    ensure(project.database)
    before = _route(project, collection)
    wanted = _wanted(before, reads)
    _check_shadow(project, collection, before, wanted)
    if reads.ramp:
        _check_ramp(project, collection, before)
    with project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        if ledger.held_route(collection) != before:
            raise DatabaseError(
                f"The route of {collection} was changed meanwhile.",
                state="Nothing was changed.",
                hint=f"Check it, then try again: vecmig route {collection}",
            )
        figures = {
            "shadow_tag": wanted.shadow_tag,
            "shadow_share": wanted.shadow_share,
            "keep_queries": wanted.keep_queries,
            "ramp_share": wanted.ramp_share,
        }
        ledger.set_reads(collection, **figures)  # type: ignore[arg-type]  # each has its own type
        ledger.record_event("route", collection=collection, tag=wanted.shadow_tag or wanted.candidate, data=figures)
    # on a connection of its own, so that what is told is what readers will find
    return _route(project, collection)


def compare(config: Config, collection: str, *, worst: int = 5) -> list[Comparison]:
    """Compare the answers of each two tags that shadow reads have asked; the latest pair first. Nothing is written."""
    project = Project(config)
    project.collections.collection(collection)
    schema = project.database.schema
    with project.database.session() as connection:
        if installed_version(connection, schema) < _KEEPS_SHADOWS:
            return []
        return [
            _comparison(pair, questions(connection, schema, collection, pair), worst)
            for pair in pairs(connection, schema, collection)
        ]


def _route(project: Project, collection: str) -> Route:
    with project.database.session() as connection:
        return project.workspace.ledger(connection).route(collection)


def _wanted(before: Route, reads: Reads) -> Route:
    """Return the route as it is to be."""
    wanted = before
    if reads.no_shadow:
        wanted = replace(wanted, shadow_tag=None, shadow_share=0.0, keep_queries=False)
    if reads.shadow is not None:
        tag = str(Tag.parse(reads.shadow))
        same = tag == before.shadow_tag
        share, kept = (before.shadow_share, before.keep_queries) if same else (DEFAULT_SHARE, False)
        wanted = replace(wanted, shadow_tag=tag, shadow_share=share, keep_queries=kept)
    if reads.share is not None:
        if not 0 < reads.share <= 1:
            raise UsageError(f"--share {reads.share:g} is not a share above 0, up to 1.", hint="To end it: --no-shadow")
        wanted = replace(wanted, shadow_share=reads.share)
    if reads.keep_queries is not None:
        wanted = replace(wanted, keep_queries=reads.keep_queries)
    if wanted.shadow_tag is None and (reads.share is not None or reads.keep_queries):
        raise UsageError("No other tag is asked too, so there is nothing to share or keep.", hint="Add: --shadow TAG")
    if reads.ramp is not None:
        if not 0 <= reads.ramp <= 100:
            raise UsageError(f"--ramp {reads.ramp:g} is not a percentage from 0 to 100.")
        wanted = replace(wanted, ramp_share=reads.ramp / 100)
    return wanted


def _check_shadow(project: Project, collection: str, before: Route, wanted: Route) -> None:
    tag = wanted.shadow_tag
    if tag is None or tag == before.shadow_tag:
        return
    if before.live is None:
        raise UsageError(f"No tag of {collection} is live, so there is nothing to compare with.")
    if tag == before.live:
        raise UsageError(f"{tag} is the live tag of {collection}: it answers every search anyway.")
    if tag not in before.maintained:
        others = [other for other in before.maintained if other != before.live]
        raise UsageError(
            f"{tag} is not kept complete in {collection}: its answers would lack what changed since.",
            hint=f"Compared can be: {', '.join(others)}"
            if others
            else "Begin a revision: vecmig upgrade --until index",
        )
    with project.database.session() as connection:
        _require_searchable(project, connection, collection, tag)


def _check_ramp(project: Project, collection: str, before: Route) -> None:
    """Refuse to serve traffic by a candidate that its own gate would not let through for what it lacks."""
    tag = before.candidate
    if before.live is None or tag is None:
        what = "No tag is live" if before.live is None else "No revision is in progress"
        raise UsageError(f"{what} in {collection}: there is no candidate beside a live tag.", hint="Run: vecmig status")
    with project.database.session() as connection:
        _require_searchable(project, connection, collection, tag)
        revision = project.workspace.ledger(connection).revision_of(collection, tag)
        source = find_source(project.workspace.ledger(connection), project.collections.collection(collection))
        found = measure_coverage(connection, project.workspace.space(source, tag))
    script = project.scripts[revision] if revision in project.scripts.map else None
    required = ((script.gate if script else None) or Gate()).coverage
    if found.share < required or not found.eligible:
        raise UsageError(
            f"{tag} covers {percent(found.share)} of the records of {collection}, and the gate of its revision "
            f"{revision} asks for {percent(required)}.",
            state="Nothing was changed: the live tag answers all searches.",
            hint="Run: vecmig backfill",
        )


def _require_searchable(project: Project, connection: Connection, collection: str, tag: str) -> None:
    source = find_source(project.workspace.ledger(connection), project.collections.collection(collection))
    space = project.workspace.space(source, tag)
    state = index_state(connection, space) if is_attached(connection, space) else None
    if state is None or not state.usable:
        word = "no vectors" if state is None else "no index" if not state.exists else f"an index that is {state.word}"
        raise UsageError(
            f"{tag} has {word}: each search of it would read every vector.",
            state="Nothing was changed.",
            hint="Run: vecmig upgrade head --until index",
        )


def _comparison(pair: Pair, found: Sequence[Question], worst: int) -> Comparison:
    ordered = sorted(found, key=lambda one: (one.rbo, one.overlap, one.hash))
    ks = {one.k for one in found}
    changed = sum(one.top_changed for one in found)
    return Comparison(
        pair=pair,
        questions=len(found),
        k=ks.pop() if len(ks) == 1 else None,
        overlap=_mean([one.overlap for one in found]),
        rbo=_mean([one.rbo for one in found]),
        top_changed=Interval(changed / len(found), *share_interval(changed, len(found))) if found else None,
        worst=tuple(one for one in ordered[:worst] if one.rbo < 1 or one.overlap < 1),
    )


def _mean(values: Sequence[float]) -> Interval | None:
    return Interval(sum(values) / len(values), *mean_interval(values)) if values else None
