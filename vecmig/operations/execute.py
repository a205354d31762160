"""Run a statement of the team's own once, in a transaction of its own."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.errors import DatabaseError, ScriptError
from vecmig.ledger.ledger import Ledger
from vecmig.operations.operation import Operation
from vecmig.postgres import execute
from vecmig.postgres.recorder import terminated
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import SEARCH_PATH


@dataclass(frozen=True)
class Execute(Operation):
    """Run the statement that stands at one place of a script."""

    statement: str
    #: The function that it stands in, and its number there, from 1.
    step: str
    ordinal: int

    def done(self) -> bool:
        """Return whether the statement ran at this place.

        Raises:
            ScriptError: another one did.
        """
        with self.context.database.session() as connection:
            return self._ran(self.context.ledger(connection))

    def run(self) -> None:
        """Run it; statement and record commit together, so that a script that is resumed does not run it twice."""

        def change(connection: Connection) -> None:
            ledger = self.context.ledger(connection)
            if not self._ran(ledger):
                execute.run(connection, self.statement)
                self._record(ledger)

        try:
            self.context.locked(change, fresh=True)
        except DatabaseError as error:
            revision = self.revision.revision
            raise DatabaseError(
                f"Statement {self.ordinal} of {self.step}() in revision {revision} failed: {error.message}",
                state=error.state or "It left nothing behind; what stands before it in the script stays.",
                hint=f"Correct it (vecmig edit {revision}), then run the same command again: it goes on there.",
            ) from error

    def undo(self) -> None:
        """Let it run again. What it did only the team's own ``downgrade()`` can undo."""
        with self.context.transaction() as ledger:
            ledger.statements.forget(self.revision.revision, self.step, self.ordinal)

    def sql(self) -> list[str]:
        """Return the statement, unless one ran at its place. It is not sent to the database, whatever it looks like.

        What it changes there is not known, so that even a SELECT may be meant for what it does.
        """

        def change(connection: Connection) -> None:
            ledger = self.context.ledger(connection)
            if ledger.statements.done(*self._place) is None:
                self._record(ledger)

        record = self.context.recorded(change)
        path = f"SET search_path TO {SEARCH_PATH};"
        return ["SET search_path TO DEFAULT;", terminated(self.statement), path, *record] if record else []

    @property
    def _place(self) -> tuple[str, str, int]:
        return self.revision.revision, self.step, self.ordinal

    def _ran(self, ledger: Ledger) -> bool:
        sha256 = ledger.statements.done(*self._place)
        if sha256 not in (None, execute.digest(self.statement)):
            raise ScriptError(
                f"Statement {self.ordinal} of {self.step}() in revision {self.revision.revision} changed after it ran.",
                state="Nothing was changed.",
                hint="Take the change back, or put the new statement into a revision of its own.",
            )
        return sha256 is not None

    def _record(self, ledger: Ledger) -> None:
        sha256 = execute.digest(self.statement)
        ledger.statements.record(*self._place, sha256)
        self.record(ledger, "execute", {"step": self.step, "ordinal": self.ordinal, "sha256": sha256})
