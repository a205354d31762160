"""The checks of the gate. Pure: the same evidence gives the same checks."""

from __future__ import annotations

from typing import Final

from vecmig.check import By, Check, Remedy, Required
from vecmig.freshness.changes import Lag
from vecmig.freshness.coverage import Coverage
from vecmig.gate.canary import CANARY_SIMILARITY
from vecmig.gate.quality import judge_shadow, judge_trial
from vecmig.gate.recall import judge_recall
from vecmig.gate.report import Evidence
from vecmig.gate.spot import Spot, judge_spot
from vecmig.model.gate import Gate
from vecmig.text import counted, duration, noun

_REJECTED: Final = Remedy(
    "For the reasons run: vecmig rejected. Correct those records, or lower the gate in the revision.",
    "vecmig rejected",
)
_BUILD_INDEX: Final = Remedy.run("vecmig upgrade head --until index", By.UPGRADE)
_BACKFILL: Final = Remedy.run("vecmig backfill", By.UPGRADE)
_NOT_BOUGHT: Final = Remedy(
    "Their vectors are the application's to write; the next run takes them over. Or let the revision embed what the "
    "column lacks, fill=True in m.adopt(), after: vecmig downgrade -1 --discard"
)
_NOT_REPLACED: Final = Remedy(
    "The application has vectors of older texts there, which are its own to write; the next run takes over what it "
    "writes. Or empty the column of those records, and the next run fills it."
)


def judge(gate: Gate, evidence: Evidence) -> tuple[Check, ...]:
    """Judge the evidence. Pure: the same evidence gives the same checks."""
    lacks = _lacks(gate, evidence)
    checks = [
        _coverage(gate, evidence.coverage, lacks),
        _freshness(gate, evidence.coverage, evidence.lag, lacks),
        _accounted(evidence),
        Check(
            "vectors",
            evidence.constraint,
            "guaranteed" if evidence.constraint else "unchecked",
            Required("guaranteed"),
            "dims and length of every vector are guaranteed"
            if evidence.constraint
            else "the constraint on the tag's partition is gone: wrong dims and zero vectors are possible",
            Remedy("Run: vecmig audit, whose fix restores it and embeds nothing again"),
        ),
        Check(
            "index",
            evidence.index.usable,
            evidence.index.word,
            Required("valid"),
            f"the HNSW index is {evidence.index.word}" if evidence.index.exists else "there is no index yet",
            _BUILD_INDEX,
        ),
        _plan(evidence),
    ]
    if evidence.old_tag is not None:
        checks.append(_standby(gate, evidence.old_tag, evidence.old, evidence.old_theirs))
    asked = evidence.canary is not None or bool(evidence.canary_error) or evidence.adopted
    spot = Spot(0) if evidence.empty else evidence.spot
    checks += [_canary(evidence), *judge_spot(spot, asked=asked, adopted=evidence.adopted)]
    if evidence.recall is not None:
        checks.append(judge_recall(evidence.recall, gate.index_recall))
    checks += [judge_trial(trial) for trial in evidence.trials]
    if gate.shadow is not None:
        checks.append(judge_shadow(gate.shadow, evidence.shadow))
    return tuple(checks)


def _lacks(gate: Gate, evidence: Evidence) -> Remedy:
    """Return what makes good what is stale or missing: a run, unless the application has too much to write."""
    found, theirs = evidence.coverage, evidence.theirs
    covered = found.eligible - found.rejected - theirs >= gate.coverage * found.eligible
    if not theirs or (covered and theirs <= gate.freshness_budget * found.eligible):
        return _BACKFILL
    return _NOT_REPLACED if evidence.fills else _NOT_BOUGHT


def _coverage(gate: Gate, found: Coverage, lacks: Remedy) -> Check:
    lacking = found.eligible - found.fresh
    rejected = f", {found.rejected:,} of them rejected" if found.rejected else ""
    records, have = counted(found.eligible, "record"), noun(found.eligible, "has", "have")
    detail = f"{lacking:,} of {records} {have} no fresh vector{rejected}"
    pending = found.stale + found.missing > 0
    remedy = lacks if pending else _REJECTED
    if found.records and not found.eligible:
        detail, remedy = (
            f"none of {counted(found.records, 'record')} has a text",
            Remedy("Correct text: in collections.yaml."),
        )
    return Check(
        "coverage",
        found.share >= gate.coverage and (found.eligible > 0 or found.records == 0),
        found.share,
        Required(gate.coverage, "≥", share=True),
        detail,
        remedy,
    )


