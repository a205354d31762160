"""Run a suite against one tag: search as production does, search again exactly, and score both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vecmig.about import version
from vecmig.config.suites import Suite, WrittenKey
from vecmig.evaluation.metrics import query_metrics
from vecmig.evaluation.statistics import intervals
from vecmig.freshness.coverage import Coverage
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import find_coverage
from vecmig.homes import Hit, Home
from vecmig.ledger.evals import EvalRun, QueryResult, Score, Scores, SliceScores, find_keys, metric_names
from vecmig.postgres.sessions import Connection

#: Which quantiles of the distances are kept.
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
#: A record with many near chunks may crowd others out: this many times k chunks are asked for, at most.
_MOST_CHUNKS: Final = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, and what of the suite the source does not have."""

    run: EvalRun
    #: Keys of relevant records that do not exist now; they count as not found.
    unknown: tuple[WrittenKey, ...]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was found for each query: records, each once, with its nearest chunk, nearest first."""

    search: list[list[Hit]]
    exact: list[list[Hit]]


def run_suite(home: Home, suite: Suite, vectors: NDArray[np.float32], *, host: str) -> Outcome:
    """Run a suite against a tag, in one snapshot, so that coverage and scores are of one moment. Nothing is written.

    Args:
        home: that of the tag, over a session with no transaction open.
        suite: what to ask.
        vectors: the queries as the tag's own recipe embeds them, of shape (queries, dims).
        host: where this runs.

    Raises:
        ConfigError: a relevant key does not fit the collection's key.
    """
    session, stamps = home.session, home.stamps
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        relevant, unknown = _relevant(session, stamps, suite)
        coverage = find_coverage(session, stamps)
        index_used, _ = home.plan()
        answers = _Answers(
            *([nearest_records(home, vector, suite.k, exact=exact) for vector in vectors] for exact in (False, True))
        )
    return Outcome(_run(stamps, suite, relevant, answers, coverage, index_used=index_used, host=host), unknown)


def nearest_records(home: Home, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
    """Return the k records nearest to a query vector of shape (dims,), each once, with the nearest of its chunks.

    The search counts chunks. Where several of them belong to one record, more are asked for until there are k records.
    """
    chunks = k
    while True:
        hits = home.search(vector, chunks, exact=exact)
        best: dict[tuple[Any, ...], Hit] = {}
        for hit in hits:
            best.setdefault(hit.key, hit)
        if len(best) >= k or len(hits) < chunks or not home.stamps.chunks or chunks >= k * _MOST_CHUNKS:
            return list(best.values())[:k]
        chunks *= 2


def _relevant(
    connection: Connection, stamps: Stamps, suite: Suite
) -> tuple[list[dict[tuple[Any, ...], int]], tuple[WrittenKey, ...]]:
    """Return the grades of each query's records by their keys as a search has them, and the keys that do not exist."""
    written = list(dict.fromkeys(key for query in suite.queries for key in query.relevant))
    found = dict(zip(written, find_keys(connection, stamps.source, written), strict=True))
    unknown = tuple(key for key, (_, exists) in found.items() if not exists)
    graded: list[dict[tuple[Any, ...], int]] = []
    for query in suite.queries:
        own: dict[tuple[Any, ...], int] = {}
        for key, grade in query.relevant.items():
            # 7 and 007 are one key
            own[found[key][0]] = max(grade, own.get(found[key][0], 0))
        graded.append(own)
    return graded, unknown


def _run(
    stamps: Stamps,
    suite: Suite,
    relevant: Sequence[Mapping[tuple[Any, ...], int]],
    answers: _Answers,
    coverage: Coverage,
    *,
    index_used: bool,
    host: str,
) -> EvalRun:
    per_query = _results(suite, relevant, answers)
    groups = sorted({one.slice for one in per_query if one.slice is not None})
    slices = {group: [one for one in per_query if one.slice == group] for group in groups}
    recalls = [one.index_recall for one in per_query if one.index_recall is not None]
    return EvalRun(
        collection=suite.collection,
        tag=stamps.tag,
        suite=suite.name,
        suite_fingerprint=suite.fingerprint,
        k=suite.k,
        queries=len(suite.queries),
        coverage=coverage.share,
        eligible=coverage.eligible,
        records=coverage.records,
        scores=_scores(per_query, suite.k),
        slices={group: SliceScores(len(own), _scores(own, suite.k)) for group, own in slices.items()},
        index_recall=_means(np.array(recalls)[:, None])[0] if recalls else None,
        index_used=index_used,
        per_query=tuple(per_query),
        distances={name: _quantiles([getattr(one, name) for one in per_query]) for name in ("nearest", "last")},
        host=host,
        version=version(),
    )


def _results(suite: Suite, relevant: Sequence[Mapping[tuple[Any, ...], int]], answers: _Answers) -> list[QueryResult]:
    names: dict[tuple[Any, ...], str] = {}

    def name(key: tuple[Any, ...]) -> str:
        return names.setdefault(key, str(len(names)))

    judged = [{name(key): grade for key, grade in own.items()} for own in relevant]
    search, exact = (
        query_metrics(judged, [[name(hit.key) for hit in hits] for hits in found], suite.k)
        for found in (answers.search, answers.exact)
    )
    return [
        QueryResult(
            query=query.id,
            slice=query.slice,
            search=search[n],
            exact=exact[n],
            index_recall=_index_recall(answers.search[n], answers.exact[n]),
            nearest=answers.search[n][0].distance if answers.search[n] else None,
            last=answers.search[n][-1].distance if answers.search[n] else None,
        )
        for n, query in enumerate(suite.queries)
    ]


def _index_recall(search: Sequence[Hit], exact: Sequence[Hit]) -> float | None:
    """Return the share of the exact answer that search has found; another record at the same distance is as good."""
    if not exact:
        return None
    return sum(hit.distance <= exact[-1].distance for hit in search[: len(exact)]) / len(exact)


def _scores(results: Sequence[QueryResult], k: int) -> Scores:
    names = metric_names(k)
    columns = [[getattr(one, kind)[name] for one in results] for name in names for kind in ("search", "exact")]
    means = _means(np.array(columns, dtype=np.float64).T)
    return {name: {"search": means[2 * at], "exact": means[2 * at + 1]} for at, name in enumerate(names)}


def _means(values: NDArray[np.float64]) -> list[Score]:
    """Return the mean of each column with its interval."""
    low, high = intervals(values)
    return [Score(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def _quantiles(distances: Sequence[float | None]) -> dict[str, float]:
    found = [distance for distance in distances if distance is not None]
    if not found:
        return {}
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(found, QUANTILES), strict=True)}
