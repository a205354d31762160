"""Embed every eligible record of a collection under one tag, wherever it has no fresh vector.

A pipeline with bounded queues, so that memory does not grow with the corpus: pages of pending records in key order are
read ahead by one thread, cut into chunks, embedded by several requests at once, and written by one guarded statement a
batch. There is no cursor to keep: what is pending is what has no fresh vector, so running again is resuming.
"""

from vecmig.backfill.asking import asking
from vecmig.backfill.backfill_embedder import open_backfill_embedder
from vecmig.backfill.batch_engine import BatchOptions
from vecmig.backfill.budget import CostAccount, RunBudget
from vecmig.backfill.cluster import Needs
from vecmig.backfill.counters import Figures
from vecmig.backfill.engine import TagBackfill
from vecmig.backfill.importing import Import, Taken
from vecmig.backfill.local_engine import LocalEngine
from vecmig.backfill.ray_engine import RayOptions
from vecmig.backfill.run import Result, run_backfill
from vecmig.backfill.run_options import RunOptions
from vecmig.backfill.tag_follower import FollowerEnded, PassResult, TagFollower

__all__ = [
    "BatchOptions",
    "CostAccount",
    "Figures",
    "FollowerEnded",
    "Import",
    "LocalEngine",
    "Needs",
    "PassResult",
    "RayOptions",
    "Result",
    "RunBudget",
    "RunOptions",
    "TagBackfill",
    "TagFollower",
    "Taken",
    "asking",
    "open_backfill_embedder",
    "run_backfill",
]
