"""Whether a collection's objects are as they were a moment ago; cheap enough to ask every few seconds."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


@dataclass(frozen=True, slots=True)
class Standing:
    """How a collection's objects stand; two of them are equal where nothing happened to any."""

    #: Of source, triggers, live view, search function and vectors table, with their grants.
    objects: str
    #: Of the tables whose rows are the source's: its partitions, or those that inherit from it.
    parts: str


def standing(connection: Connection, source: Source) -> Standing:
    """Look at a collection's objects. Only the catalogue is read."""
    values = {
        "source": source.relation.as_string(connection),
        "live": source.live.as_string(connection),
        "vectors": source.vectors.as_string(connection),
        "schema": source.home,
        "search": f"{source.collection.name}_search",
    }
    row = connection.execute(statement("inventory/standing", "standing"), values).fetchone()
    assert row is not None
    return Standing(*row)
