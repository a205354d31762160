"""The verbs of vecmig as functions; the command line is a thin layer over them."""

from vecmig.inventory.uninstalling import TagSize
from vecmig.runner.adopting import Adopted, adopt_source
from vecmig.runner.audit import Audit, Finding, audit
from vecmig.runner.control import Controlled, controlled, pause, resume, tune
from vecmig.runner.estimate import Estimate, estimate
from vecmig.runner.evals import Evaluated, Made, evaluate, make_suite
from vecmig.runner.retire import Retired, Retirement, retire, retirement
from vecmig.runner.routes import Comparison, Reads, compare, route
from vecmig.runner.service import watch_sync
from vecmig.runner.sql import downgrade_sql, upgrade_sql
from vecmig.runner.status import CollectionStatus, Status, TagStatus, WayBack, status
from vecmig.runner.sync import sync
from vecmig.runner.trust import Earned
from vecmig.runner.uninstalling import CollectionLeaving, Uninstallation, uninstall, uninstallation
from vecmig.runner.untracking import Untracked, untrack
from vecmig.runner.upkeep import backfill, gate_reports, rejected, retry_rejected
from vecmig.runner.versions import Standing, current, ensure_version, stamp
from vecmig.runner.views import attach_view, detach_view
from vecmig.runner.walk import Walked, downgrade, upgrade, verify

__all__ = [
    "Adopted",
    "Audit",
    "CollectionLeaving",
    "CollectionStatus",
    "Comparison",
    "Controlled",
    "Earned",
    "Estimate",
    "Evaluated",
    "Finding",
    "Made",
    "Reads",
    "Retired",
    "Retirement",
    "Standing",
    "Status",
    "TagSize",
    "TagStatus",
    "Uninstallation",
    "Untracked",
    "Walked",
    "WayBack",
    "adopt_source",
    "attach_view",
    "audit",
    "backfill",
    "compare",
    "controlled",
    "current",
    "detach_view",
    "downgrade",
    "downgrade_sql",
    "ensure_version",
    "estimate",
    "evaluate",
    "gate_reports",
    "make_suite",
    "pause",
    "rejected",
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
    "verify",
    "watch_sync",
]
