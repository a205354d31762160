"""The verbs of vecmig as functions; the command line is a thin layer over them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecmig.inventory.uninstalling import TagSize
    from vecmig.ledger.batch_orders import BatchOrder
    from vecmig.ledger.rows import EventRow
    from vecmig.runner.passing import Passed
    from vecmig.runner.project_status import CollectionStatus, LaunchStatus, RollbackStatus, Status, TagStatus
    from vecmig.runner.steps import RevisionResult
    from vecmig.runner.trust import TrustReport
    from vecmig.runner.verbs.adopt_source import Adopted, adopt_source
    from vecmig.runner.verbs.audit import Audit, Finding, Ignored, audit
    from vecmig.runner.verbs.backfill import backfill
    from vecmig.runner.verbs.batches import batches, forget_batches
    from vecmig.runner.verbs.compare import Comparison, Interval, compare
    from vecmig.runner.verbs.control import Controlled, controlled, pause, resume, tune
    from vecmig.runner.verbs.current import Standing, current
    from vecmig.runner.verbs.discover import Discovered, Discovery, Offer, discover
    from vecmig.runner.verbs.discover.writing import write_discovered
    from vecmig.runner.verbs.downgrade import StepDown, downgrade, downgrade_steps
    from vecmig.runner.verbs.ensure_version import ensure_version
    from vecmig.runner.verbs.estimate import Estimate, estimate
    from vecmig.runner.verbs.evaluate import Evaluation, MadeSuite, evaluate, make_suite
    from vecmig.runner.verbs.events import events, follow_events, known_tags, newest_event
    from vecmig.runner.verbs.gate import gate_reports
    from vecmig.runner.verbs.held import live_where_held, passed_by
    from vecmig.runner.verbs.index_estimate import IndexEstimate
    from vecmig.runner.verbs.overview import EvalPair, Insight, Overview, Pulse, overview, pulse, with_pulse
    from vecmig.runner.verbs.rejected import rejected, retry_rejected
    from vecmig.runner.verbs.release import release
    from vecmig.runner.verbs.retire import Retired, Retirement, retire, retirement
    from vecmig.runner.verbs.route import RouteChange, route
    from vecmig.runner.verbs.sql import downgrade_sql, upgrade_sql
    from vecmig.runner.verbs.stamp import stamp
    from vecmig.runner.verbs.status import status
    from vecmig.runner.verbs.sync import sync
    from vecmig.runner.verbs.uninstall import CollectionRemoval, Uninstallation, uninstall, uninstallation
    from vecmig.runner.verbs.untrack import Untracked, untrack
    from vecmig.runner.verbs.upgrade import upgrade
    from vecmig.runner.verbs.vectors import Exported, Imported, export_vectors, import_vectors
    from vecmig.runner.verbs.verify import verify
    from vecmig.runner.verbs.view import attach_view, detach_view
    from vecmig.runner.verbs.watch import watch_sync
    from vecmig.runner.verdict import Verdict, verdict_of

#: Where each name is defined. It is imported when first used, so that a command loads what its own verb needs. No name
#: may be a module of this package, which would take its place once that module is imported.
_HOMES = {
    "Adopted": "vecmig.runner.verbs.adopt_source",
    "Audit": "vecmig.runner.verbs.audit",
    "BatchOrder": "vecmig.ledger.batch_orders",
    "CollectionRemoval": "vecmig.runner.verbs.uninstall",
    "CollectionStatus": "vecmig.runner.project_status",
    "Comparison": "vecmig.runner.verbs.compare",
    "Controlled": "vecmig.runner.verbs.control",
    "Discovered": "vecmig.runner.verbs.discover",
    "Discovery": "vecmig.runner.verbs.discover",
    "Estimate": "vecmig.runner.verbs.estimate",
    "EvalPair": "vecmig.runner.verbs.overview",
    "Evaluation": "vecmig.runner.verbs.evaluate",
    "EventRow": "vecmig.ledger.rows",
    "Exported": "vecmig.runner.verbs.vectors",
    "Finding": "vecmig.runner.verbs.audit",
    "Ignored": "vecmig.runner.verbs.audit",
    "Imported": "vecmig.runner.verbs.vectors",
    "IndexEstimate": "vecmig.runner.verbs.index_estimate",
    "Insight": "vecmig.runner.verbs.overview",
    "Interval": "vecmig.runner.verbs.compare",
    "LaunchStatus": "vecmig.runner.project_status",
    "MadeSuite": "vecmig.runner.verbs.evaluate",
    "Offer": "vecmig.runner.verbs.discover",
    "Overview": "vecmig.runner.verbs.overview",
    "Passed": "vecmig.runner.passing",
    "Pulse": "vecmig.runner.verbs.overview",
    "Retired": "vecmig.runner.verbs.retire",
    "Retirement": "vecmig.runner.verbs.retire",
    "RevisionResult": "vecmig.runner.steps",
    "RollbackStatus": "vecmig.runner.project_status",
    "RouteChange": "vecmig.runner.verbs.route",
    "Standing": "vecmig.runner.verbs.current",
    "Status": "vecmig.runner.project_status",
    "StepDown": "vecmig.runner.verbs.downgrade",
    "TagSize": "vecmig.inventory.uninstalling",
    "TagStatus": "vecmig.runner.project_status",
    "TrustReport": "vecmig.runner.trust",
    "Uninstallation": "vecmig.runner.verbs.uninstall",
    "Untracked": "vecmig.runner.verbs.untrack",
    "Verdict": "vecmig.runner.verdict",
    "adopt_source": "vecmig.runner.verbs.adopt_source",
    "attach_view": "vecmig.runner.verbs.view",
    "audit": "vecmig.runner.verbs.audit",
    "backfill": "vecmig.runner.verbs.backfill",
    "batches": "vecmig.runner.verbs.batches",
    "compare": "vecmig.runner.verbs.compare",
    "controlled": "vecmig.runner.verbs.control",
    "current": "vecmig.runner.verbs.current",
    "detach_view": "vecmig.runner.verbs.view",
    "discover": "vecmig.runner.verbs.discover",
    "downgrade": "vecmig.runner.verbs.downgrade",
    "downgrade_sql": "vecmig.runner.verbs.sql",
    "downgrade_steps": "vecmig.runner.verbs.downgrade",
    "ensure_version": "vecmig.runner.verbs.ensure_version",
    "estimate": "vecmig.runner.verbs.estimate",
    "evaluate": "vecmig.runner.verbs.evaluate",
    "events": "vecmig.runner.verbs.events",
    "export_vectors": "vecmig.runner.verbs.vectors",
    "follow_events": "vecmig.runner.verbs.events",
    "forget_batches": "vecmig.runner.verbs.batches",
    "gate_reports": "vecmig.runner.verbs.gate",
    "import_vectors": "vecmig.runner.verbs.vectors",
    "known_tags": "vecmig.runner.verbs.events",
    "live_where_held": "vecmig.runner.verbs.held",
    "make_suite": "vecmig.runner.verbs.evaluate",
    "newest_event": "vecmig.runner.verbs.events",
    "overview": "vecmig.runner.verbs.overview",
    "passed_by": "vecmig.runner.verbs.held",
    "pause": "vecmig.runner.verbs.control",
    "pulse": "vecmig.runner.verbs.overview",
    "rejected": "vecmig.runner.verbs.rejected",
    "release": "vecmig.runner.verbs.release",
    "resume": "vecmig.runner.verbs.control",
    "retire": "vecmig.runner.verbs.retire",
    "retirement": "vecmig.runner.verbs.retire",
    "retry_rejected": "vecmig.runner.verbs.rejected",
    "route": "vecmig.runner.verbs.route",
    "stamp": "vecmig.runner.verbs.stamp",
    "status": "vecmig.runner.verbs.status",
    "sync": "vecmig.runner.verbs.sync",
    "tune": "vecmig.runner.verbs.control",
    "uninstall": "vecmig.runner.verbs.uninstall",
    "uninstallation": "vecmig.runner.verbs.uninstall",
    "untrack": "vecmig.runner.verbs.untrack",
    "upgrade": "vecmig.runner.verbs.upgrade",
    "upgrade_sql": "vecmig.runner.verbs.sql",
    "verdict_of": "vecmig.runner.verdict",
    "verify": "vecmig.runner.verbs.verify",
    "watch_sync": "vecmig.runner.verbs.watch",
    "with_pulse": "vecmig.runner.verbs.overview",
    "write_discovered": "vecmig.runner.verbs.discover.writing",
}

__all__ = [
    "Adopted",
    "Audit",
    "BatchOrder",
    "CollectionRemoval",
    "CollectionStatus",
    "Comparison",
    "Controlled",
    "Discovered",
    "Discovery",
    "Estimate",
    "EvalPair",
    "Evaluation",
    "EventRow",
    "Exported",
    "Finding",
    "Ignored",
    "Imported",
    "IndexEstimate",
    "Insight",
    "Interval",
    "LaunchStatus",
    "MadeSuite",
    "Offer",
    "Overview",
    "Passed",
    "Pulse",
    "Retired",
    "Retirement",
    "RevisionResult",
    "RollbackStatus",
    "RouteChange",
    "Standing",
    "Status",
    "StepDown",
    "TagSize",
    "TagStatus",
    "TrustReport",
    "Uninstallation",
    "Untracked",
    "Verdict",
    "adopt_source",
    "attach_view",
    "audit",
    "backfill",
    "batches",
    "compare",
    "controlled",
    "current",
    "detach_view",
    "discover",
    "downgrade",
    "downgrade_sql",
    "downgrade_steps",
    "ensure_version",
    "estimate",
    "evaluate",
    "events",
    "export_vectors",
    "follow_events",
    "forget_batches",
    "gate_reports",
    "import_vectors",
    "known_tags",
    "live_where_held",
    "make_suite",
    "newest_event",
    "overview",
    "passed_by",
    "pause",
    "pulse",
    "rejected",
    "release",
    "resume",
    "retire",
    "retirement",
    "retry_rejected",
    "route",
    "stamp",
    "status",
    "sync",
    "tune",
    "uninstall",
    "uninstallation",
    "untrack",
    "upgrade",
    "upgrade_sql",
    "verdict_of",
    "verify",
    "watch_sync",
    "with_pulse",
    "write_discovered",
]


if not TYPE_CHECKING:
    # a type checker goes by the imports above, and finds a name that is not there
    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
