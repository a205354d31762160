"""Gather what the gate judges by."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

from vecmig.freshness.change_tracking import tracking_works
from vecmig.freshness.changes import changed_since, count_theirs, lag, snapshot
from vecmig.freshness.coverage import Coverage, measure_coverage
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import TRUSTED_FOR, find_coverage
from vecmig.gate.checks import judge
from vecmig.gate.quality import Shadowing, Trial
from vecmig.gate.recall import Recall
from vecmig.gate.report import Evidence, Report
from vecmig.gate.spot import Spot
from vecmig.homes import Home
from vecmig.model.gate import Gate
from vecmig.postgres.sessions import Connection


class Found(TypedDict, total=False):
    """What was found out of the embedder and of collections.yaml; see ``Evidence``."""

    canary: float | None
    canary_error: str
    followed: bool
    spot: Spot | None
    recall: Recall | None
    empty: bool
    adopted: bool


def gather(home: Home, old: Home | None) -> Evidence:
    """Look at everything the gate needs from the database; nothing is written.

    What was not compared with every record for a day is compared now.
    """
    session, stamps = home.session, home.stamps
    coverage = find_coverage(session, stamps, within=TRUSTED_FOR)
    before = find_coverage(session, old.stamps, within=TRUSTED_FOR) if old and old.exists() else None
    return Evidence(
        coverage=coverage,
        tracked=stamps.source.tracked,
        tracking=tracking_works(session, stamps.source),
        constraint=home.guaranteed(),
        index=(state := home.index()),
        plan=home.plan() if state.usable else (False, False),
        old_tag=old.stamps.tag if old else None,
        old=before,
        canary=None,
        buys=stamps.buys and stamps.home == "partition",
        theirs=count_theirs(session, stamps, coverage),
        old_theirs=count_theirs(session, old.stamps, before) if old and before else 0,
        fills=stamps.fills,
        lag=lag(session, [stamps]) if stamps.source.tracked else None,
    )


def judge_again(gate: Gate, report: Report, home: Home, old: Home | None) -> Report:
    """Judge again inside the cutover's transaction, at a cost that does not grow with the corpus.

    What the catalogue tells is read again. Every record that changed since the report counts as one without a fresh
    vector, which is the worst it can be; without triggers nothing tells of changes, so there the full corpus is read
    again. The plan, the old tag's coverage, and what the embedder, the
    evals and the shadow have shown, are taken from the report.
    """
    session, stamps = home.session, home.stamps
    tracked = stamps.source.tracked
    found = _at_worst(report, session, stamps) if tracked else measure_coverage(session, stamps)
    evidence = replace(
        report.evidence,
        coverage=found,
        tracking=tracking_works(session, stamps.source),
        constraint=home.guaranteed(),
        index=home.index(),
        old=report.evidence.old if old is not None and old.exists() else None,
    )
    return replace(report, checks=judge(gate, evidence), evidence=evidence)


def _at_worst(report: Report, session: Connection, stamps: Stamps) -> Coverage:
    before = report.evidence.coverage
    changed = min(changed_since(session, stamps.source, stamps.schema, report.measured_at), before.fresh)
    return replace(before, fresh=before.fresh - changed, stale=before.stale + changed)


def measure(
    gate: Gate,
    home: Home,
    old: Home | None,
    *,
    trials: tuple[Trial, ...] = (),
    shadow: Shadowing | None = None,
    **found: Unpack[Found],
) -> Report:
    """Gather what the database tells of the vectors, and judge it with what others have found out."""
    measured_at = snapshot(home.session)
    evidence = replace(gather(home, old), trials=trials, shadow=shadow, **found)
    return Report(home.stamps.source.collection.name, home.stamps.tag, judge(gate, evidence), evidence, measured_at)
