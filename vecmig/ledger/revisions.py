"""The revisions that were ever started here, and the statements of their scripts that ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import DateTime, and_, case, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert

from vecmig.ledger.part import Part
from vecmig.ledger.phases import PHASES, RevisionRow
from vecmig.ledger.tables import REVISION, STATEMENT, later, who
from vecmig.model.index import Index

#: Before version 13 nothing was on hold.
_HELD_AT: Final = cast(later(REVISION.c.held_at).astext, DateTime(timezone=True))
_COLUMNS = [
    *(REVISION.c[name] for name in RevisionRow.__slots__ if name not in ("hold", "index_before")),
    *(_HELD_AT, later(REVISION.c.held_by).astext, later(REVISION.c.hold_reason).astext),
    later(REVISION.c.index_before),
]
_RELEASED: Final = {"held_at": None, "held_by": None, "hold_reason": None}
#: A phase after which no reads are the revision's.
_BEFORE_LIVE = case((REVISION.c.phase == "live", "indexed"), else_=REVISION.c.phase)
#: It was not taken back, and its old tag is there still.
_GOING_ON = REVISION.c.phase != "retired", REVISION.c.withdrawn_at.is_(None)


class Revisions(Part):
    """The table ``revision``."""

    def all(self) -> dict[str, RevisionRow]:
        """Return all revisions ever started, by id."""
        query = select(*_COLUMNS).order_by(REVISION.c.started_at, REVISION.c.id)
        return {row[0]: RevisionRow.from_row(row) for row in self._tables.read(query)}

    def leading_to(self, collection: str, tag: str) -> str:
        """Return the revision that led to a tag last; empty where none did."""
        row = self.row_leading_to(collection, tag)
        return row.id if row is not None else ""

    def row_leading_to(self, collection: str, tag: str) -> RevisionRow | None:
        """Return the revision that led to a tag last; None where none did."""
        rows = [
            row
            for row in self.all().values()
            if (row.collection, row.new_tag) == (collection, tag) and not row.index_only
        ]
        return max(rows, key=lambda row: row.started_at, default=None)

    def start(
        self,
        revision: str,
        collection: str | None,
        old: str | None,
        new: str | None,
        sha: str,
        *,
        index_before: Index | None = None,
    ) -> None:
        """Enter a revision as expanded, or take up again one that was withdrawn."""
        before = None if index_before is None else index_before.to_mapping()
        entry = _entry(revision, collection, old, new, sha).values(phase="expanded", index_before=before)
        # one that was withdrawn may have been edited since; what was live then was the tag that it led to then
        same = and_(
            *(REVISION.c[name].is_not_distinct_from(entry.excluded[name]) for name in ("collection", "new_tag"))
        )
        self._enter(
            entry,
            phase=case((REVISION.c.withdrawn_at.is_(None), REVISION.c.phase), else_="expanded"),
            live_at=case((same, REVISION.c.live_at)),
            index_before=entry.excluded.index_before,
        )

    def advance(self, revision: str, phase: str) -> None:
        """Enter that a revision has reached a phase, unless it is there or beyond it."""
        behind = REVISION.c.id == revision, REVISION.c.phase.in_(PHASES[: PHASES.index(phase)])
        self._tables.write(update(REVISION).where(*behind).values(phase=phase, updated_at=func.now()))

    def go_live(self, revision: str, sha: str) -> None:
        """Enter the cutover of a revision, with the checksum of the script as it is now.

        Until then its gate may be corrected; from then on a change would make databases differ.
        """
        self._update(
            revision,
            *_GOING_ON,
            phase="live",
            checksum=sha,
            live_at=func.now(),
        )

    def step_back(self, revision: str) -> None:
        """Enter that a live revision's reads went back; until it is withdrawn it is in progress."""
        self._update(revision, REVISION.c.phase != "retired", phase=_BEFORE_LIVE)

    def withdraw(self, revision: str) -> None:
        """Take a revision back; what it made stays, so that it can go forward again."""
        self._update(
            revision,
            *_GOING_ON,
            phase=_BEFORE_LIVE,
            withdrawn_at=func.now(),
        )

    def hold(self, revision: str, reason: str | None) -> None:
        """Have upgrades pass a revision by until it is released."""
        self._update(revision, held_at=func.now(), held_by=who(), hold_reason=reason)

    def release(self, revisions: Iterable[str]) -> list[str]:
        """Let upgrades take revisions again; return those that were on hold."""
        held = REVISION.c.id.in_(list(revisions)), REVISION.c.held_at.is_not(None)
        released = update(REVISION).where(*held).values(**_RELEASED, updated_at=func.now()).returning(REVISION.c.id)
        return sorted(self._tables.execute(released).scalars())

    def retire(self, collection: str, old_tag: str) -> None:
        """Enter that no revision leads back to a tag: its vectors go."""
        live = REVISION.c.collection == collection, REVISION.c.old_tag == old_tag, REVISION.c.phase == "live"
        self._tables.write(update(REVISION).where(*live).values(phase="retired", updated_at=func.now()))

    def stamp(self, revision: str, collection: str | None, old: str | None, new: str | None, sha: str) -> None:
        """Enter a revision as live without running it."""
        entry = _entry(revision, collection, old, new, sha).values(phase="live", live_at=func.now())
        # the vectors of its old tag do not come back
        retired = and_(REVISION.c.phase == "retired", REVISION.c.old_tag == entry.excluded.old_tag)
        self._enter(
            entry,
            phase=case((retired, "retired"), else_="live"),
            live_at=func.coalesce(REVISION.c.live_at, func.now()),
        )

    def _enter(self, entry: Insert, **known: Any) -> None:
        """Enter a revision; one that is known already is as the entry has it, but for these."""
        said = {name: entry.excluded[name] for name in ("collection", "old_tag", "new_tag", "checksum")}
        again = said | _RELEASED | {"withdrawn_at": None, "updated_at": func.now()} | known
        self._tables.write(entry.on_conflict_do_update(index_elements=[REVISION.c.id], set_=again))

    def unstamp(self, revision: str) -> None:
        """Remove a revision from the ledger."""
        self._tables.write_one(delete(REVISION).where(REVISION.c.id == revision))

    def _update(self, revision: str, *conditions: Any, **values: Any) -> None:
        statement = update(REVISION).where(REVISION.c.id == revision, *conditions)
        self._tables.write_one(statement.values(**values, updated_at=func.now()))