def _freshness(gate: Gate, found: Coverage, behind: Lag | None, lacks: Remedy) -> Check:
    lacking = found.stale + found.missing
    share = lacking / found.eligible if found.eligible else 0.0
    detail = f"{counted(found.stale, 'record is', 'records are')} stale and {found.missing:,} missing"
    if behind is not None and behind.records:
        detail += f"; the oldest change that is not embedded is {duration(round(behind.seconds))} old"
    return Check(
        "freshness",
        share <= gate.freshness_budget,
        share,
        Required(gate.freshness_budget, "≤", share=True),
        detail,
        lacks,
    )


def _accounted(evidence: Evidence) -> Check:
    count = evidence.coverage.unaccounted
    if not evidence.followed:
        detail = "collections.yaml was changed, and the triggers do not follow it yet"
        return Check(
            "unexplained", False, "changed", Required("followed"), detail, Remedy.run("vecmig sync", By.UPGRADE)
        )
    if evidence.tracked and not evidence.tracking:
        detail = "the triggers that tell of changes are gone or disabled"
        remedy = Remedy("Run: vecmig sync (it installs them again)", "vecmig sync", By.UPGRADE)
        return Check("unexplained", False, "no triggers", Required("triggers"), detail, remedy)
    detail = "each record without a fresh vector changed lately or was rejected with a reason"
    if (at := evidence.coverage.compared_at) is not None:
        detail += f"; verified at {at:%Y-%m-%d %H:%M} UTC by comparing every record"
    if count:
        # such as rejected ones that are to be tried again
        are, them = noun(count, "is", "are"), noun(count, "it", "them")
        detail = (
            f"{counted(count, 'record')} without a fresh vector {are} neither noted as changed nor rejected; "
            f"vecmig backfill embeds {them}"
        )
    if count and not evidence.buys:
        detail = f"{counted(count, 'record')} {noun(count, 'has', 'have')} no vector in the column that was adopted"
        # how many there may be is for coverage to say
        return Check("unexplained", True, count, None, detail)
    return Check("unexplained", count == 0, count, Required(0), detail, _BACKFILL)


def _plan(evidence: Evidence) -> Check:
    used, usable = evidence.plan
    detail = "the search cannot use the index"
    if used:
        detail = "the planner takes the index for the search"
    elif usable:
        detail = "the search can use the index; on so few rows the planner rightly reads them all"
    passed = used or usable
    # without an index there is none to use, and an upgrade builds it
    remedy = Remedy("Read its plan with EXPLAIN.") if evidence.index.usable else _BUILD_INDEX
    return Check("index used", passed, "yes" if passed else "no", Required("yes"), detail, remedy)


def _standby(gate: Gate, tag: str, found: Coverage | None, theirs: int) -> Check:
    remedy, required = Remedy.run("vecmig sync", By.SYNC), Required(gate.coverage, "≥", share=True)
    if found is None:
        return Check("rollback", False, None, required, f"the vectors of {tag} are gone", remedy)
    # a record that the old tag rejected is none that going back would lose
    lacking = found.stale + found.missing
    share = (found.eligible - lacking) / found.eligible if found.eligible else 1.0
    if found.eligible - theirs < gate.coverage * found.eligible:
        remedy = Remedy(f"Vectors of {tag} are the application's to write; vecmig sync takes over what it writes.")
    detail = f"the old tag lacks {lacking:,} of {counted(found.eligible, 'record')}"
    return Check("rollback", share >= gate.coverage, share, required, detail, remedy)


def _canary(evidence: Evidence) -> Check:
    similarity, error = evidence.canary, evidence.canary_error
    if evidence.empty:
        passed, detail, remedy = True, "there is no vector yet; the canary is kept with the first one", None
    elif evidence.adopted and similarity is None:
        passed, detail, remedy = True, "none is kept before vecmig embeds something under an adopted tag", None
    elif error:
        passed, similarity, detail, remedy = False, None, error, Remedy("Make the embedder answer first.")
    elif similarity is None:
        passed, detail, remedy = None, "not measured here: it needs the embedder", Remedy.run("vecmig gate")
    else:
        passed = similarity >= CANARY_SIMILARITY
        detail = "the embedder gives the vectors it gave when the tag was new"
        if not passed:
            detail = f"the embedder gives other vectors than when the tag was new (similarity {similarity:.4f})"
        remedy = Remedy(
            "The model behind the name changed: make a new tag with a new version after the @, and run: vecmig revision"
        )
    return Check("canary", passed, similarity, Required(CANARY_SIMILARITY, "≥"), detail, remedy)
