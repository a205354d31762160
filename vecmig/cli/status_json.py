"""How a project stands, as the JSON that is documented."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vecmig.cli.checks import check_json
from vecmig.cli.control import control_json, failure_json, run_json, runner_json
from vecmig.cli.evals import eval_json
from vecmig.cli.retire import passed_json, rollback_json, trust_json

if TYPE_CHECKING:
    from vecmig.freshness.changes import Lag
    from vecmig.gate import Report
    from vecmig.runner import CollectionStatus, LaunchStatus, Status, TagStatus


def status_json(project: Status) -> dict[str, Any]:
    """Return how everything stands as the documented JSON."""
    return {
        "database": project.database,
        "current": list(project.current),
        "heads": list(project.heads),
        "pending": list(project.pending),
        "passed": [passed_json(passed) for passed in project.passed],
        "conflicts": [{"name": one.collection, "revisions": list(one.revisions)} for one in project.conflicts],
        "settled": project.settled,
        "next": project.next_command,
        "measured_at": project.measured_at,
        "spend": [
            {name: getattr(spend, name) for name in ("revision", "what", "tokens", "usd")} for spend in project.spend
        ],
        "collections": [_collection_json(project, collection) for collection in project.collections],
    }


def _collection_json(project: Status, collection: CollectionStatus) -> dict[str, Any]:
    from vecmig import runner

    route, verdict = collection.route, runner.verdict_of(project, collection)
    return {
        "name": collection.name,
        "verdict": verdict.word,
        "why": verdict.why or None,
        "live_tag": route.live,
        "standby_tag": route.standby,
        "candidate_tag": route.candidate,
        "wanted_tag": collection.wanted,
        "ramp_share": round(route.ramp_share, 6),
        "shadow_tag": route.shadow,
        "shadow_share": round(route.shadow_share, 6),
        "problem": collection.problem.message if collection.problem else None,
        "notes": list(collection.notes),
        "detached": _detached_json(collection),
        "records": collection.records,
        "eligible": collection.eligible,
        "without_key": collection.without_key,
        "changed": collection.outbox.records,
        "oldest_change": collection.outbox.oldest,
        "lag": _lag_json(collection.lag),
        "scanned": collection.scanned or None,
        "silent": [{"what": what, "name": name} for what, name in collection.silent],
        "full_pass": [{"reason": note.reason, "first": note.first, "last": note.last} for note in collection.full_pass],
        "tags": [_tag_json(tag) for tag in collection.tags],
        "gate": gate_json(collection.gate[0].id, collection.gate[1]) if collection.gate else None,
        "launch": launch_json(collection.launch),
        "rollback": rollback_json(collection.rollback),
        "trust": trust_json(collection.trust),
        "half_retired": list(collection.half_retired),
        "runs": [run_json(run) for run in collection.runs],
        "runner": runner_json(collection.runner),
        "failure": failure_json(collection.failure),
        "unfinished": collection.unfinished or None,
        "control": control_json(collection.control) if collection.control else None,
    }


def launch_json(launch: LaunchStatus | None) -> dict[str, Any] | None:
    """Return the day of a launch as the documented JSON; None where there is none."""
    if launch is None:
        return None
    names = ("revision", "day", "seconds", "start_by", "late")
    return {name: getattr(launch, name) for name in names}


def _detached_json(collection: CollectionStatus) -> dict[str, Any] | None:
    detached = collection.detached
    return None if detached is None else {"at": detached.at, "by": detached.by}


def _lag_json(lag: Lag) -> dict[str, Any]:
    return {"records": lag.records, "seconds": lag.seconds}


def _tag_json(tag: TagStatus) -> dict[str, Any]:
    c = tag.coverage
    return {
        "tag": tag.tag,
        "state": tag.state,
        "dims": tag.dims,
        "records": tag.records,
        "vectors": tag.vectors,
        "fresh": c.fresh,
        "stale": c.stale,
        "missing": c.missing,
        "rejected": c.rejected,
        "coverage": c.share,
        "compared_at": c.compared_at,
        "lag": _lag_json(tag.lag),
        "index": tag.index.word,
        "index_bytes": tag.index.bytes,
        "evals": [eval_json(run) for run in tag.evals],
        "adopted": _adopted_json(tag),
        "budget_usd": tag.budget_usd,
        "on_order": None if tag.on_order is None else asdict(tag.on_order),
    }


def _adopted_json(tag: TagStatus) -> dict[str, Any] | None:
    if tag.adopted is None:
        return None
    said = tag.adopted.adoption
    return {
        "expression": said.expression,
        "where": said.where,
        "home": said.home,
        "fill": said.fill,
        "follows": tag.adopted.follows,
        "to_write": tag.theirs,
        "verified": tag.verified,
        "refuted": tag.refuted,
        "text_changed_by": [
            {"role": role, "application": application, "records": records}
            for role, application, records in tag.text_writers
        ],
    }


def gate_json(revision: str, report: Report) -> dict[str, Any]:
    """Return a gate's report as the documented JSON."""
    return {"revision": revision, "passed": report.passed, "checks": [check_json(check) for check in report.checks]}
