"""What each operation of a revision can do, and what they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vecmig.events import StepDone, StepStarted
from vecmig.freshness.change_tracking import drop_tracking
from vecmig.freshness.stamps import Stamps
from vecmig.homes import open_home
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.operations.context import Context, Declaration
from vecmig.operations.following import follow
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


@dataclass(frozen=True)
class Operation(ABC):
    """One step of a revision.

    It asks the database whether its work is done before doing it, commits the change together with its record, and
    reads it back on a fresh connection before it says that it is done. So each may be run again after it was cut short.
    """

    context: Context
    revision: Declaration

    @abstractmethod
    def done(self) -> bool:
        """Return whether the database has what ``run`` brings about."""

    @abstractmethod
    def run(self) -> None:
        """Bring it about."""

    @abstractmethod
    def undo(self) -> None:
        """Undo it, as far as that touches no vector that was paid for."""

    @abstractmethod
    def sql(self) -> list[str]:
        """Return what ``--sql`` prints in place of ``run``; the database is read, not changed."""

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self.revision.its_collection

    @property
    def new_tag(self) -> str:
        """The tag that is live after it."""
        return self.revision.its_new_tag

    def is_live(self) -> bool:
        """Return whether the new tag is live already: a cutover is not repeated when a run is resumed."""
        with self.context.database.session() as connection:
            return self.context.ledger(connection).routes.of(self.collection).live == self.new_tag

    def source(self) -> Source:
        """Return the source as collections.yaml and the catalogue have it."""
        with self.context.database.session() as connection:
            return find_source(self.context.ledger(connection), self.context.collections.collection(self.collection))

    def followed_source(self) -> Source:
        """Return the source as ``source`` does, once the triggers and the live view have followed it."""
        source = self.source()
        follow(self.context, source)
        return source

    def recorded_source(self) -> Source:
        """Return the source as it was recorded: a rollback depends on nothing that was edited since."""
        with self.context.database.session() as connection:
            ledger = self.context.ledger(connection)
            return find_source(ledger, ledger.collections.get(self.collection), expressions=False, even_replaced=True)

    def stamps(self, source: Source) -> Stamps:
        """Return the stamps of the new tag."""
        return self.context.stamps(source, self.new_tag)

    def old_stamps(self, source: Source) -> Stamps | None:
        """Return the stamps of the old tag; None where there is none, or where it is the new one."""
        old = None if self.revision.index_only else self.revision.old_tag
        return self.context.stamps(source, old) if old else None

    def let_go(self, connection: Connection, ledger: Ledger, source: Source) -> None:
        """Leave the source as it was found once no tag of its collection is kept complete; in the caller's transaction.

        What is left in vecmig's own tables is brought up to date by the next upgrade, which reads all of the source.
        """
        if source.is_table and not ledger.routes.of(self.collection).maintained:
            drop_tracking(connection, source)

    def give_back(self, source: Source) -> None:
        """Take out of the source what vecmig has put there for the new tag, which reads use no more."""
        with self.context.database.session() as connection:
            home = open_home(self.context.ledger(connection), source, self.new_tag)
        home.undo(self.context.database)

    def record(self, ledger: Ledger, kind: str, data: Mapping[str, Any]) -> None:
        """Append to the history what was done."""
        declared = self.revision
        ledger.record_event(
            kind, revision=declared.revision, collection=declared.collection, tag=declared.new_tag, data=data
        )

    def advance(self, ledger: Ledger, phase: str) -> None:
        """Enter that the revision has reached a phase, unless it is beyond it."""
        ledger.revisions.advance(self.revision.revision, phase)
        ledger.tags.finish_building(self.collection, self.new_tag)

    def step_started(self, step: str, subject: str) -> StepStarted:
        """Return what tells that a step begins."""
        declared = self.revision
        return StepStarted(step, declared.revision, declared.collection, subject, declared.new_tag or "")

    @contextmanager
    def reported(self, step: str, subject: str) -> Iterator[Callable[[str], None]]:
        """Tell that a step begins and, with the summary that it gives to what is yielded, that it is done."""
        listener, declared = self.context.listener, self.revision
        began = time.monotonic()
        summary: list[str] = []
        listener(self.step_started(step, subject))
        yield summary.append
        seconds = time.monotonic() - began
        listener(StepDone(step, declared.revision, declared.collection, "".join(summary), seconds))


def commented(text: str) -> str:
    """Return SQL as a comment."""
    return "\n".join(f"-- {line}" for line in text.splitlines())
