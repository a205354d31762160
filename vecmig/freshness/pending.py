"""Read records in pages: which of them lack a fresh vector, with their text; and where to cut a source into ranges."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, compared_keys
from vecmig.source.source import Source

#: Before the first change of the outbox, whose order is that of its keys' digests.
FIRST_DIGEST: Final = "00000000-0000-0000-0000-000000000000"
#: Bytes of text at which a page ends, whatever its size.
PAGE_BYTES: Final = 16 * 1024 * 1024
#: Records by which a source is cut into ranges; more than these are a sample of blocks.
_SAMPLE: Final = 50_000


class PendingRecord(NamedTuple):
    """A record without a fresh vector: its key, its text, and the hash that the text had when it was read."""

    key: Key
    text: str
    source_hash: str
    #: Whether it had no vector at all.
    new: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A run of records in key order: those that are pending, how many were looked at, and where to go on."""

    pending: tuple[PendingRecord, ...]
    size: int
    #: The last record looked at; None when there was none, and so nothing is left.
    last: Key | None


def read_page(
    connection: Connection,
    stamps: Stamps,
    after: Key | None,
    size: int,
    upto: Key | None = None,
    *,
    max_bytes: int = PAGE_BYTES,
) -> Page:
    """Read the next ``size`` records in key order, with the text of those that lack a fresh vector.

    Args:
        connection: a connection of vecmig's.
        stamps: the tag.
        after: the key to start behind; None for the first record.
        size: how many records to look at, at most.
        upto: the last key to look at; None for the last record.
        max_bytes: the page ends with the record whose text reaches this, so that a page of long texts is a short one.
    """
    query = _page(stamps, after is None, upto is None)
    values = stamps.values | {"size": size, "bytes": max_bytes} | key_values("k", after) | key_values("u", upto)
    rows, size, place = _fetch(connection, query, values)
    return Page(rows, size, tuple(json.loads(place)) if size else None)


def read_changed(
    connection: Connection, stamps: Stamps, after: Key | None, size: int, *, max_bytes: int = PAGE_BYTES
) -> Page:
    """Read the next ``size`` changes in the outbox, with the text of those records that lack a fresh vector.

    What it costs depends on the number of changes, not on the size of the source. ``after`` and the page's ``last``
    are places in the outbox, not keys of records.
    """
    values = stamps.values | {"size": size, "bytes": max_bytes, "after": after[0] if after else FIRST_DIGEST}
    pending, size, place = _fetch(connection, _changed(stamps), values)
    return Page(pending, size, (place,) if size else None)


def _fetch(connection: Connection, query: str, values: dict[str, Any]) -> tuple[tuple[PendingRecord, ...], int, str]:
    """Give what is pending, how many records were looked at, and the place of the last one."""
    rows = connection.execute(query, values).fetchall()
    # in order already, as a rule; the server would not know that, and sort them
    rows.sort(key=itemgetter(0))
    following, _, place = rows.pop()[:3]
    return tuple([PendingRecord(row[4:], row[2], row[1], row[3]) for row in rows]), following - 1, place


def split_keys(connection: Connection, source: Source, parts: int) -> list[Key]:
    """Cut a source into ``parts`` ranges with about as many records each; give the last key of all but the last range.

    There are fewer where the source has fewer records. The order is PostgreSQL's, of the source's own key columns.
    """
    rows = estimated_rows(connection, source)
    if rows > _SAMPLE:
        keys = _split(connection, source.sample(100 * _SAMPLE / rows), source, parts)
        if len(keys) == parts - 1:
            return keys
    return _split(connection, source.records, source, parts)


def estimated_rows(connection: Connection, source: Source) -> float:
    """Return how many rows PostgreSQL takes a source to have; 0 where that is not known, as of a view."""
    name = {"name": source.relation.as_string(connection)}
    row = connection.execute(statement("freshness/pending", "estimated_rows"), name).fetchone()
    return float(row[0]) if row is not None else 0.0


