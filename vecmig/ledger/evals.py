"""The runs of suites against tags as the database keeps them, and what a suite needs to know of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, Self
from uuid import UUID, uuid4

import psycopg
from psycopg import errors as pg
from psycopg import sql
from sqlalchemy import Select, cast, func, insert, select
from sqlalchemy.dialects.postgresql import JSONB

from vecmig.config.suites import WrittenKey
from vecmig.errors import ConfigError
from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import EVAL, execute, last_of_each
from vecmig.postgres.named_sql import raw, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, same_key
from vecmig.source.source import Source

#: ``search``: as production searches, by the index; ``exact``: every vector is read.
Kind = Literal["search", "exact"]
KINDS: Final[tuple[Kind, ...]] = ("search", "exact")
_METRICS: Final = ("nDCG", "recall", "MRR", "success")
#: What in the column ``scores`` is no metric.
_SLICES: Final = "slices"
_INDEX_RECALL: Final = "index_recall"
_INDEX_USED: Final = "index_used"
#: The version of vecmig's schema that has the table.
_SINCE: Final = 3
_COLUMNS: Final = (
    *("id", "at", "collection", "tag", "suite", "suite_fingerprint", "k", "queries", "coverage", "eligible", "records"),
    *("scores", "per_query", "distances", "role", "host", "version"),
)
_EVAL: Final = [EVAL.c[name] for name in _COLUMNS]
#: Longest title that is taken of a text, in characters.
_LONGEST_TITLE: Final = 200


def metric_names(k: int) -> tuple[str, ...]:
    """Name the metrics of answers of ``k`` records; the first one is shown where there is room for one only."""
    return tuple(f"{name}@{k}" for name in _METRICS)


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric over the queries, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


#: By metric, then by kind.
Scores = Mapping[str, Mapping[Kind, Score]]


@dataclass(frozen=True, slots=True)
class SliceScores:
    """The scores of one slice of a suite."""

    queries: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What one query came to."""

    #: ``Query.id``.
    query: str
    slice: str | None
    #: The value of each metric, by kind.
    search: Mapping[str, float]
    exact: Mapping[str, float]
    #: Share of the exact answer that search has found; None where there is none.
    index_recall: float | None
    #: The distances of the nearest and the last record of the answer; None where it is empty.
    nearest: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class EvalRun:
    """One run of a suite against one tag. Coverage and scores are of one moment."""

    collection: str
    tag: str
    suite: str
    suite_fingerprint: str
    k: int
    queries: int
    #: Share of the eligible records that had a fresh vector, from 0 to 1.
    coverage: float
    eligible: int
    records: int
    scores: Scores
    slices: Mapping[str, SliceScores]
    #: How much of the exact answers search has found; None where there were none.
    index_recall: Score | None
    #: Whether search went through the index; on a few rows, or before there is one, PostgreSQL reads them all.
    index_used: bool
    #: In the order of the suite.
    per_query: tuple[QueryResult, ...]
    #: Quantiles of the distances, by ``nearest`` and ``last``, then by quantile such as ``0.5``.
    distances: Mapping[str, Mapping[str, float]]
    host: str
    version: str
    id: UUID = field(default_factory=uuid4)
    #: By the database's clock; None before it is written.
    at: datetime | None = None
    role: str | None = None

    def values(self, metric: str, kind: Kind = "search") -> list[float]:
        """Give the value of each query, in the order of ``per_query``."""
        return [getattr(result, kind)[metric] for result in self.per_query]

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read a row of ``runs``."""
        data = dict(zip(_COLUMNS, row, strict=True))
        kept = data.pop("scores")
        slices = {name: SliceScores(one["queries"], _scores(one, data["k"])) for name, one in kept[_SLICES].items()}
        recall = kept[_INDEX_RECALL]
        return cls(
            slices=slices,
            index_recall=Score(**recall) if recall else None,
            index_used=kept[_INDEX_USED],
            scores=_scores(kept, data["k"]),
            per_query=tuple(QueryResult(**one) for one in data.pop("per_query")),
            **data,
        )

    @property
    def kept_scores(self) -> dict[str, Any]:
        """The scores as they are kept: by metric, and beside the metrics the slices and how the index did."""
        slices = {name: {"queries": one.queries, **_plain(one.scores)} for name, one in self.slices.items()}
        recall = _plain_score(self.index_recall) if self.index_recall else None
        beside = {_SLICES: slices, _INDEX_RECALL: recall, _INDEX_USED: self.index_used}
        return _plain(self.scores) | beside


def _scores(data: Mapping[str, Any], k: int) -> Scores:
    """Read scores, in the order of the metrics, which jsonb does not keep."""
    return {metric: {kind: Score(**data[metric][kind]) for kind in KINDS} for metric in metric_names(k)}


def _plain(scores: Scores) -> dict[str, Any]:
    return {metric: {kind: _plain_score(kinds[kind]) for kind in KINDS} for metric, kinds in scores.items()}


def _plain_score(score: Score) -> dict[str, float]:
    return {"mean": score.mean, "low": score.low, "high": score.high}


# The runs ----------------------------------------------------------------------------------------------------------


def record(connection: Connection, schema: str, run: EvalRun) -> EvalRun:
    """Keep a run; return it with the database's time and role."""
    names = ("id", "collection", "tag", "suite", "suite_fingerprint", "k", "queries", "coverage", "eligible", "records")
    values = {name: getattr(run, name) for name in (*names, "host", "version")}
    per_query = [{name: getattr(one, name) for name in QueryResult.__slots__} for one in run.per_query]
    kept = {"scores": run.kept_scores, "per_query": per_query, "distances": run.distances}
    entry = insert(EVAL).values(values | kept).returning(EVAL.c.at, EVAL.c.role)
    at, role = execute(connection, schema, entry).one()
    return replace(run, at=at, role=role)


