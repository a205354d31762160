"""The clock of trust: since when a tag serves reads, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Date, Double, and_, cast, func, select

from vecmig.ledger.schema import installed_version
from vecmig.ledger.shadows import OF_TAG_NOW
from vecmig.ledger.tables import EVAL, EVENT, REVISION, ROUTE, SHADOW, TAG, execute, last_of_each
from vecmig.postgres.sessions import Connection

#: The version of vecmig's schema that keeps what evals and shadow reads have shown.
_EVIDENCE_SINCE: Final = 3


@dataclass(frozen=True, slots=True)
class Clock:
    """The times by which the live tag of a collection is judged, all of them the database's."""

    #: When reads moved to it last.
    moved: datetime
    #: Since when it serves them without a break: that, or the end of a later candidate's ramp.
    since: datetime
    now: datetime


def clock(connection: Connection, schema: str, collection: str, revision: str) -> Clock:
    """Give the times by which the live tag of a collection is judged.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        revision: the one that led to the live tag.
    """
    # reads moved last at changed_at, forward or back; go_live comes a moment after it
    moved = func.greatest(REVISION.c.live_at, ROUTE.c.changed_at)
    events = EVENT.alias()
    ramp = events.c.data["ramp_share"].astext
    ramped = select(func.max(events.c.at)).where(
        events.c.collection == ROUTE.c.collection, events.c.kind == "route", cast(ramp, Double) > 0
    )
    # a ramp that is over has ended with the next word on the route, with its candidate, or when reads moved
    ended = select(func.min(EVENT.c.at)).where(
        EVENT.c.collection == ROUTE.c.collection,
        EVENT.c.kind.in_(("route", "abandon", "cutover", "rollback")),
        EVENT.c.at > ramped.correlate(ROUTE).scalar_subquery(),
    )
    query = (
        select(moved, func.greatest(moved, ended.correlate(ROUTE).scalar_subquery()), func.now())
        .join_from(ROUTE, REVISION, REVISION.c.id == revision)
        .where(ROUTE.c.collection == collection)
    )
    row = execute(connection, schema, query).first()
    assert row is not None, "the caller has found the revision by the route"
    return Clock(*row)


def shadow_errors(
    connection: Connection, schema: str, collection: str, tag: str, *, moved: datetime, days: float
) -> tuple[int, int]:
    """Count the shadow reads of a tag in the days before it went live that failed, and all of them.

    While it is live it is not asked beside itself, so none come later.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        tag: the tag.
        moved: when reads moved to it last.
        days: how long before that a shadow read counts.
    """
    if installed_version(connection, schema) < _EVIDENCE_SINCE:
        return 0, 0
    # whichever tag was live
    query = (
        select(func.count(SHADOW.c.error), func.count())
        .join_from(SHADOW, TAG, OF_TAG_NOW)
        .where(SHADOW.c.collection == collection, SHADOW.c.other_tag == tag)
        .where(SHADOW.c.at > moved - timedelta(days=days))
    )
    failed, shadowed = execute(connection, schema, query).one()
    return failed, shadowed


def eval_pairs(
    connection: Connection, schema: str, collection: str, tags: tuple[str, str], *, since: datetime, coverage: float
) -> dict[date, dict[str, tuple[UUID, UUID]]]:
    """Give, by day (UTC, oldest first) and suite, the last runs of the old and the new tag on the same queries.

    Args:
        connection: a connection of vecmig's.
        schema: the ledger's.
        collection: the collection.
        tags: the old and the new one.
        since: when the first run that counts may have been.
        coverage: the lowest at which a run counts.
    """
    if installed_version(connection, schema) < _EVIDENCE_SINCE:
        return {}
    old, new = (_last_runs(collection, tag, since, coverage).subquery() for tag in tags)
    same = and_(*(new.c[name] == old.c[name] for name in ("day", "suite", "suite_fingerprint")))
    query = select(new.c.day, new.c.suite, old.c.id, new.c.id).join_from(new, old, same)
    pairs: dict[date, dict[str, tuple[UUID, UUID]]] = {}
    for day, suite, *pair in execute(connection, schema, query.order_by(new.c.day, new.c.suite)):
        pairs.setdefault(day, {})[suite] = (pair[0], pair[1])
    return pairs


def _last_runs(collection: str, tag: str, since: datetime, coverage: float) -> Any:
    """Select the last run of each suite and day against a tag."""
    day = cast(func.timezone("UTC", EVAL.c.at), Date)
    return last_of_each(
        [EVAL.c.id, EVAL.c.suite, EVAL.c.suite_fingerprint, day.label("day")],
        by=(EVAL.c.suite, day),
        order=(EVAL.c.at.desc(), EVAL.c.id.desc()),
        where=[EVAL.c.collection == collection, EVAL.c.tag == tag, EVAL.c.at >= since, EVAL.c.coverage >= coverage],
    )
