"""The verbs of vecmig as functions; the command line is a thin layer over them."""

from vecmig.runner.sql import downgrade_sql, upgrade_sql
from vecmig.runner.status import CollectionStatus, Status, TagStatus, status
from vecmig.runner.upkeep import backfill, gate_reports, sync
from vecmig.runner.versions import Standing, current, ensure_version, stamp
from vecmig.runner.walk import Walked, downgrade, upgrade

__all__ = [
    "CollectionStatus",
    "Standing",
    "Status",
    "TagStatus",
    "Walked",
    "backfill",
    "current",
    "downgrade",
    "downgrade_sql",
    "ensure_version",
    "gate_reports",
    "stamp",
    "status",
    "sync",
    "upgrade",
    "upgrade_sql",
]
