"""What every operation works with: the settings, the database, and who is at work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

from vecmig.backfill import RunBudget
from vecmig.config import Config
from vecmig.config.collections import Collections
from vecmig.errors import ScriptError
from vecmig.events import Listener, Waiting, Warned, ignore
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.keeping import Noted, forget
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Actor
from vecmig.model.gate import Gate
from vecmig.operations.run_locks import NO_LOCKS, Locks
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.reconnecting import reconnecting
from vecmig.postgres.recorder import Recorder
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.source import Source

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """The settings, the database and who is at work. What is changed here is changed by whoever holds the locks."""

    config: Config
    database: Database
    #: Reads collections.yaml; called only where it is needed, because a rollback must not depend on it.
    load_collections: Callable[[], Collections]
    actor: Actor
    listener: Listener = ignore
    locks: Locks = NO_LOCKS
    #: What this run may cost in all, in place of ``config.max_cost`` for a revision.
    run_budget: RunBudget | None = None
    _told: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def collections(self) -> Collections:
        """What collections.yaml says."""
        return self.load_collections()

    def ledger(self, connection: Connection) -> Ledger:
        """Open the ledger on a connection."""
        return Ledger(connection, self.database.schema, self.actor, vectors_schema=self.database.vectors_schema)

    def stamps(self, source: Source, tag: str) -> Stamps:
        """Return the stamps of one tag."""
        return Stamps(source, self.database.schema, tag)

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """Yield the ledger on a connection inside one transaction.

        Raises:
            LockHeld: another runner took over while the connection was lost.
        """
        self.locks.ensure()
        with self.database.transaction() as connection:
            yield self.ledger(connection)

    def locked(self, change: Callable[[Connection], T], *, fresh: bool = False) -> T:
        """Run ``change`` in one short transaction, and again while a lock that it needs is taken.

        Args:
            change: what to do, on a connection inside the transaction.
            fresh: whether it may leave settings behind, so that its session is for this alone.

        Raises:
            LockHeld: another runner took over while the connection was lost.
        """
        self.locks.ensure()
        return with_lock_retries(
            self.database,
            change,
            wait=self.config.lock_wait,
            on_wait=self.wait_for_lock,
            fresh=fresh,
        )

    def recorded(self, change: Callable[[Connection], Any]) -> list[str]:
        """Return the statements that ``change`` would run. It reads the database, and changes nothing."""
        statements: list[str] = []
        with self.database.session() as connection:
            change(cast(Connection, Recorder(connection, statements.append)))
        return statements

    def reconnecting(self, work: Callable[[], T]) -> T:
        """Do work that may be repeated, again where its session is lost."""
        return reconnecting(work, wait=self.config.reconnect_wait, on_wait=self.wait)

    def tidy(self, collection: str) -> None:
        """Delete what was noted of a collection for a while only, and is older than the settings say."""
        kept: dict[Noted, float] = {"shadows": self.config.keep_shadow_days, "syncs": self.config.keep_sync_days}
        for what, days in kept.items():
            if days < math.inf:
                forget(self.database, what, collection, timedelta(days=days))

    def wait(self, reason: str, seconds: float | None = None, *, cause: str = "") -> None:
        """Tell what a run waits for."""
        self.listener(Waiting(reason.removesuffix("."), seconds, cause))

    def wait_for_lock(self, blocker: str, cause: str) -> None:
        """Tell who holds a lock that a run waits for."""
        self.wait(f"a lock is taken by {blocker}", cause=cause)

    def tell(self, notes: Iterable[str]) -> None:
        """Warn of something, once in a run."""
        for note in notes:
            if note not in self._told:
                self._told.add(note)
                self.listener(Warned(note))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a revision script declares, apart from its functions."""

    revision: str
    collection: str | None
    old_tag: str | None
    new_tag: str | None
    checksum: str
    gate: Gate = field(default=Gate())

    @property
    def index_only(self) -> bool:
        """Whether the index of a tag changes alone, and reads move to no other."""
        return self.new_tag is not None and self.old_tag == self.new_tag

    @property
    def its_collection(self) -> str:
        """The collection's name.

        Raises:
            ScriptError: the revision has none.
        """
        return self._declared(self.collection)

    @property
    def its_new_tag(self) -> str:
        """The tag that is live after the cutover.

        Raises:
            ScriptError: the revision has no collection.
        """
        return self._declared(self.new_tag)

    def _declared(self, value: str | None) -> str:
        if value is None:
            raise ScriptError(f"Revision {self.revision} has no collection, so it can only m.execute().")
        return value
