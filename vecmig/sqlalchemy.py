"""For applications that read with SQLAlchemy: a live view as a table of theirs."""

from __future__ import annotations

from typing import Any, Literal

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import Column, Integer, MetaData, Table, Text

__all__ = ["live"]


def live(
    collection: str,
    metadata: MetaData,
    *columns: Column[Any],
    schema: str | None = None,
    storage: Literal["vector", "halfvec"] = "vector",
) -> Table:
    """Return the live view of a collection as a table, for Core or as the ``__table__`` of a model.

    Beside the columns that are given it has ``tag`` (the tag that is live), ``chunk``, which is a part of the primary
    key, and ``embedding``, without dims: they change with the tag.

    Args:
        collection: the collection.
        metadata: where the table belongs.
        columns: those of the source that the view shows, with ``primary_key=True`` on the collection's key.
        schema: of the view, which is the source's; None for what the search_path finds.
        storage: the collection's.

    Raises:
        ValueError: no column is marked as the key.
    """
    if not any(column.primary_key for column in columns):
        raise ValueError(f"live({collection!r}, …) needs the columns of the key, with primary_key=True")
    return Table(
        f"{collection}_live",
        metadata,
        *columns,
        Column("tag", Text, nullable=False),
        Column("chunk", Integer, primary_key=True, autoincrement=False),
        Column("embedding", HALFVEC() if storage == "halfvec" else VECTOR(), nullable=False),
        schema=schema,
        info={"is_view": True},
    )
