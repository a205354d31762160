"""The history: what happened, oldest first, and what comes to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Text, cast, func, select

from vecmig.ledger.part import Part
from vecmig.ledger.rows import EventRow
from vecmig.ledger.tables import EVENT, TAG

_COLUMNS = [EVENT.c[name] for name in EventRow.__slots__]
#: Events that are read at once.
_PAGE: Final = 1000


class History(Part):
    """The table ``event``."""

    @property
    def installed(self) -> bool:
        """Whether vecmig's tables are in this database."""
        return self._tables.installed

    def read(
        self, *, after: int = 0, since: datetime | timedelta | None = None, collection: str | None = None
    ) -> Iterator[EventRow]:
        """Yield events, oldest first.

        Args:
            after: the id behind which they stand.
            since: from when on, or how long before the database's present.
            collection: of this one only.
        """
        query = select(*_COLUMNS).order_by(EVENT.c.id).limit(_PAGE)
        if since is not None:
            query = query.where(EVENT.c.at >= (func.now() - since if isinstance(since, timedelta) else since))
        if collection is not None:
            query = query.where(EVENT.c.collection == collection)
        while rows := self._tables.read(query.where(EVENT.c.id > after)):
            yield from (EventRow(*row) for row in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def moment(self, ago: timedelta) -> datetime:
        """Return the database's present, less a time."""
        at: datetime = self._tables.execute(select(func.now() - ago)).scalar_one()
        return at

    def latest(self, most: int, collection: str | None = None) -> list[EventRow]:
        """Return the last events, or those of a collection; the newest first."""
        query = select(*_COLUMNS).order_by(EVENT.c.id.desc()).limit(most)
        rows = self._tables.read(query if collection is None else query.where(EVENT.c.collection == collection))
        return [EventRow(*row) for row in rows]

    def tags(self) -> Mapping[str, tuple[str, ...]]:
        """Return the tags that each collection has or had, retired ones too."""
        found: dict[str, tuple[str, ...]] = {}
        for collection, tag in self._tables.read(select(TAG.c.collection, TAG.c.tag).order_by(*TAG.primary_key)):
            found[collection] = (*found.get(collection, ()), tag)
        return found

    def present(self) -> tuple[int, int, int]:
        """Return the last number, and those of transactions: all below it have ended, none from it on has begun."""
        now = func.pg_current_snapshot()
        ends = [cast(cast(end(now), Text), BigInteger) for end in (func.pg_snapshot_xmin, func.pg_snapshot_xmax)]
        last = select(func.coalesce(func.max(EVENT.c.id), 0)).scalar_subquery()
        ((number, ended, unborn),) = self._tables.execute(select(last, *ends))
        return number, ended, unborn


class Tail:
    """What comes to the history, told once each.

    An event has its number before its transaction commits, so that one with a smaller number may come after another.
    What lies behind the last number is therefore read again until all transactions of that time have ended.
    """

    def __init__(self, since: datetime | timedelta | None = None, collection: str | None = None) -> None:
        """Begin with the events since a moment, or those of a collection."""
        self._since, self._collection = since, collection
        self._forget()

    def _forget(self) -> None:
        self._known: set[int] = set()
        #: The number behind which is read.
        self._after = 0
        #: The one that takes its place once all transactions before the second have ended, and which have.
        self._next, self._unborn, self._ended = 0, 0, 0

    def read(self, history: History) -> list[EventRow]:
        """Return the events that were not returned before."""
        if isinstance(self._since, timedelta):
            self._since = history.moment(self._since)
        if not history.installed:
            # when vecmig is installed again, it counts from the beginning
            self._forget()
            return []
        found = history.read(after=self._after, since=self._since, collection=self._collection)
        rows = [row for row in found if row.id not in self._known]
        self._known.update(row.id for row in rows)
        last, ended, unborn = history.present()
        if self._ended >= self._unborn:
            self._after = self._next
            self._known = {number for number in self._known if number > self._after}
            self._next, self._unborn = last, unborn
        self._ended = ended
        return rows
