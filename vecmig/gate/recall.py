"""Compare the search that production uses with the exact answer, on stored vectors as queries.

The exact answer reads all vectors for each query. So it is taken once for an index and its settings, and kept with the
tag; what is asked each time is whether searches find the very vectors that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vecmig.check import Check, Remedy, Required
from vecmig.homes import Hit, Home, Sampled, home_over
from vecmig.model.collection import Metric
from vecmig.model.index import Index
from vecmig.text import percent

Vectors = NDArray[np.float32]

#: Vectors that are searched for, and how many answers each search is asked for.
QUERIES: Final = 100
_ANSWERS: Final = 10
#: Exact searches in one transaction: each reads all vectors.
_AT_ONCE: Final = 10
#: The smallest share of the vectors that their own search must find; and how far a vector may be from itself.
_FOUND: Final = 0.5
_ROUNDING: Final = 1e-4
#: How much two distances differ at most that are one, as those of identical vectors are.
_SAME: Final = 1e-6
#: From what share of the answers on copies of one vector are said to be the reason.
_MANY_COPIES: Final = 0.2
#: What is tried where an index misses too much.
_KEPT: Final = (80, 160, 320, 640, 1000)
_RERANKED: Final = (20, 40, 100)


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of the exact answer the search finds."""

    queries: int
    #: The mean share of the exact answer that is found, and its interval at 95 %.
    share: float
    low: float
    high: float
    #: What was searched: the settings of the index, and the number of its file.
    index: Mapping[str, Any]
    file: int
    #: Where it is too little, the settings that were enough; None where none were.
    enough: Mapping[str, Any] | None = None
    #: The share of the exact answer that is another copy of a vector in it: it has the same distance.
    copies: float = 0.0
    #: How many of the vectors their own search found, when this was asked last.
    own: int = 0
    asked: int = 0

    def to_mapping(self) -> dict[str, Any]:
        """Return what is kept of it with the tag."""
        return {name: value for name, value in asdict(self).items() if name not in ("enough", "copies", "own", "asked")}

    @classmethod
    def kept(cls, data: Mapping[str, Any] | None, home: Home, required: float) -> Self | None:
        """Return what was kept with the tag, if it was enough and tells of the index that is there."""
        if data is None or (data["index"], data["file"]) != (home.stamps.index.to_mapping(), home.index().file):
            return None
        # what was not enough may be by now: a session's hnsw.ef_search counts, too
        return cls(**data) if data["share"] >= required else None


def measure_recall(home: Home, required: float, kept: Mapping[str, Any] | None = None) -> Recall | None:
    """Search for stored vectors as production does, and compare that with the exact answer; None without vectors.

    Args:
        home: the tag's, whose index is usable.
        required: the share of the exact answer that must be found; where it is not, other settings are tried.
        kept: what was found before.
    """
    # copies of a vector are one question: else boilerplate would be most of what is asked
    sample = list({one.vector.tobytes(): one for one in home.sample(QUERIES)}.values())
    if not sample:
        return None
    before = Recall.kept(kept, home, required)
    given, exact = _answers(home, sample, exactly=before is None)
    found = before or _compare(home, sample, given, exact, required)
    own = sum(_finds_itself(home, one, hits) for one, hits in zip(sample, given, strict=True))
    return replace(found, own=own, asked=len(sample))


def _answers(
    home: Home, sample: Sequence[Sampled], *, exactly: bool
) -> tuple[list[list[Hit]], list[NDArray[np.float64]]]:
    """Return what the search gives, and how far the exact answer is, both of the same moment: records may change."""
    given: list[list[Hit]] = []
    exact: list[NDArray[np.float64]] = []
    for first in range(0, len(sample), _AT_ONCE):
        vectors = [one.vector for one in sample[first : first + _AT_ONCE]]
        with home.session.transaction():
            home.session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            given += home.search_each(vectors, _ANSWERS)
            if exactly:
                exact += map(_distances, home.search_each(vectors, _ANSWERS, exact=True))
    return given, exact


