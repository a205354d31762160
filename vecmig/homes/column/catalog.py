"""Find the column that an adoption in place names, and say what it cannot be the home of."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """A column of pgvector's types."""

    name: str
    #: vector or halfvec.
    type: str
    #: The dims that it is declared with; None where it takes any.
    dims: int | None
    nullable: bool
    generated: bool


def find_column(connection: Connection, source: Source, expression: str) -> VectorColumn | None:
    """Find the vector column of a source that an expression names; None where it is something else."""
    values = {"oid": source.oid, "expression": expression.strip(), "pgvector": source.pgvector.schema}
    row = connection.execute(statement("homes/column", "column"), values).fetchone()
    return VectorColumn(row[0], row[1], row[2] if row[2] > 0 else None, row[3], row[4]) if row else None
