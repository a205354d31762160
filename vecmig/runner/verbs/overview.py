"""All that a page shows of a project: how it stands, what happened, what evals and shadow reads say. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from vecmig.config import Config
from vecmig.errors import VecmigError
from vecmig.evaluation import Difference, comparable, differences
from vecmig.freshness.growth import growth, waiting
from vecmig.ledger import evals
from vecmig.ledger.control import Run, runs
from vecmig.ledger.evals import EvalRun
from vecmig.ledger.history import History
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.part import Tables
from vecmig.ledger.rows import EventRow, Route
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.runner.project_status import CollectionStatus, NextStep, Status
from vecmig.runner.verbs.compare import Comparison, comparisons
from vecmig.runner.verbs.status import status

#: Events that are shown.
_EVENTS: Final = 40
#: What comes next where another tag serves, or is on its way, than when records were counted.
_MOVED: Final = NextStep(words="something has moved just now; what is next is told once records are counted again")


@dataclass(frozen=True, slots=True)
class EvalPair:
    """The last runs of one suite against two tags that follow each other, and how they differ."""

    old: EvalRun
    new: EvalRun
    #: Over all queries, by metric; empty where the two are of different states of the suite.
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Insight:
    """What a page shows of a collection beside its status."""

    #: By tag: which share of its records had vectors by when.
    growth: Mapping[str, Sequence[tuple[float, datetime]]]
    #: Changes that are noted, by how long ago: under 10 s, 1 min, 10 min, 1 h, 1 day, and longer.
    waiting: tuple[int, ...]
    evals: tuple[EvalPair, ...]
    shadows: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """What may be asked every moment: no record is read for it."""

    at: datetime
    runs: tuple[Run, ...]
    #: By collection.
    routes: Mapping[str, Route]
    #: What happened last, the newest first.
    events: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """A project, as a page shows it."""

    status: Status
    #: By collection; one whose source cannot be read has none.
    insights: Mapping[str, Insight]


def overview(config: Config) -> Overview:
    """Measure how a project stands, and gather what is known beside that. Nothing is written."""
    found = status(config)
    project = Project(config)
    insights: dict[str, Insight] = {}
    with project.database.session() as connection:
        ledger = Ledger(connection, project.database.schema)
        if ledger.installed:
            for collection in found.collections:
                try:
                    insights[collection.name] = _insight(project, ledger, collection)
                except VecmigError:
                    # what is wrong with it is told by its status
                    continue
    return Overview(found, insights)


def _insight(project: Project, ledger: Ledger, collection: CollectionStatus) -> Insight:
    connection, schema, name = ledger.connection, ledger.schema, collection.name
    source = find_source(ledger, project.collections.collection(name))
    present = [tag.tag for tag in collection.tags if tag.state != "gone"]
    return Insight(
        growth={tag: growth(connection, project.context.stamps(source, tag)) for tag in present},
        waiting=waiting(connection, name, schema),
        evals=tuple(_eval_pairs(connection, schema, collection)),
        shadows=tuple(comparisons(connection, schema, name)),
    )


def _eval_pairs(connection: Connection, schema: str, collection: CollectionStatus) -> Iterator[EvalPair]:
    """Yield the last runs of each suite, by tags that follow each other: standby, live, candidate."""
    route = collection.route
    by_tag = {tag.tag: tag for tag in collection.tags}
    order = [by_tag[tag] for tag in (route.standby, route.live, route.candidate) if tag in by_tag]
    for suite in sorted({run.suite for tag in order for run in tag.evals}):
        found = [evals.latest(connection, schema, collection.name, tag.tag, suite) for tag in order]
        taken = [run for run in found if run is not None]
        for old, new in pairwise(taken):
            own = differences(old, new) if comparable(old, new) else []
            yield EvalPair(old, new, tuple(difference for difference in own if difference.slice is None))


def pulse(config: Config) -> Pulse:
    """Look at who is at work, which tags serve, and what happened last. Nothing is written."""
    project = Project(config)
    with project.database.session() as connection:
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None
        ledger = Ledger(connection, project.database.schema)
        return Pulse(
            at=row[0],
            runs=tuple(runs(connection, ledger.schema)),
            routes=ledger.routes.all(),
            events=tuple(History(Tables(connection, ledger.schema)).latest(_EVENTS)),
        )


def with_pulse(seen: Overview, pulse: Pulse) -> Overview:
    """Return what was seen with who is at work and which tags serve now; what was counted stays as it was then.

    What was said of a gate, a rollback, or what to do next from another route is left out.
    """
    collections, next_ = [], seen.status.next
    for collection in seen.status.collections:
        route, before = pulse.routes.get(collection.name, collection.route), collection
        if (route.live, route.candidate) != (collection.route.live, collection.route.candidate):
            before, next_ = replace(collection, gate=None, rollback=None, trust=None), _MOVED
        runs = tuple(run for run in pulse.runs if run.collection == collection.name)
        collections.append(replace(before, runs=runs, route=route))
    return replace(seen, status=replace(seen.status, collections=tuple(collections), next=next_))
