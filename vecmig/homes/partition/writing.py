"""Write vectors, guarded by the hash of the text they were made from, and enter records that cannot be embedded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.freshness.pending import PendingRecord
from vecmig.freshness.stamps import Stamps
from vecmig.homes.held_rows import past_held_rows
from vecmig.homes.partition.copy_binary import Rows
from vecmig.homes.values import EmbeddedRecord
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import same_key
from vecmig.source.source import Source


def write_records(
    connection: Connection, stamps: Stamps, records: Sequence[EmbeddedRecord], *, patience: float | None = None
) -> int:
    """Write complete records in one transaction; return how many of them have their vectors now.

    A record whose text changed since it was read, or that is gone, is left out by the database itself: it stays
    pending. What is there already is not written again; where all records are ``new``, it is looked for only once the
    primary key has found some.

    Where the application holds a row (a deletion under way, SELECT … FOR UPDATE), all is tried again rather than queued
    behind it: vecmig never waits with locks in its hands, so the application cannot end in a deadlock with it. After
    ``patience`` seconds, records that are still held are left out.

    A record that PostgreSQL itself cannot store, because its key is too long for the vectors' index, is rejected.
    """
    if not records:
        return 0
    values = stamps.values | {"hash": _array(record.source_hash for record in records)} | _key_arrays(stamps, records)
    new = all(record.new for record in records)

    def write(held: str) -> int:
        nonlocal new
        try:
            return _write_once(connection, stamps, records, values, held, new=new)
        except pg.UniqueViolation:
            new = False
            raise

    try:
        return past_held_rows(write, patience)
    except pg.ProgramLimitExceeded as error:
        if len(records) == 1:
            _reject_unstored(connection, stamps, records[0], error)
            return 0
        halves = records[: len(records) // 2], records[len(records) // 2 :]
        return sum(write_records(connection, stamps, half, patience=patience) for half in halves)


def _reject_unstored(connection: Connection, stamps: Stamps, record: EmbeddedRecord, error: psycopg.Error) -> None:
    unstored = PendingRecord(record.key, "", record.source_hash)
    reject_records(connection, stamps, [(unstored, f"PostgreSQL cannot store it: {error.diag.message_primary}")])


def _write_once(
    connection: Connection,
    stamps: Stamps,
    records: Sequence[EmbeddedRecord],
    values: dict[str, Any],
    held: str,
    *,
    new: bool,
) -> int:
    with connection.transaction():
        guarded = _Guarded.read(connection.execute(_guard(stamps, held), values, binary=True))
        left = guarded
        if guarded.at and stamps.follows:
            connection.execute(_supersede(stamps), values | {"guarded": guarded.at})
        if guarded.at and not new:
            fresh = connection.execute(_replace(stamps), values | {"guarded": guarded.at})
            left = guarded.without({at for (at,) in fresh})
        if left.at:
            _copy(connection, stamps, [records[at - 1] for at in left.at], left.keys)
    return len(guarded.at)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """The records whose text is still the one that was embedded; the application cannot delete them before a commit."""

    #: Their numbers in the batch, from 1.
    at: list[int]
    #: For each key column, their values in PostgreSQL's binary form.
    keys: list[list[bytes]]

    @classmethod
    def read(cls, cursor: psycopg.Cursor[Any]) -> _Guarded:
        """Read the answer of ``guard``, whose values the driver shall not make objects of."""
        result = cursor.pgresult
        assert result is not None
        rows, value = range(result.ntuples), result.get_value
        at, *keys = ([value(row, column) or b"" for row in rows] for column in range(result.nfields))
        return cls(np.frombuffer(b"".join(at), dtype=">i4").tolist(), keys)

    def without(self, fresh: set[int]) -> _Guarded:
        """Leave some out."""
        left = [i for i, at in enumerate(self.at) if at not in fresh]
        return _Guarded([self.at[i] for i in left], [[column[i] for i in left] for column in self.keys])


@lru_cache(maxsize=64)
def _guard(stamps: Stamps, held: str) -> str:
    source = stamps.source
    sent = sql.SQL("r.{}" if _has_binary_keys(source) else "r.{}::text")
    query = stamps.statement(
        "homes/writing",
        "guard",
        casts=_casts(source),
        key_arrays=_placeholders(source),
        same_record=_same(source, "s", "r"),
        sent_keys=sql.SQL(", ").join(sent.format(alias) for alias in source.aliases),
        lock=sql.SQL(f"FOR KEY SHARE {held}") if source.tracked else sql.SQL(""),
    )
    return finished(query)


@lru_cache(maxsize=64)
def _replace(stamps: Stamps) -> str:
    source = stamps.source
    query = stamps.statement(
        "homes/writing",
        "replace",
        casts=_casts(source),
        key_arrays=_placeholders(source),
        whole=stamps.whole,
        match_record=stamps.match("r", "v"),
    )
    return finished(query)


@lru_cache(maxsize=64)
def _supersede(stamps: Stamps) -> str:
    source, adopted = stamps.source, stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    query = stamps.statement(
        "homes/writing",
        "supersede",
        casts=_casts(source),
        key_arrays=_placeholders(source),
        key_json=source.key_json("i"),
        same_record=_same(source, "s", "i"),
        offered=stamps.tried(adopted),
        digest=stamps.digest(sql.Identifier("s", "vector")),
        copied=stamps.digest(sql.Identifier("v", "embedding")),
        match_record=stamps.match("i", "v"),
    )
    return finished(query)


def _copy(
    connection: Connection, stamps: Stamps, records: Sequence[EmbeddedRecord], keys: Sequence[Sequence[bytes]]
) -> None:
    """Send rows by COPY, which the server takes at half the cost of INSERT."""
    source, encoding = stamps.source, connection.info.encoding
    texts = [text.encode(encoding) for record in records for text in record.texts or ()] if stamps.chunks else None
    hashes, vectors = [record.source_hash for record in records], [record.vectors for record in records]
    rows = Rows(stamps.tag.encode(encoding), keys, hashes, vectors, texts)
    columns = sql.SQL(", ").join(
        [sql.Identifier("tag"), source.stored_list(), *(sql.Identifier(name) for name in rows.columns)]
    )
    target: sql.Composable = stamps.relation
    if not _has_binary_keys(source):
        target = sql.Identifier("pg_temp", "vecmig_incoming")
        connection.execute(
            statement("homes/writing", "stage", stamps=stamps.relation, columns=_staged(source, rows.columns))
        )
    with connection.cursor().copy(statement("homes/writing", "copy", target=target, columns=columns)) as copy:
        for piece in rows.pieces(source.collection.storage):
            copy.write(piece)
    if not _has_binary_keys(source):
        casts = _staged(source, rows.columns, cast=True)
        connection.execute(statement("homes/writing", "unstage", stamps=stamps.relation, columns=columns, casts=casts))


def reject_records(connection: Connection, stamps: Stamps, rejected: Sequence[tuple[PendingRecord, str]]) -> None:
    """Enter records that cannot be embedded, each with its reason. Another text gets another try."""
    if not rejected:
        return
    values = stamps.values | {
        "hash": _array(record.source_hash for record, _ in rejected),
        "reason": [reason for _, reason in rejected],
    }
    query = stamps.statement(
        "homes/writing",
        "reject",
        casts=_casts(stamps.source),
        key_arrays=_placeholders(stamps.source),
        key_json=stamps.source.key_json("i"),
    )
    connection.execute(query, values | _key_arrays(stamps, [record for record, _ in rejected]))


def prepare_to_write(connection: Connection) -> None:
    """Make a connection ready for ``write_records``.

    A process that is stopped between two statements of a write must not keep the application from its rows for good.
    """
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")


# Fragments ---------------------------------------------------------------------------------------------------------


def _has_binary_keys(source: Source) -> bool:
    return all(column.binary for column in source.key)


def _staged(source: Source, columns: Iterable[str], *, cast: bool = False) -> sql.Composed:
    """The columns of rows whose key travels as text: taken apart into text, or put together again."""
    names = [sql.SQL("v.tag")]
    for column in source.key:
        kind = sql.SQL(column.type if cast else "text")
        names.append(sql.SQL("v.{name}::{kind} AS {name}").format(name=sql.Identifier(column.stored), kind=kind))  # type: ignore[arg-type]  # Composed
    return sql.SQL(", ").join([*names, *(sql.Identifier("v", name) for name in columns)])


def _array(values: Iterable[str]) -> str:
    """Write text[] as one string, at a hundredth of the cost of adapting each element."""
    joined = "\0".join(values)
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{escaped}"}}'


def _key_arrays(stamps: Stamps, records: Sequence[EmbeddedRecord] | Sequence[PendingRecord]) -> dict[str, str]:
    columns = range(len(stamps.source.key))
    return {f"k{column}": _array(record.key[column] for record in records) for column in columns}


def _placeholders(source: Source) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Placeholder(f"k{i}")) for i in range(len(source.key)))


def _casts(source: Source) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}.{}::{} AS {}").format(sql.Identifier("i"), alias, sql.SQL(column.type), alias)
        for alias, column in zip(source.aliases, source.key, strict=True)
    )


def _same(source: Source, left: str, right: str) -> sql.Composed:
    return same_key(source.key, source.aliases_of(left), source.aliases_of(right))
