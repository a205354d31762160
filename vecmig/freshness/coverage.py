"""Measure how complete a tag is, count what there is, and remove vectors that no record stands behind any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import sql

from vecmig.freshness.fills import sweep_fills
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

#: Share of the records with vectors that may lose them because their text is gone, without having changed.
_MOST_EMPTIED: Final = 0.1


@dataclass(frozen=True, slots=True)
class Coverage:
    """How complete a tag is. ``eligible = fresh + stale + missing + rejected``."""

    records: int
    eligible: int
    fresh: int
    stale: int
    rejected: int
    #: Records without a fresh vector that neither changed lately nor were rejected: nothing explains them.
    unaccounted: int
    #: Vectors of eligible records, fresh or stale.
    vectors: int = 0
    #: When each record was compared with its vectors, where that was not just now.
    compared_at: datetime | None = None

    @classmethod
    def from_row(cls, row: Sequence[Any] | None) -> Coverage:
        """Read a row of ``coverage_statement``."""
        records, eligible, fresh, rejected, stale, unaccounted, vectors = row or (0,) * 7
        return cls(records, eligible, fresh, stale, rejected, unaccounted, vectors)

    @property
    def missing(self) -> int:
        """Eligible records without any vector and without a reason."""
        return self.eligible - self.fresh - self.stale - self.rejected

    @property
    def share(self) -> float:
        """Fresh of eligible, from 0 to 1. A collection without eligible records is complete."""
        return self.fresh / self.eligible if self.eligible else 1.0


def measure_coverage(connection: Connection, stamps: Stamps) -> Coverage:
    """Compare every record's text with the hash beside its vector; one pass over the source, nothing cached."""
    return Coverage.from_row(connection.execute(coverage_statement(stamps), stamps.values).fetchone())


def coverage_statement(stamps: Stamps) -> sql.Composed:
    """Return what compares every record's text with the hash beside its vector; it takes the values of the stamps."""
    return stamps.statement("freshness/coverage", "coverage", due=vector_due(stamps))


def vector_due(stamps: Stamps) -> sql.SQL:
    """Whether the outbox tells of a vector in the source that the tag has not taken over yet."""
    return sql.SQL("coalesce(c.vector_changed_in IS NOT NULL, false)" if stamps.follows else "false")


def count_records(connection: Connection, source: Source) -> tuple[int, int]:
    """Count a source's records: all of them, and the eligible ones."""
    row = connection.execute(
        statement("freshness/coverage", "count_records", records=source.records, eligible=source.eligible("s")), {}
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def count_rows(connection: Connection, source: Source) -> int:
    """Count a source's rows, whether they belong to the collection or not."""
    row = connection.execute(statement("freshness/coverage", "count_rows", source=source.relation), {}).fetchone()
    return int(row[0]) if row else 0


def count_vectors(connection: Connection, stamps: Stamps) -> tuple[int, int]:
    """Count a tag's vectors, and the records they belong to."""
    row = connection.execute(stamps.statement("freshness/coverage", "count_vectors")).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def has_vectors(connection: Connection, stamps: Stamps) -> bool:
    """Return whether a tag has any vector."""
    row = connection.execute(stamps.statement("freshness/coverage", "has_vectors")).fetchone()
    return bool(row and row[0])


def sweep(connection: Connection, stamps: Stamps, found: Coverage) -> tuple[int, int]:
    """Delete the vectors of records that are gone or no longer have a text, and forget their rejections.

    Triggers delete with a record at once where they see it; a disabled trigger or a view as source leaves it to this. A
    mistake in collections.yaml must cost nothing: a row that ``where`` leaves out keeps its vectors, and so do records
    whose text is gone although they did not change, if they are many.

    Args:
        connection: in autocommit mode.
        stamps: whose vectors.
        found: what was measured just now; it spares a look at each vector where all of them belong to a record.

    Returns:
        How many vectors and records it was about, and how many records keep vectors although they have no text now.
    """
    connection.execute(stamps.statement("freshness/coverage", "sweep_rejected"), stamps.values)
    if count_vectors(connection, stamps)[0] <= found.vectors:
        return 0, 0
    source = stamps.source
    gone, emptied, total = _count_idle(connection, stamps)
    if gone:
        same = source.match_source("s", "v")
        query = stamps.statement("freshness/coverage", "sweep_gone", source=source.relation, same_source=same)
        connection.execute(query, {})
    few = emptied <= total * _MOST_EMPTIED
    if emptied:
        sweep_fills(connection, stamps, untold=few)
        query = stamps.outlived(stamps.statement("freshness/coverage", "sweep_emptied", rows=source.rows))
        connection.execute(query, stamps.values | {"all": few})
    return gone + emptied, _count_idle(connection, stamps)[1] if emptied and not few else 0


def _count_idle(connection: Connection, stamps: Stamps) -> tuple[int, int, int]:
    """Count the vectors of no row, the records with vectors and no text, and the records with vectors."""
    row = connection.execute(stamps.statement("freshness/coverage", "count_idle", rows=stamps.source.rows)).fetchone()
    return row or (0, 0, 0)


def count_embedded_since(connection: Connection, stamps: Stamps, at: object, most: int) -> int:
    """Count the vectors of a tag that were made after a moment, as far as ``most``."""
    query = stamps.statement("freshness/coverage", "embedded_since")
    row = connection.execute(query, {"at": at, "most": most}).fetchone()
    return int(row[0]) if row else 0
