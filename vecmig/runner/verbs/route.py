"""Say which searches another tag is asked too, or serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vecmig.config import Config
from vecmig.errors import DatabaseError, UsageError
from vecmig.freshness.standing import find_coverage
from vecmig.homes import open_home
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.rows import Route
from vecmig.model.gate import Gate
from vecmig.model.tag import Tag
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.text import percent

DEFAULT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class RouteChange:
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
        return self == RouteChange()


def route(config: Config, collection: str, reads: RouteChange = RouteChange()) -> Route:
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
    after = _wanted(before, reads)
    _check_shadow(project, collection, before, after)
    if reads.ramp:
        _check_ramp(project, collection, before)
    with project.context.transaction() as ledger:
        if ledger.routes.hold(collection) != before:
            raise DatabaseError(
                f"The route of {collection} was changed meanwhile.",
                state="Nothing was changed.",
                hint=f"Check it, then try again: vecmig route {collection}",
            )
        figures = {
            "shadow_tag": after.shadow_tag,
            "shadow_share": after.shadow_share,
            "keep_queries": after.keep_queries,
            "ramp_share": after.ramp_share,
        }
        ledger.routes.set_reads(collection, **figures)  # type: ignore[arg-type]  # each has its own type
        ledger.record_event("route", collection=collection, tag=after.shadow_tag or after.candidate, data=figures)
    # on a connection of its own, so that what is told is what readers will find
    return _route(project, collection)


def _route(project: Project, collection: str) -> Route:
    with project.database.session() as connection:
        return project.context.ledger(connection).routes.of(collection)


def _wanted(before: Route, reads: RouteChange) -> Route:
    """Return the route as it is to be."""
    after = before
    if reads.no_shadow:
        after = replace(after, shadow_tag=None, shadow_share=0.0, keep_queries=False)
    if reads.shadow is not None:
        tag = str(Tag.parse(reads.shadow))
        same = tag == before.shadow_tag
        share, kept = (before.shadow_share, before.keep_queries) if same else (DEFAULT_SHARE, False)
        after = replace(after, shadow_tag=tag, shadow_share=share, keep_queries=kept)
    if reads.share is not None:
        if not 0 < reads.share <= 1:
            raise UsageError(f"--share {reads.share:g} is not a share above 0, up to 1.", hint="To end it: --no-shadow")
        after = replace(after, shadow_share=reads.share)
    if reads.keep_queries is not None:
        after = replace(after, keep_queries=reads.keep_queries)
    if after.shadow_tag is None and (reads.share is not None or reads.keep_queries):
        raise UsageError("No other tag is asked too, so there is nothing to share or keep.", hint="Add: --shadow TAG")
    if reads.ramp is not None:
        if not 0 <= reads.ramp <= 100:
            raise UsageError(f"--ramp {reads.ramp:g} is not a percentage from 0 to 100.")
        after = replace(after, ramp_share=reads.ramp / 100)
    return after


def _check_shadow(project: Project, collection: str, before: Route, after: Route) -> None:
    tag = after.shadow_tag
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
        revision = project.context.ledger(connection).revisions.leading_to(collection, tag)
        source = find_source(project.context.ledger(connection), project.collections.collection(collection))
        coverage = find_coverage(connection, project.context.stamps(source, tag))
    script = project.scripts[revision] if revision in project.scripts.map else None
    required = ((script.gate if script else None) or Gate()).coverage
    if coverage.share < required or not coverage.eligible:
        raise UsageError(
            f"{tag} covers {percent(coverage.share)} of the records of {collection}, and the gate of its revision "
            f"{revision} asks for {percent(required)}.",
            state="Nothing was changed: the live tag answers all searches.",
            hint="Run: vecmig backfill",
        )


def _require_searchable(project: Project, connection: Connection, collection: str, tag: str) -> None:
    ledger = project.context.ledger(connection)
    home = open_home(ledger, find_source(ledger, project.collections.collection(collection)), tag)
    state = home.index() if home.exists() else None
    if state is None or not state.usable:
        word = "no vectors" if state is None else "no index" if not state.exists else f"an index that is {state.word}"
        raise UsageError(
            f"{tag} has {word}: each search of it would read every vector.",
            state="Nothing was changed.",
            hint="Run: vecmig upgrade head --until index",
        )
