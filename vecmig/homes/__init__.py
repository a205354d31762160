"""Where the vectors of a tag live. Whoever needs a vector itself opens the tag's home, however that keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Space
from vecmig.homes.base import Home
from vecmig.homes.partition import PartitionHome
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

__all__ = ["Home", "PartitionHome", "home_over", "open_home"]

_KINDS: Final[Mapping[str, Callable[[Connection, Space], Home]]] = {PartitionHome.kind: PartitionHome}


def open_home(ledger: Ledger, source: Source, tag: str, *, kind: str | None = None) -> Home:
    """Open the home of a tag, of the kind that ``vecmig.tag.home`` says, over the ledger's session.

    It is read unless ``kind`` is what was read there.

    Raises:
        DatabaseError: this version of vecmig knows no such home.
    """
    kind = ledger.tags.home_of(source.collection.name, tag) if kind is None else kind
    return home_over(ledger.connection, Space(source, ledger.schema, tag, kind))


def home_over(session: Connection, stamps: Space) -> Home:
    """Open a home that was open before over another session.

    Raises:
        DatabaseError: this version of vecmig knows no such home.
    """
    kind = _KINDS.get(stamps.home)
    if kind is None:
        raise DatabaseError(
            f"The vectors of {stamps.tag} live in a home of the kind {stamps.home!r}, which this vecmig does not know.",
            state="Nothing was changed.",
            hint="Run: pip install --upgrade vecmig",
        )
    return kind(session, stamps)
