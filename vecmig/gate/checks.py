"""The checks of the gate. Pure: the same evidence gives the same checks."""

from __future__ import annotations

from typing import Final

from vecmig.freshness.changes import Lag
from vecmig.freshness.coverage import Coverage
from vecmig.gate.canary import CANARY_SIMILARITY
from vecmig.gate.quality import judge_shadow, judge_trial
from vecmig.gate.report import Evidence
from vecmig.gate.spot import Spot, judge_spot
from vecmig.gate.verdict import Check
from vecmig.model.gate import Gate
from vecmig.text import counted, duration, noun

_REJECTED: Final = "For the reasons run: vecmig rejected. Correct those records, or lower the gate in the revision."
_BUILD_INDEX: Final = "Run: vecmig upgrade head --until index"


def judge(gate: Gate, evidence: Evidence) -> tuple[Check, ...]:
    """Judge the evidence. Pure: the same evidence gives the same checks."""
    checks = [
        _coverage(gate, evidence.coverage),
        _freshness(gate, evidence.coverage, evidence.lag),
        _accounted(evidence),
        Check(
            "vectors",
            evidence.constraint,
            "guaranteed" if evidence.constraint else "unchecked",
            "guaranteed",
            "a constraint of the table guarantees dims and length of every vector"
            if evidence.constraint
            else "the constraint on the tag's partition is gone: wrong dims and zero vectors are possible",
            "Run: vecmig audit, whose fix restores it and embeds nothing again",
        ),
        Check(
            "index",
            evidence.index.usable,
            evidence.index.word,
            "valid",
            f"the HNSW index is {evidence.index.word}" if evidence.index.exists else "there is no index yet",
            _BUILD_INDEX,
            upgrade_does=True,
        ),
        _plan(evidence),
    ]
    if evidence.old_tag is not None:
        checks.append(_standby(gate, evidence.old_tag, evidence.old))
    asked = evidence.canary is not None or bool(evidence.canary_error)
    spot = Spot(0) if evidence.empty else evidence.spot
    checks += [_canary(evidence), *judge_spot(spot, asked=asked)]
    checks += [judge_trial(trial) for trial in evidence.trials]
    if gate.shadow is not None:
        checks.append(judge_shadow(gate.shadow, evidence.shadow))
    return tuple(checks)


def _coverage(gate: Gate, found: Coverage) -> Check:
    lacking = found.eligible - found.fresh
    rejected = f", {found.rejected:,} of them rejected" if found.rejected else ""
    records, have = counted(found.eligible, "record"), noun(found.eligible, "has", "have")
    detail = f"{lacking:,} of {records} {have} no fresh vector{rejected}"
    pending = found.stale + found.missing > 0
    remedy = "Run: vecmig backfill" if pending else _REJECTED
    if found.records and not found.eligible:
        detail, remedy = (
            f"none of {counted(found.records, 'record')} has a text",
            "Correct text: in collections.yaml.",
        )
    return Check(
        "coverage",
        found.share >= gate.coverage and (found.eligible > 0 or found.records == 0),
        found.share,
        gate.coverage,
        detail,
        remedy,
        bound="≥",
        share=True,
        command=None if pending or not found.eligible else "vecmig rejected",
        upgrade_does=pending,
    )


def _freshness(gate: Gate, found: Coverage, behind: Lag | None) -> Check:
    lacking = found.stale + found.missing
    share = lacking / found.eligible if found.eligible else 0.0
    detail = f"{counted(found.stale, 'record is', 'records are')} stale and {found.missing:,} missing"
    if behind is not None and behind.records:
        detail += f"; the oldest change that is not embedded is {duration(behind.seconds)} old"
    return Check(
        "freshness",
        share <= gate.freshness_budget,
        share,
        gate.freshness_budget,
        detail,
        "Run: vecmig backfill",
        bound="≤",
        share=True,
        upgrade_does=True,
    )


def _accounted(evidence: Evidence) -> Check:
    count = evidence.coverage.unaccounted
    if not evidence.followed:
        detail = "collections.yaml was changed, and the triggers do not follow it yet"
        return Check("unexplained", False, "changed", "followed", detail, "Run: vecmig sync", upgrade_does=True)
    if evidence.tracked and not evidence.tracking:
        detail = "the triggers that tell of changes are gone or disabled"
        remedy = "Run: vecmig sync (it installs them again)"
        return Check("unexplained", False, "no triggers", "triggers", detail, remedy, upgrade_does=True)
    detail = "each record without a fresh vector changed lately or was rejected with a reason"
    if count:
        # such as rejected ones that are to be tried again
        are, them = noun(count, "is", "are"), noun(count, "it", "them")
        detail = (
            f"{counted(count, 'record')} without a fresh vector {are} neither noted as changed nor rejected; "
            f"vecmig backfill embeds {them}"
        )
    return Check("unexplained", count == 0, count, 0, detail, "Run: vecmig backfill", upgrade_does=True)


def _plan(evidence: Evidence) -> Check:
    used, usable = evidence.plan
    detail = "the search cannot use the index"
    if used:
        detail = "the planner takes the index for the search"
    elif usable:
        detail = "the search can use the index; on so few rows the planner rightly reads them all"
    passed = used or usable
    # without an index there is none to use, and an upgrade builds it
    built_first = not evidence.index.usable
    remedy = _BUILD_INDEX if built_first else "Read its plan with EXPLAIN."
    return Check("index used", passed, "yes" if passed else "no", "yes", detail, remedy, upgrade_does=built_first)


def _standby(gate: Gate, tag: str, found: Coverage | None) -> Check:
    command = "vecmig sync"
    remedy = f"Run: {command}"
    if found is None:
        detail = f"the vectors of {tag} are gone"
        return Check("rollback", False, None, gate.coverage, detail, remedy, bound="≥", share=True, command=command)
    # a record that the old tag rejected is none that going back would lose
    lacking = found.stale + found.missing
    share = (found.eligible - lacking) / found.eligible if found.eligible else 1.0
    detail = f"the old tag lacks {lacking:,} of {counted(found.eligible, 'record')}"
    held = share >= gate.coverage
    return Check("rollback", held, share, gate.coverage, detail, remedy, bound="≥", share=True, command=command)


def _canary(evidence: Evidence) -> Check:
    similarity, error = evidence.canary, evidence.canary_error
    if evidence.empty:
        passed, detail, remedy = True, "there is no vector yet; the canary is kept with the first one", ""
    elif error:
        passed, similarity, detail, remedy = False, None, error, "Make the embedder answer first."
    elif similarity is None:
        passed, detail, remedy = None, "not measured here: it needs the embedder", "Run: vecmig gate"
    else:
        passed = similarity >= CANARY_SIMILARITY
        detail = "the embedder gives the vectors it gave when the tag was new"
        if not passed:
            detail = f"the embedder gives other vectors than when the tag was new (similarity {similarity:.4f})"
        remedy = (
            "The model behind the name changed: make a new tag with a new version after the @, and run: vecmig revision"
        )
    return Check("canary", passed, similarity, CANARY_SIMILARITY, detail, remedy, bound="≥")
