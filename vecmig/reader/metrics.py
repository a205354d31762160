"""How much two rankings of the same search have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

#: How much each place of a ranking weighs less than the one before it.
PERSISTENCE: Final = 0.9


def overlap(one: Sequence[Any], other: Sequence[Any], k: int) -> float:
    """Return the share of the first k that both rankings have, of what they could share; 1 where both are empty."""
    first, second = set(one[:k]), set(other[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0


def rank_biased_overlap(one: Sequence[Any], other: Sequence[Any], p: float = PERSISTENCE) -> float:
    """Return the extrapolated rank-biased overlap of two rankings: 1 for the same one, 0 for two that share nothing.

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
