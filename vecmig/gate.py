"""The gate: the checks that must hold before reads move to a new tag. It looks at the data, never at the calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vecmig.embedders import Embedder, embed_all, row_problems
from vecmig.errors import EmbedderError, TerminalEmbedderError
from vecmig.store.changes import changed_since, snapshot, tracking_works
from vecmig.store.connect import Connection
from vecmig.store.index import IndexState, index_state, plan_uses_index
from vecmig.store.layout import constraint_holds, is_attached
from vecmig.store.vectors import Coverage, Space, measure_coverage
from vecmig.tags import Gate

#: Texts whose vectors are kept with a new tag and compared for ever after.
CANARY_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I read a csv file line by line?",
    "Übergrößenträger, 東京 and the number 42.",
)
#: Smallest cosine similarity to the kept vector. The same weights give 0.9999 and more, on other hardware or in half
#: precision too; other weights of the same family stay far below.
CANARY_SIMILARITY: Final = 0.999

_REJECTED: Final = "For the reasons run: vecmig rejected. Correct those records, or lower the gate in the revision."


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of the gate."""

    name: str
    #: None where it was not looked at.
    passed: bool | None
    value: float | str | None
    required: float | str | None
    #: What was found, in figures.
    detail: str
    #: What to run or change when it failed.
    remedy: str = ""


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
        """Whether every check was looked at and holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold, or were not looked at."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate judges by; gathered by ``gather``."""

    coverage: Coverage
    #: Whether triggers are meant to tell of changes, and whether they are there and enabled.
    tracked: bool
    tracking: bool
    #: Whether the database itself vouches for dims and length of each vector.
    constraint: bool
    index: IndexState
    #: Whether the planner takes the index for the search, and whether it could.
    plan: tuple[bool, bool]
    #: The tag that a rollback would go back to; None for a collection's first tag.
    old_tag: str | None
    old: Coverage | None
    #: Smallest similarity of the canary texts to their kept vectors; None where nobody asked the embedder.
    canary: float | None
    #: Why the embedder gave no answer.
    canary_error: str = ""
    #: Whether the triggers follow collections.yaml as it is now.
    followed: bool = True


def gather(connection: Connection, space: Space, old: Space | None) -> Evidence:
    """Look at everything the gate needs from the database; two passes over the source, nothing is written."""
    return Evidence(
        coverage=measure_coverage(connection, space),
        tracked=space.source.tracked,
        tracking=tracking_works(connection, space.source),
        constraint=is_attached(connection, space) and constraint_holds(connection, space),
        index=(state := index_state(connection, space)),
        plan=plan_uses_index(connection, space) if state.usable else (False, False),
        old_tag=old.tag if old else None,
        old=measure_coverage(connection, old) if old and is_attached(connection, old) else None,
        canary=None,
    )


def judge(gate: Gate, evidence: Evidence) -> tuple[Check, ...]:
    """Judge the evidence. Pure: the same evidence gives the same checks."""
    checks = [
        _coverage(gate, evidence.coverage),
        _freshness(gate, evidence.coverage),
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
    checks.append(_canary(evidence))
    return tuple(checks)


def judge_again(gate: Gate, report: Report, connection: Connection, space: Space, old: Space | None) -> Report:
    """Judge again inside the cutover's transaction, at a cost that does not grow with the corpus.

    What the catalogue tells is looked at anew. Every record that changed since the report counts as one without a fresh
    vector, which is the worst it can be; without triggers nothing tells of changes, so there the whole corpus is looked
    at again. The plan, the old tag's coverage and the canary are taken from the report.
    """
    tracked = space.source.tracked
    found = _at_worst(report, connection, space) if tracked else measure_coverage(connection, space)
    evidence = replace(
        report.evidence,
        coverage=found,
        tracking=tracking_works(connection, space.source),
        constraint=is_attached(connection, space) and constraint_holds(connection, space),
        index=index_state(connection, space),
        old=report.evidence.old if old is not None and is_attached(connection, old) else None,
    )
    return replace(report, checks=judge(gate, evidence), evidence=evidence)


def _at_worst(report: Report, connection: Connection, space: Space) -> Coverage:
    before = report.evidence.coverage
    changed = min(changed_since(connection, space.source, space.schema, report.measured_at), before.fresh)
    return replace(before, fresh=before.fresh - changed, stale=before.stale + changed)


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


def _freshness(gate: Gate, found: Coverage) -> Check:
    lacking = found.stale + found.missing
    share = lacking / found.eligible if found.eligible else 0.0
    detail = f"{found.stale} records are stale and {found.missing} missing"
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


def measure(
    connection: Connection,
    gate: Gate,
    space: Space,
    old: Space | None,
    *,
    canary: float | None = None,
    canary_error: str = "",
    followed: bool = True,
) -> Report:
    """Gather and judge."""
    measured_at = snapshot(connection)
    evidence = replace(gather(connection, space, old), canary=canary, canary_error=canary_error, followed=followed)
    return Report(space.source.collection.name, space.tag, judge(gate, evidence), evidence, measured_at)


# The canary --------------------------------------------------------------------------------------------------------


def new_canary(embedder: Embedder) -> dict[str, Any]:
    """Embed the canary texts for a new tag; the mapping is what ``vecmig.tag`` keeps.

    Raises:
        TerminalEmbedderError: the embedder gives a vector that cannot be compared.
    """
    vectors = embed_all(embedder, CANARY_TEXTS)
    for problem in row_problems(vectors).values():
        raise TerminalEmbedderError(
            f"The embedder cannot embed a plain sentence: {problem}.", state="Nothing was embedded."
        )
    return {"texts": list(CANARY_TEXTS), "vectors": [[float(x) for x in vector] for vector in vectors]}


def canary_similarity(embedder: Embedder, canary: Mapping[str, Any]) -> float:
    """Embed the kept texts again and give the smallest cosine similarity to the kept vectors."""
    texts: Sequence[str] = canary["texts"]
    kept = np.asarray(canary["vectors"], dtype=np.float64)
    fresh = embed_all(embedder, texts).astype(np.float64)
    norms = np.linalg.norm(kept, axis=1) * np.linalg.norm(fresh, axis=1)
    if not norms.all():
        return 0.0
    lowest = float(((kept * fresh).sum(axis=1) / norms).min())
    return lowest if np.isfinite(lowest) else 0.0


def require_same_model(embedder: Embedder, tag: str, canary: Mapping[str, Any]) -> None:
    """Refuse to add vectors of other weights to a tag.

    Raises:
        TerminalEmbedderError: the embedder gives other vectors than when the tag was new.
    """
    similarity = canary_similarity(embedder, canary)
    if similarity < CANARY_SIMILARITY:
        raise TerminalEmbedderError(
            f"The model behind {tag} is not the one that made its vectors: similarity {similarity:.4f}, "
            f"at least {CANARY_SIMILARITY} is needed.",
            state="Nothing was embedded.",
            hint="Restore the old weights, or make a new tag with a new version after the @ and: vecmig revision",
        )


def ask_canary(embedder: Embedder, canary: Mapping[str, Any]) -> tuple[float | None, str]:
    """Give (similarity, "") or, when the embedder does not answer, (None, why)."""
    try:
        return canary_similarity(embedder, canary), ""
    except EmbedderError as error:
        return None, error.message
