"""Draw a few vectors at random, with the texts that they were made from."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.homes.values import Sampled
from vecmig.homes.vectors import load_vectors, loaded
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

#: Pages from which on some are drawn, and how many: 20 MB. Neighbours on a page were embedded together and share a
#: fault, so there must be many more pages than vectors that are drawn of them.
_MANY: Final = 10_000
_PAGES: Final = 2_560


def sample_vectors(connection: Connection, stamps: Stamps, size: int) -> list[Sampled]:
    """Give up to ``size`` vectors whose text is still the one that they were made from, drawn again each time.

    By age the tag falls into ``size`` equal parts, and one vector of each part is drawn; they come in random order.
    """
    source, age, record = stamps.source, sql.SQL("d.embedded_at").format(), sql.SQL("NULL::jsonb").format()
    if stamps.adopted is not None:
        same = source.match_source("r", "v")
        record = sql.SQL("(SELECT to_jsonb(r) FROM {} r WHERE {} LIMIT 1)").format(source.relation, same)
    if stamps.adopted is not None and source.kind == "r":
        # it was made by others, and rows lie about as they came
        age = sql.SQL("(SELECT s.ctid FROM {} s WHERE {})").format(source.relation, source.match_source("s", "d"))
    query = stamps.statement(
        "homes/sampling",
        "sample",
        drawn=_drawn(connection, stamps),
        age=age,
        record=record,
        **_read(stamps),
        vector=source.pgvector.type("vector"),
        keys_text=source.alias_text("s"),
    )
    load_vectors(connection.adapters, source.pgvector.vector_oid)
    rows = connection.execute(query, {"size": size}, binary=True)
    return [Sampled(tuple(row[3:]), row[0], loaded(row[1]), row[2]) for row in rows]


def longest_text(connection: Connection, stamps: Stamps, size: int) -> str | None:
    """Give the longest text among ``size`` vectors drawn at random; None where there are none."""
    query = stamps.statement("homes/sampling", "longest", drawn=_drawn(connection, stamps), **_read(stamps))
    row = connection.execute(query, {"size": size}).fetchone()
    return row[0] if row else None


def _read(stamps: Stamps) -> dict[str, sql.Composable]:
    """Give what has the vectors: the stamps themselves, or the rows of the source."""
    if stamps.adopted is None or stamps.home == "partition":
        return {"payload": sql.SQL("v.embedding")}
    return {"payload": sql.SQL("s.vector"), "records": stamps.source.offered(stamps.adopted)}


def _drawn(connection: Connection, stamps: Stamps) -> sql.Composable:
    """Give what draws some pages of a large tag: looking at it must not cost the more the larger it is."""
    name = stamps.relation.as_string(connection)
    row = connection.execute(statement("homes/sampling", "pages"), {"name": name}).fetchone()
    pages = row[0] or 0 if row else 0
    if pages <= _MANY:
        return sql.SQL("")
    return sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(min(100.0, 100 * _PAGES / pages)))
