"""The pgvector extension of one database, its version, and the names of what it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

_OLDEST_PGVECTOR: Final = (0, 7)
_ITERATIVE_SCAN: Final = (0, 8)
_OPERATORS: Final = {"cosine": "<=>", "l2": "<->", "ip": "<#>", "hamming": "<~>"}


@dataclass(frozen=True, slots=True)
class Pgvector:
    """The pgvector extension of one database. It may live in any schema, so all its names are qualified here."""

    schema: str
    version: tuple[int, ...]
    #: The number that the type vector has in this database.
    vector_oid: int = 0

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Pgvector:
        """Read a row of the catalogue: schema, version, number of the type."""
        return cls(row[0], tuple(int(part) for part in row[1].split(".") if part.isdigit()), row[2])

    @property
    def iterative_scan(self) -> bool:
        """Whether ``hnsw.iterative_scan`` exists (pgvector 0.8)."""
        return self.version >= _ITERATIVE_SCAN

    def type(self, storage: str, dims: int | None = None) -> sql.Composed:
        """Give ``schema.vector`` or ``schema.vector(N)``."""
        modifier = sql.SQL("") if dims is None else sql.SQL("({})").format(sql.Literal(dims))
        return sql.Identifier(self.schema, storage) + modifier

    def function(self, name: str) -> sql.Identifier:
        """Give a function of the extension by its full name."""
        return sql.Identifier(self.schema, name)

    def operator(self, metric: str) -> sql.Composed:
        """Give the distance operator of a metric, or of bits (hamming), by its full name."""
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.schema), sql.SQL(_OPERATORS[metric]))

    @property
    def equals(self) -> sql.Composed:
        """Whether two vectors are the same, by the operator's full name."""
        return sql.SQL("OPERATOR({}.=)").format(sql.Identifier(self.schema))


def find_pgvector(connection: Connection) -> Pgvector | None:
    """Look the extension up; None if this database has none."""
    row = connection.execute(statement("postgres/pgvector", "pgvector")).fetchone()
    return Pgvector.from_row(row) if row else None


def require_pgvector(connection: Connection) -> Pgvector:
    """Give the extension, or say how to get one that is new enough."""
    return require_usable(find_pgvector(connection))


def require_usable(found: Pgvector | None) -> Pgvector:
    """Give the extension that was found, or say how to get one that is new enough."""
    if found is None:
        raise DatabaseError(
            "The extension vector (pgvector) is not installed in this database.",
            state="Nothing was changed.",
            hint="As a superuser run in this database: CREATE EXTENSION vector;",
        )
    if found.version < _OLDEST_PGVECTOR:
        raise DatabaseError(
            f"pgvector {'.'.join(map(str, found.version))} is too old; vecmig needs 0.7 or newer.",
            state="Nothing was changed.",
            hint="Install a newer pgvector on the server, then run: ALTER EXTENSION vector UPDATE;",
        )
    return found
