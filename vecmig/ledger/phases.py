"""The revisions that a database knows, and the phases that they go through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vecmig.model.index import Index

PHASES: Final = ("expanded", "backfilled", "indexed", "live", "retired")
_APPLIED: Final = ("live", "retired")


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a revision is passed by: somebody rolled it back, or abandoned it."""

    at: datetime
    by: str
    reason: str | None = None

    @property
    def words(self) -> str:
        """Since when, by whom and why."""
        why = f": {self.reason}" if self.reason else ""
        return f"since {self.at:%Y-%m-%d %H:%M} UTC by {self.by}{why}"


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
    #: None where it is not on hold.
    hold: Hold | None = None
    #: What searches of its tag went by before it, where it is one of the index alone and was not stamped.
    index_before: Index | None = None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> RevisionRow:
        """Read a row of ``revision``."""
        *own, held_at, held_by, reason, before = row
        hold = Hold(held_at, held_by, reason) if held_at else None
        return cls(*[*own, hold, None if before is None else Index.from_mapping(before)])

    @property
    def index_only(self) -> bool:
        """Whether it changes the index of a tag alone, and moves reads to no other."""
        return self.new_tag is not None and self.old_tag == self.new_tag

    @property
    def applied(self) -> bool:
        """Whether its cutover happened and was not rolled back."""
        return self.phase in _APPLIED

    @property
    def in_progress(self) -> bool:
        """Whether it was started, is not live yet, and was not rolled back."""
        return not self.applied and self.withdrawn_at is None
