"""What a home is: where the vectors of one tag live. Coverage, pages and sync need only stamps, alike for all homes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from vecmig.events import Listener
from vecmig.freshness.coverage import Coverage, count_records
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import find_coverage
from vecmig.homes.adopting import AdoptedPage
from vecmig.homes.search import Hit
from vecmig.homes.values import (
    EmbeddedRecord,
    Footprint,
    HomeState,
    IndexBuild,
    IndexLimits,
    IndexState,
    Sampled,
)
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.keys import Key


class Home(Protocol):
    """Where the vectors of one tag live, over one session. All that needs a vector itself goes through it."""

    #: What ``vecmig.tag.home`` calls it.
    kind: ClassVar[str]

    @property
    def session(self) -> Connection:
        """The session that it works on."""

    @property
    def stamps(self) -> Stamps:
        """The stamps of its tag."""

    def exists(self) -> bool:
        """Return whether it is there, and part of the vectors table."""

    def require(self) -> None:
        """Raise DatabaseError where it is not there."""

    def create(self) -> None:
        """Make it, unless it is there; in the caller's transaction."""

    def drop(self) -> None:
        """Drop it with its vectors and index; in the caller's transaction. No row of the source goes with it."""

    def state(self) -> HomeState:
        """Return where it is, and what it takes on disk."""

    def undo(self, database: Database) -> None:
        """Take out of the source what vecmig has put there for it, in transactions of their own."""

    def bound_by(self) -> list[str]:
        """Return the objects of the team's that keep a part of it from being dropped, as PostgreSQL describes them."""

    def leave(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        """Take it out of use while reads and writes go on, or finish that where it was cut short.

        Args:
            database: where; it cannot be done in a transaction.
            wait: seconds after which to give up.
            on_wait: told who is in the way, each time, and the same without since when.
        """

    def remove(self) -> int:
        """Drop it once it is out of use, in the caller's transaction; return the bytes that it took."""

    def write(self, records: Sequence[EmbeddedRecord]) -> int:
        """Write complete records, guarded by the hash of their texts; return how many have their vectors now."""

    def adopt(self, after: Key | None) -> AdoptedPage:
        """Take over the source's own vectors of the next records that have no stamp, in key order behind a key."""

    def reconcile(self, after: Key | None, *, untold: bool) -> AdoptedPage:
        """Compare the next records that have a stamp with the source's own vectors, in key order behind a key.

        Args:
            after: the key to start behind; None for the first record.
            untold: whether vectors may have changed of which neither a trigger nor a text tells.
        """

    def adopt_changed(self) -> int:
        """Take over the source's own vectors of the records in the outbox; return of how many."""

    def search(self, vector: NDArray[np.float32], k: int, *, exact: bool = False) -> list[Hit]:
        """Return the k chunks nearest to a query vector of shape (dims,), nearest first."""

    def search_each(self, vectors: Iterable[NDArray[np.float32]], k: int, *, exact: bool = False) -> list[list[Hit]]:
        """Search for several vectors at once; return the answers to each."""

    def sample(self, size: int) -> list[Sampled]:
        """Return up to ``size`` fresh vectors drawn at random, with the texts that they were made from."""

    def longest_text(self, size: int) -> str | None:
        """Return the longest text among ``size`` vectors drawn at random; None where there are none."""

    def footprint(self, vectors: int) -> Footprint:
        """Estimate what so many vectors take, whether it is there or not."""

    def index(self) -> IndexState:
        """Return what the catalogue says of its index."""

    def index_statement(self) -> sql.Composed:
        """Return the statement that creates its index."""

    def build_index(
        self, database: Database, *, vectors: int, limits: IndexLimits, listener: Listener
    ) -> IndexBuild | None:
        """Build its index beside the application, unless a valid one is there; return None then.

        Args:
            database: where; the build has sessions of its own.
            vectors: how many to expect.
            limits: the most that may be used.
            listener: told of progress, of who is waited for, and of a lack of memory, in this thread.

        Raises:
            DatabaseUnreachable: the connection was lost; the next run begins the build again.
            Blocked: somebody was in the way for too long; what the build left is removed, or replaced by the next one.
            DatabaseError: the server refused.
        """

    def drop_index(self, database: Database, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
        """Drop the index that vecmig has built, where it is there, while reads and writes go on.

        Args:
            database: where; it cannot be done in a transaction.
            wait: seconds after which to give up.
            on_wait: told who is in the way, each time, and the same without since when.
        """

    def plan(self) -> tuple[bool, bool]:
        """Return whether the planner takes the index for a search, and whether it could."""

    def guaranteed(self) -> bool:
        """Return whether the database itself guarantees dims and length of every vector."""

    def guarantee_statement(self) -> str:
        """Return the statement that makes the database guarantee it again."""


def coverage_of(home: Home) -> Coverage:
    """Measure a tag, or count its source where its home is not there, and so nothing is covered."""
    if home.exists():
        return find_coverage(home.session, home.stamps)
    records, eligible = count_records(home.session, home.stamps.source)
    return Coverage(records, eligible, fresh=0, stale=0, rejected=0, unaccounted=eligible)
