"""The verbs of vecmig as functions; the command line is a thin layer over them."""

from vecmig.inventory.uninstalling import TagSize
from vecmig.runner.adopt_source import Adopted, adopt_source
from vecmig.runner.audit import Audit, Finding, audit
from vecmig.runner.backfill import backfill
from vecmig.runner.compare import Comparison, compare
from vecmig.runner.control import Controlled, controlled, pause, resume, tune
from vecmig.runner.current import Standing, current
from vecmig.runner.downgrade import downgrade
from vecmig.runner.ensure_version import ensure_version
from vecmig.runner.estimate import Estimate, estimate
from vecmig.runner.evaluate import Evaluated, Made, evaluate, make_suite
from vecmig.runner.gate import gate_reports
from vecmig.runner.rejected import rejected, retry_rejected
from vecmig.runner.retire import Retired, Retirement, retire, retirement
from vecmig.runner.route import Reads, route
from vecmig.runner.sql import downgrade_sql, upgrade_sql
from vecmig.runner.stamp import stamp
from vecmig.runner.status import CollectionStatus, Status, TagStatus, WayBack, status
from vecmig.runner.steps import Walked
from vecmig.runner.sync import sync
from vecmig.runner.trust import Earned
from vecmig.runner.uninstall import CollectionLeaving, Uninstallation, uninstall, uninstallation
from vecmig.runner.untrack import Untracked, untrack
from vecmig.runner.upgrade import upgrade
from vecmig.runner.verify import verify
from vecmig.runner.view import attach_view, detach_view
from vecmig.runner.watch import watch_sync

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
