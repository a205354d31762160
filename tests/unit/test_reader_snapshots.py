"""Of two looks at a collection, the one that began later is gone by, whichever ends first."""

from __future__ import annotations

from typing import Any, cast

from vecmig.ledger.rows import Route
from vecmig.postgres.sessions import Database
from vecmig.reader.snapshots import CollectionSnapshot, Snapshots


def look(began: float, digest: str, version: int = 1, source: str = "") -> CollectionSnapshot:
    """Return what a look that began then has found."""
    route = Route("documents", version=version)
    return CollectionSnapshot(cast(Any, source), "vecmig", route, {}, digest, began=began, read_at=began)


def test_a_look_that_began_later_wins() -> None:
    snapshots = Snapshots(Database("postgresql://nobody@127.0.0.1:1/none"))
    later = look(2.0, "b", version=1)

    assert snapshots._keep(look(1.0, "a", version=7)).digest == "a"
    # though the version has gone back
    assert snapshots._keep(later) is later
    assert snapshots._keep(look(1.5, "c", version=9)) is later
    assert snapshots._snapshots["documents"] is later


def test_where_nothing_has_changed_the_source_may_come_from_an_earlier_look() -> None:
    snapshots = Snapshots(Database("postgresql://nobody@127.0.0.1:1/none"))
    snapshots._keep(look(2.0, "a", source="old"))

    kept = snapshots._keep(look(1.0, "a", source="inspected again"))
    assert (str(kept.source), kept.began) == ("inspected again", 2.0)
