"""Give every eligible record of a collection a fresh vector under one tag.

A pipeline with bounded queues, so that memory does not grow with the corpus: pages of pending records in key order are
read ahead by one thread, cut into chunks, embedded by several requests at once, and written by one guarded statement a
batch. There is no cursor to keep: what is pending is what has no fresh vector, so running again is resuming.
"""

from vecmig.backfill.asking import asking
from vecmig.backfill.budget import Purse
from vecmig.backfill.cluster import Needs
from vecmig.backfill.engine import Result, backfill
from vecmig.backfill.fleet import Fleet
from vecmig.backfill.patient import Account, patient_embedder
from vecmig.backfill.terms import Terms

__all__ = ["Account", "Fleet", "Needs", "Purse", "Result", "Terms", "asking", "backfill", "patient_embedder"]