def _entry(revision: str, collection: str | None, old: str | None, new: str | None, sha: str) -> Insert:
    return insert(REVISION).values(id=revision, collection=collection, old_tag=old, new_tag=new, checksum=sha)


class Statements(Part):
    """The table ``statement``: what ``m.execute`` ran, by the place in the script."""

    def done(self, revision: str, step: str, ordinal: int) -> str | None:
        """Return the SHA-256 of the statement a script ran at this place, or None if it did not get there."""
        rows = self._tables.read(select(STATEMENT.c.sha256).where(*_at(revision, step, ordinal)))
        return rows[0][0] if rows else None

    def record(self, revision: str, step: str, ordinal: int, sha256: str) -> None:
        """Remember that a script's statement ran; call it in the statement's own transaction."""
        values = {"revision": revision, "step": step, "ordinal": ordinal, "sha256": sha256}
        self._tables.write_one(insert(STATEMENT).values(values))

    def forget(self, revision: str, step: str, ordinal: int) -> None:
        """Let the statement at one place of a script run again."""
        self._tables.write(delete(STATEMENT).where(*_at(revision, step, ordinal)))

    def forget_all(self, revision: str) -> None:
        """Let a script's statements run again the next time it goes forward or back."""
        self._tables.write(delete(STATEMENT).where(STATEMENT.c.revision == revision))


def _at(revision: str, step: str, ordinal: int) -> tuple[Any, ...]:
    return STATEMENT.c.revision == revision, STATEMENT.c.step == step, STATEMENT.c.ordinal == ordinal