def latest(connection: Connection, schema: str, collection: str, tag: str, suite: str) -> EvalRun | None:
    """Return the last run of a suite against a tag; None where there is none."""
    query = _of(collection).where(EVAL.c.tag == tag, EVAL.c.suite == suite)
    runs = _runs(connection, schema, query.order_by(EVAL.c.at.desc(), EVAL.c.id.desc()).limit(1))
    return runs[0] if runs else None


def runs(connection: Connection, schema: str, collection: str, tag: str, suite: str | None = None) -> list[EvalRun]:
    """Return all runs against a tag, of one suite or of all, oldest first."""
    query = _of(collection).where(EVAL.c.tag == tag)
    if suite is not None:
        query = query.where(EVAL.c.suite == suite)
    return _runs(connection, schema, query.order_by(EVAL.c.at, EVAL.c.id))


def latest_of_each(connection: Connection, schema: str, collection: str) -> dict[str, list[EvalRun]]:
    """Return, by tag, the last run of each suite, in the order of the suites; without what each query came to."""
    last = last_of_each(
        # the values of each query may be many
        [cast([], JSONB).label(name) if name == "per_query" else EVAL.c[name] for name in _COLUMNS],
        by=(EVAL.c.tag, EVAL.c.suite),
        order=(EVAL.c.at.desc(), EVAL.c.id.desc()),
        where=[EVAL.c.collection == collection],
    )
    by_tag: dict[str, list[EvalRun]] = {}
    for run in _runs(connection, schema, last.order_by("tag", "suite")):
        by_tag.setdefault(run.tag, []).append(run)
    return by_tag


def kept(connection: Connection, schema: str, ids: Sequence[UUID]) -> int:
    """Count the runs of these that are kept."""
    query = select(func.count()).select_from(EVAL).where(EVAL.c.id.in_(ids))
    return int(execute(connection, schema, query).scalar_one())


def of_ids(connection: Connection, schema: str, ids: Sequence[UUID]) -> dict[UUID, EvalRun]:
    """Return some runs by their ids."""
    return {run.id: run for run in _runs(connection, schema, select(*_EVAL).where(EVAL.c.id.in_(ids)))}


def _of(collection: str) -> Select[Any]:
    return select(*_EVAL).where(EVAL.c.collection == collection)


def _runs(connection: Connection, schema: str, query: Select[Any]) -> list[EvalRun]:
    if installed_version(connection, schema) < _SINCE:
        return []
    return [EvalRun.from_row(row) for row in execute(connection, schema, query)]


