"""Show what the answers of two tags to the same searches have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vecmig.config import Config
from vecmig.evaluation import mean_interval, share_interval
from vecmig.ledger.schema import installed_version
from vecmig.ledger.shadows import Pair, Question, pairs, questions
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project

#: The version of vecmig's schema that keeps what shadow reads have shown.
_KEEPS_SHADOWS: Final = 3


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


def compare(config: Config, collection: str, *, worst: int = 5) -> list[Comparison]:
    """Compare the answers of each two tags that shadow reads have asked; the latest pair first. Nothing is written."""
    project = Project(config)
    project.collections.collection(collection)
    schema = project.database.schema
    with project.database.session() as connection:
        return comparisons(connection, schema, collection, worst=worst)


def comparisons(connection: Connection, schema: str, collection: str, *, worst: int = 5) -> list[Comparison]:
    """Compare the answers of each two tags of a collection that shadow reads have asked; the latest pair first."""
    if installed_version(connection, schema) < _KEEPS_SHADOWS:
        return []
    return [
        _comparison(pair, questions(connection, schema, collection, pair), worst)
        for pair in pairs(connection, schema, collection)
    ]


def _comparison(pair: Pair, queries: Sequence[Question], worst: int) -> Comparison:
    ordered = sorted(queries, key=lambda query: (query.rbo, query.overlap, query.hash))
    ks = {query.k for query in queries}
    changed = sum(query.top_changed for query in queries)
    return Comparison(
        pair=pair,
        questions=len(queries),
        k=ks.pop() if len(ks) == 1 else None,
        overlap=_mean([query.overlap for query in queries]),
        rbo=_mean([query.rbo for query in queries]),
        top_changed=Interval(changed / len(queries), *share_interval(changed, len(queries))) if queries else None,
        worst=tuple(query for query in ordered[:worst] if query.rbo < 1 or query.overlap < 1),
    )


def _mean(values: Sequence[float]) -> Interval | None:
    return Interval(sum(values) / len(values), *mean_interval(values)) if values else None
