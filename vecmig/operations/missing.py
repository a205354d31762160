"""What the database lacks of what the ledger takes to be there."""

from __future__ import annotations

from vecmig.freshness.change_tracking import find_tracking, has_function
from vecmig.freshness.stamps import Stamps
from vecmig.homes import Home, open_home
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Route
from vecmig.postgres.sessions import Connection
from vecmig.published.live_view import find_published
from vecmig.source.relations import exists
from vecmig.source.source import Source


def disagreements(connection: Connection, ledger: Ledger, source: Source, route: Route, *, aside: bool) -> list[str]:
    """Name what the database lacks of what the ledger takes to be there, beside vectors and index.

    Args:
        connection: the session of the ledger.
        ledger: the ledger.
        source: the collection.
        route: its route.
        aside: whether its live view stepped aside.
    """
    missing = lacks_reads(connection, ledger, source, route.live, aside=aside)
    missing += [f"the partition of {home.stamps.tag} is detached" for home in detached(ledger, source, route)]
    if not route.maintained:
        # nothing is kept complete
        return missing
    if not source.tracked:
        return missing
    tracking = find_tracking(connection, source, ledger.schema)
    if not tracking.works:
        there = has_function(connection, ledger.schema, source.collection.name)
        words = "triggers on the source are gone or disabled"
        missing.append(words if there else f"{words}: it is untracked, and nothing tells of changes")
    elif tracking.old:
        missing.append("the triggers on the source are not as this vecmig makes them")
    elif tracking.open:
        missing.append("everybody may run the trigger function")
    return missing


def lacks_reads(connection: Connection, ledger: Ledger, source: Source, live: str | None, *, aside: bool) -> list[str]:
    """Name what is not there, or not as it should be, for those who read the live tag."""
    if live is None:
        return []
    missing = []
    found = find_published(connection, source, Stamps(source, ledger.schema, live))
    if not aside and not found.view:
        missing.append("the live view is gone")
    elif not aside and not found.reads_tag:
        missing.append(f"the live view does not read the live tag {live}")
    if not found.search:
        missing.append("the search function is gone")
    elif not found.current:
        missing.append("the search function is out of date")
    return missing


def detached(ledger: Ledger, source: Source, route: Route) -> list[Home]:
    """Return the homes of the tags in use whose vectors are there, but not part of the vectors table."""
    kinds = ledger.tags.homes(source.collection.name)
    homes = [open_home(ledger, source, tag, kind=kinds[tag]) for tag in route.maintained]
    return [home for home in homes if not home.exists() and exists(ledger.connection, home.stamps.relation)]
