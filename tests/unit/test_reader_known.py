"""Of two looks at a collection, the one that began later is gone by, whichever ends first."""

from __future__ import annotations

from typing import Any, cast

from vecmig.reader.known import Known, Routes
from vecmig.store.connect import Database
from vecmig.store.ledger import Route


def look(began: float, stamp: str, version: int = 1, source: str = "") -> Known:
    """Give what a look that began then has found."""
    route = Route("documents", version=version)
    return Known(cast(Any, source), "vecmig", route, {}, stamp, began=began, read_at=began)


def test_a_look_that_began_later_wins() -> None:
    routes = Routes(Database("postgresql://nobody@127.0.0.1:1/none"))
    later = look(2.0, "b", version=1)

    assert routes._keep(look(1.0, "a", version=7)).stamp == "a"
    # though the version has gone back
    assert routes._keep(later) is later
    assert routes._keep(look(1.5, "c", version=9)) is later
    assert routes._known["documents"] is later


def test_where_nothing_has_changed_the_source_may_come_from_an_earlier_look() -> None:
    routes = Routes(Database("postgresql://nobody@127.0.0.1:1/none"))
    routes._keep(look(2.0, "a", source="old"))

    kept = routes._keep(look(1.0, "a", source="inspected anew"))
    assert (str(kept.source), kept.began) == ("inspected anew", 2.0)
