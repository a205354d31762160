"""Put vectors into the source's own column, where a revision says so: guarded by the hash of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from psycopg import sql

from vecmig.freshness.fills import pass_by_triggers
from vecmig.freshness.pending import given_key, key_values
from vecmig.freshness.stamps import Stamps
from vecmig.homes.held_rows import past_held_rows
from vecmig.homes.payload import column_of
from vecmig.homes.values import EmbeddedRecord
from vecmig.homes.vectors import send_vectors, to_send
from vecmig.postgres.named_sql import finished
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import same_key


def fill_column(connection: Connection, stamps: Stamps, records: Sequence[EmbeddedRecord]) -> int:
    """Write complete records in one transaction; return how many of them have their vectors now.

    A record whose text changed since it was read, or that is gone, is left out. Where the application holds a row, all
    is tried again rather than queued behind it, and after a while what is still held is left out.
    """
    send_vectors(connection.adapters)
    return past_held_rows(partial(_write_once, connection, stamps, records))


def _write_once(connection: Connection, stamps: Stamps, records: Sequence[EmbeddedRecord], held: str) -> int:
    query, storage = _fill(stamps, held), stamps.source.collection.storage
    values = (
        key_values("k", record.key) | {"hash": record.source_hash, "vector": to_send(record.vectors[0], storage)}
        for record in records
    )
    with connection.transaction(), connection.pipeline():
        pass_by_triggers(connection)
        cursors = [connection.execute(query, value) for value in values]
        return sum(len(cursor.fetchall()) for cursor in cursors)


def _fill(stamps: Stamps, held: str) -> str:
    source = stamps.source
    return finished(
        stamps.statement(
            "homes/column",
            "fill",
            same_record=same_key(source.key, source.aliases_of("s"), given_key(source, "k")),
            lock=sql.SQL(f"FOR NO KEY UPDATE {held}"),
            source=source.relation,
            column=column_of(stamps),
            type=source.pgvector.type(source.collection.storage),
            match_source=source.match("s", "t"),
            match=stamps.match("s", "v"),
            equals=source.pgvector.equals,
            stored=source.stored_list(),
            tag=sql.Literal(stamps.tag),
        )
    )
