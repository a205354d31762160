"""Whether the new tag answers as well as the old one: what evals have shown, and how often both were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vecmig.gate.verdict import Check
from vecmig.tags import MinSamples, NoWorse

#: Largest share of the shadowed searches that may have failed under the new tag.
_MOST_FAILED: Final = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """What the evals say to one condition of a gate."""

    wanted: NoWorse
    passed: bool
    #: What was found, in figures; or why what there is does not count.
    detail: str
    #: What gives evidence that counts.
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Shadowing:
    """How many searches of the application the old tag answered and the new one, too."""

    answered: int
    failed: int


def judge_trial(trial: Trial) -> Check:
    """Judge one condition on evals."""
    wanted = trial.wanted
    return Check(
        f"eval {wanted.suite} {wanted.metric}",
        trial.passed,
        "no worse" if trial.passed else "not shown",
        f"worse ≤ {wanted.tolerance:g}",
        trial.detail,
        trial.remedy,
    )


def judge_shadow(wanted: MinSamples, found: Shadowing | None) -> Check:
    """Judge how much was seen of the new tag in shadow."""
    count, failed = (0, 0) if found is None else (found.answered, found.failed)
    detail = f"{count} searches of the application were answered by both tags"
    if failed:
        detail += f", {failed} more failed under the new one"
    remedy = "Let the new tag be asked too: vecmig route COLLECTION --shadow TAG --share 0.05"
    well = failed <= _MOST_FAILED * (count + failed)
    if not well:
        detail += f", which is more than {_MOST_FAILED:.0%}"
        remedy = "Look at why they failed: vecmig compare COLLECTION. Searches that succeed make up for them."
    return Check("shadow", count >= wanted.count and well, count, wanted.count, detail, remedy)
