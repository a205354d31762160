"""The revisions that a database knows, and the phases that they go through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

PHASES: Final = ("expanded", "backfilled", "indexed", "live", "retired")
_APPLIED: Final = ("live", "retired")


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One revision that was ever started here."""

    id: str
    collection: str | None
    old_tag: str | None
    new_tag: str | None
    phase: str
    checksum: str
    withdrawn_at: datetime | None
    started_at: datetime
    live_at: datetime | None

    @property
    def applied(self) -> bool:
        """Whether its cutover happened and was not rolled back."""
        return self.phase in _APPLIED

    @property
    def in_progress(self) -> bool:
        """Whether it was started, is not live yet, and was not rolled back."""
        return not self.applied and self.withdrawn_at is None
