"""Whether the new tag answers as well as the old one: what evals have shown, and how often both were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vecmig.check import Check, Remedy, Required
from vecmig.model.gate import MinSamples, NoWorse
from vecmig.text import counted, noun, percent

#: Largest share of the shadowed searches that may have failed under the new tag.
MOST_SHADOW_ERRORS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """What the evals say to one condition of a gate."""

    wanted: NoWorse
    passed: bool
    #: What was found, in figures; or why what there is does not count.
    detail: str
    #: What gives evidence that counts, and the command where one is all that is to be done.
    remedy: str = ""
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Shadowing:
    """How many searches of the application the old tag answered and the new one, too."""

    answered: int
    failed: int
    #: The collection, and the tag that is to be asked too.
    collection: str = "COLLECTION"
    tag: str = "TAG"
    #: The share of the searches that it is asked now.
    share: float = 0.0


def judge_trial(trial: Trial) -> Check:
    """Judge one condition on evals."""
    wanted = trial.wanted
    return Check(
        f"eval {wanted.suite} {wanted.metric}",
        trial.passed,
        "no worse" if trial.passed else "not shown",
        Required(f"worse ≤ {wanted.tolerance:g}"),
        trial.detail,
        Remedy(trial.remedy, trial.command) if trial.remedy else None,
    )


def judge_shadow(wanted: MinSamples, found: Shadowing | None) -> Check:
    """Judge how much was seen of the new tag in shadow."""
    seen = found or Shadowing(0, 0)
    searches, were = counted(seen.answered, "search", "searches"), noun(seen.answered, "was", "were")
    detail = f"{searches} of the application {were} answered by both tags"
    if seen.failed:
        detail += f", {seen.failed:,} more failed under the new one"
    well = seen.failed <= MOST_SHADOW_ERRORS * (seen.answered + seen.failed)
    enough = seen.answered >= wanted.count
    if not well:
        detail += f", which is more than {percent(MOST_SHADOW_ERRORS)}"
    return Check(
        "shadow", enough and well, seen.answered, Required(wanted.count, "≥"), detail, _more_searches(seen, well=well)
    )


def _more_searches(seen: Shadowing, *, well: bool) -> Remedy:
    if not well:
        command = f"vecmig compare {seen.collection}"
        return Remedy(f"See why they failed: {command}. Searches that succeed make up for them.", command)
    if seen.share:
        return Remedy(f"Wait for more searches of the application: {percent(seen.share)} of them ask {seen.tag} too.")
    command = f"vecmig route {seen.collection} --shadow {seen.tag} --share 0.05"
    return Remedy(f"Let the new tag be asked too: {command}", command)
