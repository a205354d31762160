"""What two tags answered to the same searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, and_, func, insert, select
from sqlalchemy.dialects.postgresql import array

from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import SHADOW, TAG, execute, last_of_each
from vecmig.postgres.sessions import Connection

#: Joins a shadow read with the tag that was asked too: one that was discarded or retired, and begun anew, starts from
#: nothing.
OF_TAG_NOW = and_(
    TAG.c.collection == SHADOW.c.collection, TAG.c.tag == SHADOW.c.other_tag, SHADOW.c.at >= TAG.c.created_at
)
#: The version of vecmig's schema that has the table.
_SINCE = 3


@dataclass(frozen=True, slots=True)
class Shadowed:
    """One search that two tags answered."""

    collection: str
    live_tag: str
    other_tag: str
    k: int
    #: From 0 to 1; None where the other tag gave no answer.
    overlap: float | None
    rbo: float | None
    top_changed: bool | None
    live_ms: float
    other_ms: float | None
    #: The class of the error, not its text, which may quote what was asked.
    error: str | None
    query_hash: str
    #: What was asked, where somebody wanted it kept.
    query: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """All searches of a collection that the same two tags answered."""

    live_tag: str
    other_tag: str
    samples: int
    first_at: datetime
    last_at: datetime
    #: Median and 95th percentile of the milliseconds that the database took.
    live_ms: tuple[float, float]
    other_ms: tuple[float, float] | None
    #: How often the other tag gave no answer, by the class of the error.
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Question:
    """One query as both tags answered it last."""

    hash: str
    text: str | None
    overlap: float
    rbo: float
    top_changed: bool
    k: int


def record(connection: Connection, schema: str, shadowed: Shadowed) -> None:
    """Keep one."""
    execute(connection, schema, insert(SHADOW).inline().values(asdict(shadowed)))


def count_pair(connection: Connection, schema: str, collection: str, live: str, other: str) -> tuple[int, int]:
    """Count the searches that two tags were asked, since the other one was recorded: answered by both, and failed."""
    if installed_version(connection, schema) < _SINCE:
        return 0, 0
    query = (
        select(func.count() - func.count(SHADOW.c.error), func.count(SHADOW.c.error))
        .join_from(SHADOW, TAG, OF_TAG_NOW)
        .where(SHADOW.c.collection == collection, SHADOW.c.live_tag == live, SHADOW.c.other_tag == other)
    )
    answered, failed = execute(connection, schema, query).one()
    return answered, failed


def pairs(connection: Connection, schema: str, collection: str) -> list[Pair]:
    """Return what is kept of a collection, by the tags that answered; the latest first."""
    tags = SHADOW.c.live_tag, SHADOW.c.other_tag
    count = func.count()
    kept = SHADOW.c.collection == collection
    failed = select(*tags, SHADOW.c.error, count).where(kept, SHADOW.c.error.is_not(None))
    errors: dict[tuple[str, str], dict[str, int]] = {}
    for live, other, error, times in execute(
        connection, schema, failed.group_by(*tags, SHADOW.c.error).order_by(count.desc(), SHADOW.c.error)
    ):
        errors.setdefault((live, other), {})[error] = times
    last = func.max(SHADOW.c.at)
    query = select(
        *tags, count, func.min(SHADOW.c.at), last, _quantiles(SHADOW.c.live_ms), _quantiles(SHADOW.c.other_ms)
    )
    rows = execute(connection, schema, query.where(kept).group_by(*tags).order_by(last.desc()))
    return [
        Pair(
            live,
            other,
            samples,
            first,
            last_at,
            _latency(ours) or (0.0, 0.0),
            _latency(theirs),
            errors.get((live, other), {}),
        )
        for live, other, samples, first, last_at, ours, theirs in rows
    ]


def _quantiles(latency: Column[Any]) -> Any:
    return func.percentile_cont(array([0.5, 0.95])).within_group(latency)


def questions(connection: Connection, schema: str, collection: str, pair: Pair) -> list[Question]:
    """Return the queries that both tags of a pair have answered.

    Each stands there once, as it was answered last: one that is asked all day tells no more than once.
    """
    tags = SHADOW.c.live_tag == pair.live_tag, SHADOW.c.other_tag == pair.other_tag
    last = last_of_each(
        [SHADOW.c[name] for name in ("query_hash", "query", "overlap", "rbo", "top_changed", "k")],
        by=[SHADOW.c.query_hash],
        order=[SHADOW.c.at.desc()],
        where=[SHADOW.c.collection == collection, *tags, SHADOW.c.error.is_(None)],
    )
    return [Question(*row) for row in execute(connection, schema, last.order_by("query_hash"))]


def _latency(quantiles: Sequence[float | None] | None) -> tuple[float, float] | None:
    if quantiles is None or quantiles[0] is None or quantiles[1] is None:
        return None
    return quantiles[0], quantiles[1]
