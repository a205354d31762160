"""How much two rankings of the same search have in common, and how sure an average over many searches is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

#: How much each place of a ranking weighs less than the one before it.
PERSISTENCE: Final = 0.9
#: Two-sided 95 % of the normal distribution.
_Z: Final = 1.959963984540054
_DRAWS: Final = 2_000
#: Values are told apart to this many decimals, so that drawing a sample costs the same however many there are.
_DECIMALS: Final = 3


def overlap(one: Sequence[Any], other: Sequence[Any], k: int) -> float:
    """Give the share of the first k that both rankings have, of what they could share; 1 where both are empty."""
    first, second = set(one[:k]), set(other[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0


def rank_biased_overlap(one: Sequence[Any], other: Sequence[Any], p: float = PERSISTENCE) -> float:
    """Give the extrapolated rank-biased overlap of two rankings: 1 for the same one, 0 for two that share nothing.

    Source: Webber, Moffat, Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 32,
    which is equation 30 where both rankings have the same length.
    """
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    if not shorter:
        return 0.0 if longer else 1.0
    seen_longer: set[Any] = set()
    seen_shorter: set[Any] = set()
    total = 0.0
    shared = at_shorter = 0
    for depth, item in enumerate(longer, start=1):
        seen_longer.add(item)
        seen_shorter.update(shorter[depth - 1 : depth])
        shared = len(seen_longer & seen_shorter)
        if depth <= len(shorter):
            at_shorter = shared
        beyond = at_shorter * max(depth - len(shorter), 0) / len(shorter)
        total += (shared + beyond) / depth * p**depth
    end = (shared - at_shorter) / len(longer) + at_shorter / len(shorter)
    return (1 - p) / p * total + end * p ** len(longer)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Give the 95 % interval of a share that was ``count`` of ``total``.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not total:
        return 0.0, 1.0
    share, square = count / total, _Z**2
    middle = share + square / (2 * total)
    reach = _Z * (share * (1 - share) / total + square / (4 * total**2)) ** 0.5
    low, high = ((middle + sign * reach) / (1 + square / total) for sign in (-1, 1))
    return (max(low, 0.0) if count else 0.0, min(high, 1.0) if count < total else 1.0)


def mean_interval(values: Sequence[float], *, seed: int = 7) -> tuple[float, float]:
    """Give the 95 % interval of the mean of at least one value, by the percentiles of means of samples drawn from them.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979.
    """
    distinct, counts = np.unique(np.round(values, _DECIMALS), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=_DRAWS)
    low, high = np.percentile(draws @ distinct / len(values), [2.5, 97.5])
    return float(low), float(high)
