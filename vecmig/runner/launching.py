"""When a backfill comes to its end, beside the day on which its revision is to go live."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from vecmig.ledger.control import Run
from vecmig.ledger.ledger import Ledger
from vecmig.runner.project_status import CollectionStatus, LaunchStatus
from vecmig.script import Script


def measured_rate(ledger: Ledger, at_work: Iterable[Run], collection: str, tag: str) -> float | None:
    """Return the records a second of the runs at work, or else of the last one that came to its end."""
    rates = [run.rate for run in at_work if (run.collection, run.tag, run.state) == (collection, tag, "running")]
    return sum(rates) or ledger.last_rate(collection, tag)


def next_launch(
    ledger: Ledger, collection: CollectionStatus, steps: Iterable[Script], at: datetime
) -> LaunchStatus | None:
    """Return the first launch among the revisions that an upgrade would run of a collection; None where there is none.

    Args:
        ledger: the ledger.
        collection: what was measured of it.
        steps: the revisions that an upgrade would run, in that order.
        at: when it was measured.
    """
    for script in steps:
        if script.collection == collection.name and script.launch is not None and script.new_tag is not None:
            tag = next((tag for tag in collection.tags if tag.tag == script.new_tag), None)
            pending = collection.eligible if tag is None else tag.coverage.stale + tag.coverage.missing
            rate = measured_rate(ledger, collection.runs, collection.name, script.new_tag)
            if rate is not None and collection.control is not None and collection.control.max_rate is not None:
                rate = min(rate, collection.control.max_rate)
            seconds = 0.0 if not pending else pending / rate if rate else None
            return LaunchStatus(script.id, script.launch, seconds, at)
    return None