# The records -------------------------------------------------------------------------------------------------------


def find_keys(
    connection: Connection, source: Source, written: Sequence[WrittenKey]
) -> list[tuple[tuple[Any, ...], bool]]:
    """Look up keys as a suite writes them: each as a search would give it, and whether the source has its record.

    Raises:
        ConfigError: one of them has another number of columns, or is no value of a column's type.
    """
    width = len(source.key)
    columns = ", ".join(f"{column.name} {column.type}" for column in source.key)
    for key in written:
        if len(key) != width:
            example = "[a, b]" if width > 1 else "a"
            raise ConfigError(
                f"relevant: {', '.join(key)} is no key of {source.collection.name}, which is ({columns}).",
                hint=f"Write each key as {example}, with one value for each column.",
            )
    typed = [
        sql.SQL("a.{}::{}").format(alias, sql.SQL(column.type))
        for alias, column in zip(_texts(source), source.key, strict=True)
    ]
    query = statement(
        "ledger/evals",
        "keys",
        records=source.records,
        keys=source.alias_list("s"),
        names=sql.SQL(", ").join(_texts(source)),
        texts=sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Placeholder(f"t{i}")) for i in range(width)),
        same_record=same_key(source.key, source.aliases_of("s"), typed),
        found_keys=sql.SQL(", ").join(
            sql.SQL("coalesce(s.{}, {})").format(alias, value)
            for alias, value in zip(source.aliases, typed, strict=True)
        ),
    )
    values = {f"t{i}": [key[i] for key in written] for i in range(width)} | {"n": list(range(len(written)))}
    try:
        with connection.transaction():
            return [(tuple(row[1:-1]), row[-1]) for row in connection.execute(query, values)]
    except psycopg.DataError as error:
        reason = error.diag.message_primary or str(error)
        raise ConfigError(
            f"relevant: a key does not fit {source.collection.name}, whose key is ({columns}): {reason}."
        ) from None


def _texts(source: Source) -> list[sql.Identifier]:
    return [sql.Identifier(f"t{i}") for i in range(len(source.key))]


def known_items(connection: Connection, source: Source, title: str | None, size: int) -> list[tuple[str, Key]]:
    """Give titles that one record alone has, each with its key; the same records each time, by the hash of their key.

    Args:
        connection: a connection of vecmig's.
        source: the collection.
        title: a SQL expression over the source's columns; None for the first sentence of the first line of the text.
        size: how many, at most.

    Raises:
        ConfigError: the expression does not work.
    """
    query = statement(
        "ledger/evals",
        "known_items",
        keys=source.alias_list("s"),
        titled=_titled(source, title),
        eligible=source.eligible("s"),
        keys_text=source.alias_text("t"),
        alias_keys=source.alias_list("t"),
    )
    try:
        with connection.transaction():
            rows = connection.execute(query, {"size": size}).fetchall()
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        if title is None or isinstance(error, pg.InsufficientPrivilege):
            raise
        raise ConfigError(
            f"The title {title!r} does not work: {error.diag.message_primary}.",
            hint=f"It is a SQL expression over the columns of {source.schema}.{source.table}.",
        ) from None
    return [(row[0], tuple(row[1:])) for row in rows]


def _titled(source: Source, title: str | None) -> sql.Composed:
    """Put the titles beside the records: columns k0, k1, …, txt and title."""
    if title is None:
        own = statement("ledger/evals", "first_sentence", longest=sql.Literal(_LONGEST_TITLE))
        return sql.SQL("(SELECT r.*, {} AS title FROM {} r)").format(own, source.records)
    collection = source.collection
    condition = raw(collection.where) if collection.where else sql.SQL("true")
    keys = [
        sql.SQL("{} AS {}").format(sql.Identifier(column.name), alias)
        for column, alias in zip(source.key, source.aliases, strict=True)
    ]
    return sql.SQL("(SELECT {}, {}::text AS txt, {}::text AS title FROM {} WHERE {})").format(
        sql.SQL(", ").join(keys), raw(collection.text), raw(title), source.relation, condition
    )
