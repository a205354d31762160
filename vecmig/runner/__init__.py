"""The verbs of vecmig as functions; the command line is a thin layer over them."""

from vecmig.runner.estimate import Estimate, estimate
from vecmig.runner.sql import downgrade_sql, upgrade_sql
from vecmig.runner.status import CollectionStatus, Status, TagStatus, status
from vecmig.runner.upkeep import backfill, gate_reports, rejected, retry_rejected, sync
from vecmig.runner.versions import Standing, current, ensure_version, stamp
from vecmig.runner.walk import Walked, downgrade, upgrade, verify

__all__ = [
    "CollectionStatus",
    "Estimate",
    "Standing",
    "Status",
    "TagStatus",
    "Walked",
    "backfill",
    "current",
    "downgrade",
    "downgrade_sql",
    "ensure_version",
    "estimate",
    "gate_reports",
    "rejected",
    "retry_rejected",
    "stamp",
    "status",
    "sync",
    "upgrade",
    "upgrade_sql",
    "verify",
]
