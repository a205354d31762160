"""How a revision is left: whether upgrades pass it by from then on, and whether its vectors go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vecmig.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a downgrade leaves a revision."""

    #: Whether the vectors of a revision that was never live are dropped.
    discard: bool = False
    #: Whether upgrades pass it by until it is released.
    hold: bool = True
    #: Why, for whoever looks.
    reason: str | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """What the history says of it."""
        return {"reason": self.reason} if self.reason else {}

    def enter(self, ledger: Ledger, revision: str, collection: str) -> None:
        """Put a revision of a collection on hold, in the transaction that leaves it.

        A collection without a live tag begins again: none of its revisions is on hold then.
        """
        if ledger.routes.of(collection).live is None:
            ledger.revisions.release(row.id for row in ledger.revisions.all().values() if row.collection == collection)
        elif self.hold:
            ledger.revisions.hold(revision, self.reason)
