"""Gate and Trust: what must hold before a cutover, and before the old vectors may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vecmig.errors import RecipeError
from vecmig.model.recipe_fields import is_amount, is_count


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _require(owner: object, name: str, needed: str, *, holds: bool) -> None:
    if not holds:
        value = getattr(owner, name)
        raise RecipeError(f"{type(owner).__name__}({name}={value!r}): {needed}")


@dataclass(frozen=True, slots=True)
class NoWorse:
    """The new tag must be shown to be no worse than the old one, by a suite of ``evals/`` and one of its metrics."""

    suite: str
    #: As ``vecmig eval`` names it, such as nDCG@10.
    metric: str
    #: By how much the mean may be lower and still count as no worse.
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for name in ("suite", "metric"):
            value = getattr(self, name)
            _require(self, name, "a name is needed.", holds=isinstance(value, str) and bool(value.strip()))
        _require(self, "tolerance", "a number from 0 to 1 is needed, such as 0.02.", holds=_share(self.tolerance))


@dataclass(frozen=True, slots=True)
class MinSamples:
    """How many searches of the application both tags must have answered: ``vecmig route --shadow``."""

    count: int

    def __post_init__(self) -> None:
        _require(self, "count", "a whole number from 1 is needed, such as 500.", holds=is_count(self.count))


@dataclass(frozen=True, slots=True)
class Gate:
    """What must hold before reads move to a revision's new tag. There is no override but a change of the revision."""

    #: Smallest share of the eligible records that must have a fresh vector under the new tag.
    coverage: float = 0.995
    #: Largest share of the eligible records that may lack one because they changed lately.
    freshness_budget: float = 0.005
    #: What evals must have shown.
    evals: Sequence[NoWorse] = ()
    #: How many searches both tags must have answered.
    shadow: MinSamples | None = None
    #: Smallest share of the exact answer that the search of the new tag must find.
    index_recall: float = 0.95

    def __post_init__(self) -> None:
        for name in ("coverage", "freshness_budget", "index_recall"):
            needed = "a share from 0 to 1 is needed, such as 0.995."
            _require(self, name, needed, holds=_share(getattr(self, name)))
        evals: Any = self.evals
        listed = isinstance(evals, list | tuple) and all(isinstance(one, NoWorse) for one in evals)
        _require(self, "evals", 'a list is needed, such as [NoWorse("suite", "nDCG@10")].', holds=listed)
        shadow: Any = self.shadow
        fits = shadow is None or isinstance(shadow, MinSamples)
        _require(self, "shadow", "MinSamples(…) is needed, such as MinSamples(500).", holds=fits)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a new tag must have earned before the vectors of the old one may be retired."""

    #: Days for which it served all reads.
    days: float = 21
    #: Runs of evals on so many different days, none of them showing it to be worse.
    eval_days: int = 3

    def __post_init__(self) -> None:
        real = is_amount(self.days)
        _require(self, "days", "a number of days from 0 is needed, such as 21.", holds=real)
        whole = self.eval_days == 0 or is_count(self.eval_days)
        _require(self, "eval_days", "a whole number from 0 is needed, such as 3.", holds=whole)
