"""The gate: the checks that must hold before reads move to a new tag. It looks at the data, never at the calendar."""

from vecmig.gate.canary import (
    CANARY_SIMILARITY,
    CANARY_TEXTS,
    ask_canary,
    canary_similarity,
    cut_canary,
    new_canary,
    require_same_canary,
    require_same_model,
)
from vecmig.gate.checks import judge
from vecmig.gate.measuring import Found, gather, judge_again, measure
from vecmig.gate.quality import MOST_SHADOW_ERRORS, Shadowing, Trial
from vecmig.gate.recall import Recall, measure_recall
from vecmig.gate.report import Evidence, Report
from vecmig.gate.spot import Spot, judge_spot, look, require_same_space

__all__ = [
    "CANARY_SIMILARITY",
    "CANARY_TEXTS",
    "MOST_SHADOW_ERRORS",
    "Evidence",
    "Found",
    "Recall",
    "Report",
    "Shadowing",
    "Spot",
    "Trial",
    "ask_canary",
    "canary_similarity",
    "cut_canary",
    "gather",
    "judge",
    "judge_again",
    "judge_spot",
    "look",
    "measure",
    "measure_recall",
    "new_canary",
    "require_same_canary",
    "require_same_model",
    "require_same_space",
]
