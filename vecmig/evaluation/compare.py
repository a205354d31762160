"""Two tags on one suite: how much they differ, query by query, and whether the new one is no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmig.evaluation.statistics import FEW_QUERIES, intervals, randomisation_p
from vecmig.ledger.evals import EvalRun


@dataclass(frozen=True, slots=True)
class Difference:
    """New minus old of one metric, over the queries of a suite or of one slice, as production searches."""

    metric: str
    slice: str | None
    queries: int
    mean: float
    #: The 95 % interval of the paired bootstrap.
    low: float
    high: float
    #: Of the paired randomisation test, two-sided; not corrected for the number of metrics and slices looked at.
    p: float

    @property
    def few(self) -> bool:
        """Whether there are too few queries to rely on it."""
        return self.queries < FEW_QUERIES


def comparable(old: EvalRun, new: EvalRun) -> bool:
    """Whether two runs asked the same queries of the same suite as it was then."""
    same = [(run.collection, run.suite_fingerprint, [one.query for one in run.per_query]) for run in (old, new)]
    return same[0] == same[1]


def differences(old: EvalRun, new: EvalRun) -> list[Difference]:
    """Compare two comparable runs: each metric over all queries, then over each slice."""
    assert comparable(old, new), "the caller makes sure"
    groups = [one.slice for one in new.per_query]
    found = []
    for group in (None, *sorted({name for name in groups if name is not None})):
        chosen = np.array([group is None or name == group for name in groups])
        found += _differences(old, new, list(new.scores), group, chosen)
    return found


def _differences(
    old: EvalRun, new: EvalRun, metrics: Sequence[str], group: str | None, chosen: NDArray[np.bool_]
) -> list[Difference]:
    values = np.array([new.values(metric) for metric in metrics]) - np.array([old.values(metric) for metric in metrics])
    own = values[:, chosen]
    low, high = intervals(own.T)
    return [
        Difference(
            metric,
            group,
            own.shape[1],
            float(own[at].mean()),
            float(low[at]),
            float(high[at]),
            randomisation_p(own[at]),
        )
        for at, metric in enumerate(metrics)
    ]


def mean_loss(old: EvalRun, new: EvalRun, metric: str) -> float:
    """Return by how much the mean of a metric fell from one comparable run to another; below 0 where it rose."""
    return float(np.mean(old.values(metric)) - np.mean(new.values(metric)))


def no_worse(
    old_run: EvalRun, new_run: EvalRun, metric: str, tolerance: float, *, group: str | None = None
) -> tuple[bool, str]:
    """Whether the new tag is no worse than the old one by more than ``tolerance``, and the figures that say so.

    A non-inferiority test: the lower end of the paired bootstrap's two-sided 95 % interval of (new - old) must be at
    least -tolerance, which is a one-sided test at 2.5 % (Piaggio et al. 2012, JAMA 308:2594,
    doi:10.1001/jama.2012.87802). Scattered values do not pass by being unable to show a loss, as they would a test for
    a difference. Nothing passes that cannot be compared: another state of the suite, other queries, a metric that was
    not taken.

    Args:
        old_run: of the tag that reads use.
        new_run: of the tag that they are to use.
        metric: such as ``nDCG@10``.
        tolerance: the largest mean loss that is accepted, from 0 to 1.
        group: one slice of the suite; None for all queries.
    """
    if not comparable(old_run, new_run):
        return False, f"the runs of {new_run.suite} for the two tags are not of one state of the suite"
    if metric not in new_run.scores:
        return False, f"{new_run.suite} has no {metric}; it has {', '.join(new_run.scores)}"
    chosen = np.array([group is None or one.slice == group for one in new_run.per_query])
    if not chosen.any():
        return False, f"{new_run.suite} has no slice {group}"
    (found,) = _differences(old_run, new_run, [metric], group, chosen)
    few = f", which are few: below {FEW_QUERIES} the interval is too narrow" if found.few else ""
    where = f"{new_run.suite}, slice {group}," if group else new_run.suite
    detail = (
        f"{metric} on {where} {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] from old to new over "
        f"{found.queries:,} queries{few}; the lower end must be at least {0.0 - tolerance:+.3f}"
    )
    return found.low >= -tolerance, detail
