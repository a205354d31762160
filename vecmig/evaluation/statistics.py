"""How sure a mean or a share is, and whether two tags differ; what is drawn for it is drawn alike in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Counts = NDArray[np.int64]

#: Below this many queries an interval is too narrow to rely on, and is marked.
FEW_QUERIES: Final = 30
#: Resamples of a bootstrap, and sign changes of a randomisation test.
RESAMPLES: Final = 10_000
#: Up to this many differences other than 0, all sign changes are looked at: 65,536 of them.
_ALL_SIGNS_UP_TO: Final = 16
#: Numbers in memory at once.
_BLOCK: Final = 4_000_000
_SEED: Final = 20_261_122
#: Two-sided 95 % of the normal distribution.
_Z: Final = 1.959963984540054
#: To how many decimals the values of one column are told apart, and how often they are drawn: its interval then costs
#: the same however many there are.
_DECIMALS: Final = 3
_FEWER_RESAMPLES: Final = 2_000


def intervals(
    values: Values, *, level: float = 0.95, counts: Counts | None = None, resamples: int = RESAMPLES
) -> tuple[Values, Values]:
    """Return the lower and upper ends, each of shape (m,), of the bootstrap intervals of m means.

    The percentile method (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13), by which queries
    are drawn again, as Sakai 2006 (SIGIR, doi:10.1145/1148170.1148261) does for retrieval. Queries are drawn alike for
    all columns.

    Args:
        values: of shape (n, m): a row for each query, at least one.
        level: how often such an interval holds the mean.
        counts: of shape (n,): how many queries each row stands for; None for one.
        resamples: how often they are drawn.
    """
    total = len(values) if counts is None else int(counts.sum())
    means = np.concatenate([drawn @ values for drawn in _draws(len(values), counts, resamples)]) / total
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def _draws(size: int, counts: Counts | None, resamples: int) -> Iterator[Values]:
    """Yield how often each of ``size`` rows is drawn, in blocks of shape (resamples, size)."""
    rng = np.random.default_rng(_SEED)
    block = max(1, min(resamples, _BLOCK // size))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        if counts is None:
            drawn = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
            yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        else:
            total = counts.sum()
            yield rng.multinomial(total, counts / total, size=rows).astype(np.float64)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of one or many values."""
    distinct, counts = np.unique(np.round(values, _DECIMALS), return_counts=True)
    low, high = intervals(distinct[:, None], counts=counts, resamples=_FEWER_RESAMPLES)
    return float(low[0]), float(high[0])


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was ``count`` of ``total``.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not total:
        return 0.0, 1.0
    share, square = count / total, _Z**2
    middle = share + square / (2 * total)
    reach = _Z * (share * (1 - share) / total + square / (4 * total**2)) ** 0.5
    low, high = ((middle + sign * reach) / (1 + square / total) for sign in (-1, 1))
    return (max(low, 0.0) if count else 0.0, min(high, 1.0) if count < total else 1.0)


def randomisation_p(differences: Values) -> float:
    """Return the two-sided p-value of Fisher's paired randomisation test of a mean difference, of shape (n,).

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
