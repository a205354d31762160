"""The checks of the gate. Pure: the same evidence gives the same checks."""

from __future__ import annotations

from typing import Final

from vecmig.gate.canary import CANARY_SIMILARITY
from vecmig.gate.quality import judge_shadow, judge_trial
from vecmig.gate.report import Evidence
from vecmig.gate.spot import judge_spot
from vecmig.gate.verdict import Check
from vecmig.store.changes import Lag
from vecmig.store.vectors import Coverage
from vecmig.tags import Gate

_REJECTED: Final = "For the reasons run: vecmig rejected. Correct those records, or lower the gate in the revision."


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
            "a constraint of the table vouches for dims and length of every vector"
            if evidence.constraint
            else "the constraint on the tag's partition is gone: wrong dims and zero vectors are possible",
            "Restore it: vecmig downgrade -1 --discard, then vecmig upgrade head",
        ),
        Check(
            "index",
            evidence.index.usable,
            evidence.index.word,
            "valid",
            f"the HNSW index is {evidence.index.word}" if evidence.index.exists else "there is no index yet",
            "Run: vecmig upgrade head --until index",
        ),
        _plan(evidence),
    ]
    if evidence.old_tag is not None:
        checks.append(_standby(gate, evidence.old_tag, evidence.old))
    asked = evidence.canary is not None or bool(evidence.canary_error)
    checks += [_canary(evidence), *judge_spot(evidence.spot, asked=asked)]
    checks += [judge_trial(trial) for trial in evidence.trials]
    if gate.shadow is not None:
        checks.append(judge_shadow(gate.shadow, evidence.shadow))
    return tuple(checks)


def _coverage(gate: Gate, found: Coverage) -> Check:
    lacking = found.eligible - found.fresh
    rejected = f", {found.rejected} of them rejected" if found.rejected else ""
    detail = f"{lacking} of {found.eligible} records have no fresh vector{rejected}"
    remedy = "Run: vecmig backfill" if found.stale + found.missing else _REJECTED
    if found.records and not found.eligible:
        detail, remedy = f"none of {found.records} records has a text", "Correct text: in collections.yaml."
    return Check(
        "coverage",
        found.share >= gate.coverage and (found.eligible > 0 or found.records == 0),
        found.share,
        gate.coverage,
        detail,
        remedy,
    )


def _freshness(gate: Gate, found: Coverage, behind: Lag | None) -> Check:
    lacking = found.stale + found.missing
    share = lacking / found.eligible if found.eligible else 0.0
    detail = f"{found.stale} records are stale and {found.missing} missing"
    if behind is not None and behind.records:
        detail += f"; the oldest change that is not embedded is {behind.seconds:.0f} s old"
    return Check(
        "freshness", share <= gate.freshness_budget, share, gate.freshness_budget, detail, "Run: vecmig backfill"
    )


def _accounted(evidence: Evidence) -> Check:
    count = evidence.coverage.unaccounted
    if not evidence.followed:
        detail = "collections.yaml was changed, and the triggers do not follow it yet"
        return Check("accounted", False, "changed", "followed", detail, "Run: vecmig sync")
    if evidence.tracked and not evidence.tracking:
        detail = "the triggers that tell of changes are gone or disabled"
        remedy = "Run: vecmig sync (it installs them again)"
        return Check("accounted", False, "no triggers", "triggers", detail, remedy)
    detail = "each record without a fresh vector changed lately or was rejected with a reason"
    if count:
        detail = f"{count} records without a fresh vector neither changed lately nor were rejected"
    return Check("accounted", count == 0, count, 0, detail, "Run: vecmig backfill")


def _plan(evidence: Evidence) -> Check:
    used, usable = evidence.plan
    detail = "the search cannot use the index"
    if used:
        detail = "the planner takes the index for the search"
    elif usable:
        detail = "the search can use the index; on so few rows the planner rightly reads them all"
    passed = used or usable
    return Check("index used", passed, "yes" if passed else "no", "yes", detail, "Look at its plan with EXPLAIN.")


def _standby(gate: Gate, tag: str, found: Coverage | None) -> Check:
    remedy = "Run: vecmig sync"
    if found is None:
        return Check("way back", False, None, gate.coverage, f"the vectors of {tag} are gone", remedy)
    # a record that the old tag rejected is none that going back would lose
    lacking = found.stale + found.missing
    share = (found.eligible - lacking) / found.eligible if found.eligible else 1.0
    detail = f"the old tag lacks {lacking} of {found.eligible} records"
    return Check("way back", share >= gate.coverage, share, gate.coverage, detail, remedy)


def _canary(evidence: Evidence) -> Check:
    similarity = evidence.canary
    if evidence.canary_error:
        return Check("canary", False, None, CANARY_SIMILARITY, evidence.canary_error, "Make the embedder answer first.")
    if similarity is None:
        return Check(
            "canary", None, None, CANARY_SIMILARITY, "not looked at here; it needs the embedder", "Run: vecmig gate"
        )
    same = similarity >= CANARY_SIMILARITY
    detail = "the embedder gives the vectors it gave when the tag was new"
    if not same:
        detail = f"the embedder gives other vectors than when the tag was new (similarity {similarity:.4f})"
    remedy = (
        "The model behind the name changed: make a new tag with a new version after the @, and run: vecmig revision"
    )
    return Check("canary", same, similarity, CANARY_SIMILARITY, detail, remedy)
