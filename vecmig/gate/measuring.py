"""Gather what the gate judges by."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

from vecmig.freshness.change_tracking import tracking_works
from vecmig.freshness.changes import changed_since, lag, snapshot
from vecmig.freshness.coverage import Coverage, measure_coverage
from vecmig.freshness.stamps import Space
from vecmig.gate.checks import judge
from vecmig.gate.quality import Shadowing, Trial
from vecmig.gate.report import Evidence, Report
from vecmig.gate.spot import Spot
from vecmig.homes.index import index_state, plan_uses_index
from vecmig.homes.table import constraint_holds, is_attached
from vecmig.model.gate import Gate
from vecmig.postgres.sessions import Connection


class Found(TypedDict, total=False):
    """What was found out of the embedder and of collections.yaml; see ``Evidence``."""

    canary: float | None
    canary_error: str
    followed: bool
    spot: Spot | None
    empty: bool


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
        lag=lag(connection, [space]) if space.source.tracked else None,
    )


def judge_again(gate: Gate, report: Report, connection: Connection, space: Space, old: Space | None) -> Report:
    """Judge again inside the cutover's transaction, at a cost that does not grow with the corpus.

    What the catalogue tells is read again. Every record that changed since the report counts as one without a fresh
    vector, which is the worst it can be; without triggers nothing tells of changes, so there the full corpus is read
    again. The plan, the old tag's coverage, and what the embedder, the
    evals and the shadow have shown, are taken from the report.
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


def measure(
    connection: Connection,
    gate: Gate,
    space: Space,
    old: Space | None,
    *,
    trials: tuple[Trial, ...] = (),
    shadow: Shadowing | None = None,
    **found: Unpack[Found],
) -> Report:
    """Gather what the database tells of the vectors, and judge it with what others have found out."""
    measured_at = snapshot(connection)
    evidence = replace(gather(connection, space, old), trials=trials, shadow=shadow, **found)
    return Report(space.source.collection.name, space.tag, judge(gate, evidence), evidence, measured_at)
