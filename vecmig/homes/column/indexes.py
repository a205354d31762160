"""The index of a source's own column: the one that is there serves, and is checked; without one, it is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.homes.index import IndexTarget, target_in
from vecmig.homes.indexed import indexed, opclass_name, predicate
from vecmig.homes.payload import column_of, payload
from vecmig.homes.values import IndexState
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import SEARCH_PATH

#: What PostgreSQL puts round an expression or a name, or leaves out.
_MARKS: Final = re.compile(r'[()\s"]')


@dataclass(frozen=True, slots=True)
class Serving:
    """An index that serves a tag's searches."""

    state: IndexState
    #: Its name, and those of its parts on the partitions of a partitioned source.
    names: frozenset[str]


def serving(connection: Connection, stamps: Stamps) -> Serving | None:
    """Find the index of the column that serves the tag's searches, whoever built it; a valid one before an invalid one.

    It has the column as the search reads it, by the collection's metric.
    """
    source = stamps.source
    values = {
        "relation": source.relation.as_string(connection),
        "opclass": opclass_name(stamps),
        "own": own_target(stamps).name,
    }
    with connection.transaction(force_rollback=True):
        # what is on the path is printed without its schema
        connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.SQL(SEARCH_PATH)))
        rows = connection.execute(statement("homes/index", "serving"), values).fetchall()
    forms = _forms(stamps)
    for valid, ready, size, file, name, definition, parts in rows:
        if _MARKS.sub("", definition) in forms:
            return Serving(IndexState(True, valid, ready, size, file), frozenset({name, *parts}))
    return None


def own_target(stamps: Stamps) -> IndexTarget:
    """Return the index that vecmig builds on a column which has none."""
    source, column = stamps.source, column_of(stamps)
    # a vector that is of another size, or too long, must not fail the application's write
    conditions = [None if stamps.declared else payload(stamps).condition, predicate(stamps, column)]
    where = sql.SQL(" AND ").join(filter(None, conditions))
    parts = {"expression": indexed(stamps, column), "predicate": where if any(conditions) else None}
    return target_in(stamps, source.relation, source.schema, **parts)


def _forms(stamps: Stamps) -> set[str]:
    """Give what an index that serves may have of a row, without brackets and quotes."""
    column = column_of(stamps)
    bare = stamps.declared and stamps.index_type == stamps.source.collection.storage
    forms = [indexed(stamps, column), *([column] if bare else [])]
    return {_MARKS.sub("", form.as_string(None)) for form in forms}
