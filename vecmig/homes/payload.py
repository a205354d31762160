"""How SQL reads the vectors of a tag, wherever they live: for the search, and for what applications read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.homes.indexed import indexed_type


@dataclass(frozen=True, slots=True)
class Payload:
    """The vector of a tag, as its stamps ``e`` and the rows ``s`` of its source give it when they are joined."""

    #: The vector in the type in which it is compared: it names the dims.
    vector: sql.Composed
    #: The vector as it is stored.
    stored: sql.Composed
    #: The columns of the source that it takes beside the key.
    columns: tuple[str, ...] = ()
    #: What a row of the source must fulfil to have such a vector, by the source's own names; None for nothing.
    condition: sql.Composed | None = None


def payload(stamps: Stamps) -> Payload:
    """Return how SQL reads the vectors of a tag."""
    return _KINDS[stamps.home](stamps)


def column_of(stamps: Stamps) -> sql.Identifier:
    """Return the column of the source that is the home of a tag."""
    adopted = stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    assert adopted.column is not None, "it is asked of a tag whose home is a column"
    return sql.Identifier(adopted.column)


def _in_partition(stamps: Stamps) -> Payload:
    stored = sql.SQL("e.embedding").format()
    return Payload(sql.SQL("{}::{}").format(stored, indexed_type(stamps)), stored)


def _in_column(stamps: Stamps) -> Payload:
    adopted, column = stamps.adopted, column_of(stamps)
    assert adopted is not None, "it is asked of an adopted tag"
    stored = sql.SQL("s.{}").format(column)
    vector = sql.SQL("{}::{}").format(stored, indexed_type(stamps))
    # one of another size would fail the cast
    dims = (stamps.source.pgvector.function("vector_dims"), column, sql.Literal(stamps.dims))
    condition = sql.SQL("{} IS NOT NULL").format(column) if stamps.declared else sql.SQL("{}({}) = {}").format(*dims)
    return Payload(vector, stored, (adopted.column or "",), condition)


_KINDS: Final[Mapping[str, Callable[[Stamps], Payload]]] = {"partition": _in_partition, "column": _in_column}
