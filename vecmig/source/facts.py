"""What PostgreSQL's catalogue says of a relation, whatever collection it is the source of; in one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.pgvector import Pgvector
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import KeyColumn


@dataclass(frozen=True, slots=True)
class Facts:
    """A relation's columns, and what else there is to know before its records can be read."""

    #: By their names, in order.
    columns: Mapping[str, KeyColumn]
    #: The columns whose values do not come back from the JSON array that a key travels in.
    nested: frozenset[str]
    #: The extension of the database; None where it has none.
    pgvector: Pgvector | None
    #: Relations whose rows are this one's too, and whose changes fire none of its triggers: name, whether it is a
    #: partition, and whose.
    parts: tuple[tuple[str, bool, str], ...]
    #: The columns that are unique together, by each index that says so of all rows.
    unique: tuple[frozenset[str], ...]

    @property
    def names(self) -> dict[int, str]:
        """What the columns are called now, by their numbers."""
        return {column.number: name for name, column in self.columns.items()}


def find_facts(connection: Connection, oid: int) -> Facts:
    """Look a relation up in the catalogue."""
    rows = connection.execute(_facts(), {"oid": oid}).fetchall()
    pgvector, parts, unique, *_ = rows[0]
    columns = [row[3:] for row in rows if row[3] is not None]
    return Facts(
        {row[0]: KeyColumn(*row[:8]) for row in columns},
        frozenset(row[0] for row in columns if row[8]),
        Pgvector.from_row(pgvector) if pgvector else None,
        tuple((name, partition, parent) for name, partition, parent in parts or ()),
        tuple(frozenset(names) for names in unique or ()),
    )


@cache
def _facts() -> str:
    parts = {
        "pgvector": statement("postgres/pgvector", "pgvector"),
        "parts": statement("source/expressions", "parts"),
        "columns": statement("source/catalog", "columns"),
    }
    return finished(statement("source/catalog", "facts", **parts))
