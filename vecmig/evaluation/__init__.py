"""Evidence: suites of queries run against tags, scored, and compared query by query."""

from vecmig.evaluation.compare import Difference, comparable, differences, mean_loss, no_worse
from vecmig.evaluation.engine import Outcome, nearest_records, run_suite
from vecmig.evaluation.known_item import CAN_SHOW, CANNOT_SHOW, known_item_text
from vecmig.evaluation.metrics import query_metrics
from vecmig.evaluation.statistics import FEW_QUERIES, intervals, mean_interval, randomisation_p, share_interval

__all__ = [
    "CANNOT_SHOW",
    "CAN_SHOW",
    "FEW_QUERIES",
    "Difference",
    "Outcome",
    "comparable",
    "differences",
    "intervals",
    "known_item_text",
    "mean_interval",
    "mean_loss",
    "nearest_records",
    "no_worse",
    "query_metrics",
    "randomisation_p",
    "run_suite",
    "share_interval",
]
