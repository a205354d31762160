"""What the gate judges by, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vecmig.check import By, Check
from vecmig.freshness.changes import Lag
from vecmig.freshness.coverage import Coverage
from vecmig.gate.quality import Shadowing, Trial
from vecmig.gate.recall import Recall
from vecmig.gate.spot import Spot
from vecmig.homes import IndexState

#: This many things to do are named at once.
_MOST_REMEDIES: Final = 3


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one gate, and what a re-check inside the cutover's transaction starts from."""

    collection: str
    tag: str
    checks: tuple[Check, ...]
    evidence: Evidence
    #: The database's snapshot before anything was measured.
    measured_at: str

    @property
    def passed(self) -> bool:
        """Whether every check was measured and holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold, or were not measured."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def refusing(self) -> tuple[Check, ...]:
        """The checks that were measured and do not hold."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def remedies(self) -> str:
        """What to do, a line for each of the first remedies."""
        texts = dict.fromkeys(check.remedy.text for check in self.refusing or self.failed if check.remedy)
        return "\n".join(list(texts)[:_MOST_REMEDIES])

    @property
    def waits_for(self) -> Check | None:
        """The first check that refuses, where no run of ``vecmig upgrade`` would help any of those that do."""
        refusing = self.refusing
        helped = any(check.remedy is not None and check.remedy.by is By.UPGRADE for check in refusing)
        return refusing[0] if refusing and not helped else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate judges by; gathered by ``gather``."""

    coverage: Coverage
    #: Whether triggers are meant to tell of changes, and whether they are there and enabled.
    tracked: bool
    tracking: bool
    #: Whether the database itself guarantees dims and length of each vector.
    constraint: bool
    index: IndexState
    #: Whether the planner takes the index for the search, and whether it could.
    plan: tuple[bool, bool]
    #: The tag that a rollback would go back to; None for a collection's first tag.
    old_tag: str | None
    old: Coverage | None
    #: Smallest similarity of the canary texts to their kept vectors; None where the embedder was not asked.
    canary: float | None
    #: Why the embedder gave no answer.
    canary_error: str = ""
    #: Whether the tag has no vector, so that there is nothing to ask the embedder about.
    empty: bool = False
    #: Whether the vectors were adopted: no canary is kept before vecmig embeds something beside them.
    adopted: bool = False
    #: Whether the recipe embeds all that is lacking; otherwise some vectors are the application's alone to write.
    buys: bool = True
    #: Of what is stale or missing, what the application alone can make good; and the same of the old tag.
    theirs: int = 0
    old_theirs: int = 0
    #: Whether vecmig fills what the application's column lacks.
    fills: bool = False
    #: Whether the triggers follow collections.yaml as it is now.
    followed: bool = True
    #: The changes that the tag lacks, where triggers tell of them.
    lag: Lag | None = None
    #: What a close look at a few vectors has found; None where none was taken.
    spot: Spot | None = None
    #: How much of the exact answer the search finds; None where there is nothing to search, or it was not asked.
    recall: Recall | None = None
    #: What evals say to each condition of the gate, in its order.
    trials: tuple[Trial, ...] = ()
    #: What was seen in shadow; None where it was not read.
    shadow: Shadowing | None = None
