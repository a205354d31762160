"""How sure a mean is, and whether two tags differ: bootstrap intervals and a randomisation test, both repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Below so many queries an interval is too narrow to rely on, and is marked.
FEW_QUERIES: Final = 30
#: Resamples of a bootstrap, and sign changes of a randomisation test.
RESAMPLES: Final = 10_000
#: Up to so many differences other than 0, all sign changes are looked at: 65,536 of them.
_ALL_SIGNS_UP_TO: Final = 16
#: Numbers in memory at once.
_BLOCK: Final = 4_000_000
_SEED: Final = 20_261_122


def intervals(values: Values, *, level: float = 0.95) -> tuple[Values, Values]:
    """Give the lower and upper ends, each of shape (m,), of the bootstrap intervals of m means.

    The percentile method (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13), by which queries
    are drawn anew, as Sakai 2006 (SIGIR, doi:10.1145/1148170.1148261) does for retrieval. Queries are drawn alike for
    all columns, and alike in every run.

    Args:
        values: of shape (n, m): a row for each query, at least one.
        level: how often such an interval holds the mean.
    """
    rng = np.random.default_rng(_SEED)
    means = np.concatenate([counts @ values for counts in _draws(rng, len(values))]) / len(values)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def _draws(rng: np.random.Generator, size: int) -> Iterator[Values]:
    """Give how often each of ``size`` queries is drawn, in blocks of shape (resamples, size)."""
    block = max(1, min(RESAMPLES, _BLOCK // size))
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def randomisation_p(differences: Values) -> float:
    """Give the two-sided p-value of Fisher's paired randomisation test of a mean difference, of shape (n,).

    If the two tags were alike, each query's difference could as well have the other sign. Smucker, Allan and Carterette
    2007 (CIKM, doi:10.1145/1321440.1321528) find it, the bootstrap and the t-test alike for retrieval, and advise
    against the Wilcoxon and the sign test. All sign changes are looked at where they are few, else 10,000 of them, and
    the observed one counts among these (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585), so that p is never 0.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    observed = abs(moved.sum()) * (1 - 1e-12)
    if len(moved) <= _ALL_SIGNS_UP_TO:
        numbers = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))
        return float((np.abs((1 - 2.0 * (numbers & 1)) @ moved) >= observed).mean())
    rng = np.random.default_rng(_SEED)
    block = max(1, min(RESAMPLES, _BLOCK // len(moved)))
    extreme = 0
    for start in range(0, RESAMPLES, block):
        signs = 1 - 2.0 * rng.integers(2, size=(min(block, RESAMPLES - start), len(moved)))
        extreme += int((np.abs(signs @ moved) >= observed).sum())
    return (extreme + 1) / (RESAMPLES + 1)