def _split(connection: Connection, records: sql.Composed, source: Source, parts: int) -> list[Key]:
    query = statement(
        "freshness/pending", "split", records=records, keys=source.alias_list("s"), keys_text=source.alias_text("s")
    )
    return [tuple(row) for row in connection.execute(query, {"parts": parts})]


def sample_texts(connection: Connection, source: Source, size: int) -> list[str]:
    """Give the texts of up to ``size`` eligible records; the same ones each time, chosen by the hash of their key."""
    query = statement(
        "freshness/pending",
        "sample_texts",
        records=source.records,
        keys=source.alias_list("s"),
        eligible=source.eligible("s"),
    )
    return [row[0] for row in connection.execute(query, {"size": size})]


def count_texts(connection: Connection, source: Source) -> int:
    """Count the different texts of the eligible records."""
    parts = {"records": source.records, "eligible": source.eligible("s")}
    row = connection.execute(statement("freshness/pending", "count_texts", **parts), {}).fetchone()
    return int(row[0]) if row else 0


# Fragments ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _page(stamps: Stamps, first: bool, last: bool) -> str:
    source = stamps.source
    true = sql.SQL("true")
    after = true if first else compared(source, ">", "k")
    upto = true if last else compared(source, "<=", "u")
    looked_at = statement(
        "freshness/pending", "looked_at", records=source.records, after=after, upto=upto, keys=source.alias_list("s")
    )
    place = sql.SQL("json_build_array({})").format(source.alias_text("p"))
    return finished(_pending(stamps, looked_at, order=source.alias_list("l"), place=place))


@lru_cache(maxsize=64)
def _changed(stamps: Stamps) -> str:
    looked_at = stamps.statement("freshness/pending", "changed")
    return finished(_pending(stamps, looked_at, order=sql.SQL("l.outbox"), place=sql.SQL("p.outbox")))


def _pending(stamps: Stamps, looked_at: sql.Composed, *, order: sql.Composable, place: sql.Composable) -> sql.Composed:
    source = stamps.source
    # in another order than the vectors' index has, the ends of a page are not the ends of its vectors
    near = "near_any" if any(column.collated for column in source.key) else "near"
    return stamps.statement(
        "freshness/pending",
        "pending",
        looked_at=looked_at,
        near=stamps.statement(
            "freshness/pending",
            near,
            within=sql.SQL("{} AND {}").format(
                compared_keys(source.key, source.stored_of("v"), ">=", source.aliases_of("f")),
                compared_keys(source.key, source.stored_of("v"), "<=", source.aliases_of("l")),
            ),
            keys_descending=source.descending,
        ),
        whole=stamps.whole,
        eligible=source.eligible("p"),
        match=stamps.match("p", "v"),
        owned=stamps.owned("p"),
        kept=stamps.kept("p"),
        key_json=source.key_json("p"),
        keys_text=source.alias_text("p"),
        order=order,
        place=place,
        no_keys=sql.SQL(", ").join([sql.SQL("NULL")] * len(source.key)),
    )


def compared(source: Source, operator: str, prefix: str) -> sql.Composed:
    """Compare the records ``s`` with a key that is given as ``key_values`` gives it."""
    return compared_keys(source.key, source.aliases_of("s"), operator, given_key(source, prefix))


def given_key(source: Source, prefix: str) -> list[sql.Composed]:
    """Return the key columns of a key that is given as ``key_values`` gives it."""
    return [
        sql.SQL("{}::text::{}").format(sql.Placeholder(f"{prefix}{i}"), sql.SQL(column.type))
        for i, column in enumerate(source.key)
    ]


def key_values(prefix: str, key: Key | None) -> dict[str, str]:
    """Return the parameters of a key; none where there is none."""
    return {f"{prefix}{i}": value for i, value in enumerate(key or ())}
