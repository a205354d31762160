"""The migration of ``--sql``: the same functions, which write down the SQL instead of running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from vecmig.freshness.coverage import count_records
from vecmig.homes.index import create_statement
from vecmig.model.gate import Gate
from vecmig.operations.database import DatabaseMigration
from vecmig.operations.workspace import Declaration, Workspace
from vecmig.postgres import execute
from vecmig.postgres.recorder import Recorder, terminated
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import SEARCH_PATH
from vecmig.source.source import Source

Write = Callable[[str], None]


class RecordingMigration(DatabaseMigration):
    """Writes down what a script would run. It reads the catalogue and changes nothing.

    What embeds or judges is no SQL, so a comment stands for it. The flip is commented out: only ``vecmig upgrade`` runs
    it, once the gate holds.
    """

    def __init__(self, workspace: Workspace, declared: Declaration, *, step: str, write: Write) -> None:
        super().__init__(workspace, declared, step=step)
        self._write_plain = self._write = write

    def backfill(self) -> None:
        """Say how much there is to embed."""
        with self._workspace.database.session() as connection:
            _, eligible = count_records(connection, self._inspect())
        self._write(f"-- backfill: up to {eligible} records are embedded under {self.new_tag}: vecmig backfill")

    def build_index(self) -> None:
        """Write the CREATE INDEX."""
        with self._workspace.database.session() as connection:
            text = create_statement(self._space(self._inspect())).as_string(connection)
        self._write(terminated(text))

    def cutover(self, gate: Gate) -> None:
        """Write the flip, commented out, and so what the script has behind it."""
        source = self._inspect()
        self._write(
            f"-- cutover: vecmig upgrade runs this once coverage is {gate.coverage:g} and every other check holds"
        )
        self._write = self._comment
        self._locked(lambda connection: self._flip_on(connection, source, {}))

    def rollback(self) -> None:
        """Write the flip back, commented out, and so what the script has behind it."""
        source = self._inspect()
        old = self._workspace.space(source, self.old_tag) if self.old_tag else None
        self._write("-- rollback: vecmig downgrade runs this; no vector is touched")
        self._write = self._comment
        self._locked(lambda connection: self._flip_back_on(connection, source, old, None))

    def execute(self, statement: Any) -> None:
        """Write a team's own statement, unless it ran already. It is not sent to the database, whatever it looks like.

        What it changes there is not known, so that even a SELECT may be meant for what it does.
        """
        text = execute.as_text(statement)
        self._statements += 1
        place, sha256 = (self.revision, self._step, self._statements), execute.digest(text)

        def change(connection: Connection) -> None:
            ledger = self._workspace.ledger(connection)
            if ledger.statement_done(*place) is None:
                for line in ("SET search_path TO DEFAULT;", terminated(text), f"SET search_path TO {SEARCH_PATH};"):
                    self._write(line)
                ledger.record_statement(*place, sha256)
                data = {"step": self._step, "ordinal": self._statements, "sha256": sha256}
                self._event(ledger, "execute", data)

        self._locked(change)

    def _comment(self, text: str) -> None:
        self._write_plain("\n".join(f"-- {line}" for line in text.splitlines()))

    def _locked(self, change: Callable[[Connection], Any]) -> Any:
        with self._workspace.database.session() as connection:
            return change(cast(Connection, Recorder(connection, self._write)))

    def _follow(self, source: Source) -> None:
        """Leave triggers and live view as they are."""

    def _try_tracking(self, connection: Connection, source: Source) -> None:
        """Try nothing: what it would be tried on is only written down."""

    def _check_route(self, source: Source) -> None:
        """Take it that the revisions before this one have run."""

    def _verify_expanded(self, source: Source) -> None:
        """Nothing ran, so there is nothing to verify."""
