"""What the parts of the ledger share: one session, one schema, and how they read and write in it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Executable

from vecmig.errors import DatabaseError
from vecmig.ledger.schema import installed_version
from vecmig.ledger.tables import Rows, execute
from vecmig.postgres.sessions import Connection


class Tables:
    """Vecmig's tables as one session sees them. Where they are not installed, there is nothing to read."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self.connection = connection
        self.schema = schema
        self._installed = False

    @property
    def installed(self) -> bool:
        """Whether vecmig's tables are in this database."""
        if not self._installed:
            self._installed = installed_version(self.connection, self.schema) > 0
        return self._installed

    def execute(self, statement: Executable) -> Rows:
        """Run a statement over them."""
        return execute(self.connection, self.schema, statement)

    def read(self, query: Executable) -> list[Any]:
        """Return the rows of a query."""
        return list(self.execute(query).all()) if self.installed else []

    def write(self, statement: Executable) -> int:
        """Run a statement; return how many rows it matched."""
        return self.execute(statement).rowcount

    def write_one(self, statement: Executable) -> None:
        """Write exactly one row.

        Raises:
            DatabaseError: the statement matched none, or several.
        """
        count = self.write(statement)
        if count != 1:
            what = f"{statement.__visit_name__} of {statement.entity_description['name']}"  # type: ignore[attr-defined]
            raise DatabaseError(
                f"The ledger is not as expected: the {what} matched {count} rows instead of one.",
                state="The transaction was rolled back.",
                hint="Somebody else may have changed it just now. Run: vecmig status",
            )


class Part:
    """One part of the ledger."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