def _compare(
    home: Home,
    sample: Sequence[Sampled],
    given: Sequence[list[Hit]],
    exact: Sequence[NDArray[np.float64]],
    required: float,
) -> Recall:
    shares = _shares(given, exact)
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    enough = None
    if mean < required:
        for index in _others(home.stamps.index, home.stamps.index_type):
            other = home_over(home.session, home.stamps.indexed_as(index))
            found = other.search_each([one.vector for one in sample], _ANSWERS)
            if float(_shares(found, exact).mean()) >= required:
                enough = index.to_mapping()
                break
    return Recall(
        len(sample),
        mean,
        max(0.0, mean - half),
        min(1.0, mean + half),
        home.stamps.index.to_mapping(),
        home.index().file,
        enough,
        copies=float(np.mean([(np.diff(far) <= _SAME).sum() / len(far) for far in exact if len(far)] or [0.0])),
    )


def _distances(hits: Sequence[Hit]) -> NDArray[np.float64]:
    return np.array([hit.distance for hit in hits])


def _shares(given: Sequence[list[Hit]], exact: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return for each query the share of the exact answer that was given; copies of a vector are one answer."""
    return np.array([_share(_distances(hits), far) for hits, far in zip(given, exact, strict=True)])


def _share(given: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    return float(np.isclose(exact[:, None], given, rtol=_SAME, atol=_SAME).any(axis=1).mean()) if len(exact) else 0.0


def _others(index: Index, kind: str) -> Iterator[Index]:
    """Yield settings of the same index that find more, the cheapest first."""
    if kind == "bit":
        before = index.rerank or 10
        yield from (replace(index, rerank=times) for times in _RERANKED if times > before)
        index = replace(index, rerank=max(before, _RERANKED[-1]))
    yield from (replace(index, ef_search=kept) for kept in _KEPT if kept > (index.ef_search or 0))


def _finds_itself(home: Home, one: Sampled, hits: Sequence[Hit]) -> bool:
    bound = _farthest(home.stamps.source.collection.metric, one.vector)
    return any(hit.text == one.text or hit.distance <= bound for hit in hits)


def _farthest(metric: Metric, vector: Vectors) -> float:
    """Return the distance of a vector to itself, and a little more."""
    square = float(vector.astype(np.float64) @ vector)
    if metric == "ip":
        return -square * (1 - _ROUNDING)
    return _ROUNDING if metric == "cosine" else float(_ROUNDING * np.sqrt(square))


def judge_recall(found: Recall, required: float) -> Check:
    """Judge how much of the exact answer the search finds."""
    between = f"{percent(found.low)} to {percent(found.high)}"
    detail = (
        f"the search finds {percent(found.share)} ({between}) of the {_ANSWERS} vectors that are nearest to each of "
        f"{found.queries}"
    )
    own, share = found.own >= _FOUND * found.asked, found.share
    remedy = Remedy("Rebuild the index: DROP INDEX CONCURRENTLY, then vecmig upgrade head --until index")
    if not own:
        detail = f"the search finds {found.own} of {found.asked} vectors drawn at random"
        share = found.own / found.asked
    elif found.enough is not None:
        settings = ", ".join(f"{name}: {value}" for name, value in found.enough.items())
        remedy = Remedy(f"Write index: {{{settings}}} beside the tag's recipe, then run: vecmig upgrade head")
    elif found.copies >= _MANY_COPIES:
        detail += f"; {percent(found.copies)} of these are copies of another"
        remedy = Remedy(
            "An HNSW index loses vectors where many are the same, as those of one text in many records are. Leave such "
            "records out with where: in collections.yaml, build with a larger ef_construction (index: beside the tag's "
            "recipe), or write in the script what is enough: Gate(index_recall=...)"
        )
    elif share < required:
        remedy = Remedy(
            f"No ef_search up to {_KEPT[-1]:,} and no rerank up to {_RERANKED[-1]} is enough. If the index has lost "
            "vectors, rebuild it: DROP INDEX CONCURRENTLY, then vecmig upgrade head --until index. Otherwise give it a "
            "larger m or another type: index: beside the tag's recipe."
        )
    return Check("index recall", own and share >= required, share, Required(required, "≥", share=True), detail, remedy)
