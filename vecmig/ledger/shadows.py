"""What two tags answered to the same searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg import sql

from vecmig.ledger.schema import installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

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


def record(connection: Connection, schema: str, found: Shadowed) -> None:
    """Keep one."""
    connection.execute(statement("ledger/shadows", "record", schema=sql.Identifier(schema)), asdict(found))


def count_pair(connection: Connection, schema: str, collection: str, live: str, other: str) -> tuple[int, int]:
    """Count the searches that two tags were asked, since the other one was recorded: answered by both, and failed."""
    if installed_version(connection, schema) < _SINCE:
        return 0, 0
    values = {"collection": collection, "live_tag": live, "other_tag": other}
    row = connection.execute(
        statement("ledger/shadows", "count_pair", schema=sql.Identifier(schema)), values
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def pairs(connection: Connection, schema: str, collection: str) -> list[Pair]:
    """Give what is kept of a collection, by the tags that answered; the latest first."""
    name, values = sql.Identifier(schema), {"collection": collection}
    errors: dict[tuple[str, str], dict[str, int]] = {}
    for live, other, error, count in connection.execute(statement("ledger/shadows", "errors", schema=name), values):
        errors.setdefault((live, other), {})[error] = count
    rows = connection.execute(statement("ledger/shadows", "pairs", schema=name), values)
    return [
        Pair(
            live,
            other,
            samples,
            first,
            last,
            _latency(ours) or (0.0, 0.0),
            _latency(theirs),
            errors.get((live, other), {}),
        )
        for live, other, samples, first, last, ours, theirs in rows
    ]


def questions(connection: Connection, schema: str, collection: str, pair: Pair) -> list[Question]:
    """Return the queries that both tags of a pair have answered."""
    values = {"collection": collection, "live_tag": pair.live_tag, "other_tag": pair.other_tag}
    rows = connection.execute(statement("ledger/shadows", "questions", schema=sql.Identifier(schema)), values)
    return [Question(*row) for row in rows]


def _latency(found: Sequence[float | None] | None) -> tuple[float, float] | None:
    if found is None or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]
