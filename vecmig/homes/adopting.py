"""Take over the vectors that the source itself has: all in pages, and what the outbox tells of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from psycopg import errors as pg
from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.changes import lock_changes
from vecmig.freshness.pending import FIRST_DIGEST, compared, key_values
from vecmig.freshness.stamps import Stamps
from vecmig.model.tag import MAX_DIMS
from vecmig.postgres.named_sql import finished
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key

#: Bytes of vectors in one statement, and most records: its transaction is as short as that of a backfill.
_STATEMENT_BYTES: Final = 8 * 2**20
_MOST_RECORDS: Final = 2_000
#: Records in one transaction where each may go into an index, at some 10 ms: an application that changes one of them
#: waits for it.
_SLOW_RECORDS: Final = 20


@dataclass(frozen=True, slots=True)
class AdoptedPage:
    """What became of a run of records in key order."""

    #: How many without a stamp were looked at, and how many have one now.
    size: int
    written: int
    #: Those whose vector is not one that the tag can have.
    unsound: int
    #: The last record looked at; None when there was none, and so nothing is left.
    last: Key | None


def adopt_page(
    connection: Connection, stamps: Stamps, after: Key | None, *, kept: bool, indexed: bool = False
) -> AdoptedPage:
    """Take over the vectors of the next records in key order that have no stamp, in one statement.

    Args:
        connection: a connection of vecmig's.
        stamps: the tag.
        after: the key to start behind; None for the first record.
        kept: whether the tag keeps a copy of the vector beside its stamp.
        indexed: whether each copy goes into an index as well.

    Raises:
        DatabaseError: a value is no vector; the message names its record.
    """
    size = _SLOW_RECORDS if indexed else max(1, min(_MOST_RECORDS, _STATEMENT_BYTES // (4 * stamps.dims)))
    while True:
        try:
            row = connection.execute(
                _page(stamps, after is None, kept), stamps.values | {"size": size} | key_values("k", after)
            ).fetchone()
        except pg.DataError as error:
            if size == 1:
                raise _no_vector(connection, stamps, after, error) from error
            size = max(1, size // 8)
            continue
        assert row is not None
        return AdoptedPage(row[0], row[1], row[2], tuple(row[3]) if row[3] else None)


def adopt_changed(connection: Connection, stamps: Stamps, *, kept: bool) -> int:
    """Take over the vectors of the records in the outbox that have no stamp, or whose vector changed; return how many.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        kept: whether the tag keeps a copy of the vector beside its stamp.
    """
    written, after = 0, FIRST_DIGEST
    # an application, or another run, is at work on the tables themselves: the next call goes on
    with suppress(pg.LockNotAvailable):
        while True:
            with connection.transaction():
                digests = lock_changes(connection, [stamps], after, size=_SLOW_RECORDS)
                if not digests:
                    break
                row = connection.execute(_changed(stamps, kept), stamps.values | {"digests": digests}).fetchone()
                written += row[0] if row else 0
                after = digests[-1]
    return written


def sweep_emptied(connection: Connection, stamps: Stamps) -> None:
    """Delete the stamps of records whose column has no vector any more, where nothing told of that."""
    adopted = stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    connection.execute(stamps.statement("homes/adopting", "emptied", offered=stamps.source.offered(adopted)), {})


def _no_vector(connection: Connection, stamps: Stamps, after: Key | None, error: pg.DataError) -> DatabaseError:
    adopted, source = stamps.adopted, stamps.source
    assert adopted is not None, "it is asked of an adopted tag"
    query = stamps.statement(
        "homes/adopting", "first_key", after=_after(stamps, after is None), keys_text=source.alias_text("s")
    )
    row = connection.execute(query, key_values("k", after)).fetchone()
    key = ", ".join(row[0]) if row else "?"
    return DatabaseError(
        f"{adopted.adoption.expression} gives no vector for record {key} of {source.collection.name}: "
        f"{error.diag.message_primary}.",
        state="What was taken over stays.",
        hint="Correct the expression in the revision, or leave such records out by where=: vecmig discover shows what "
        "the column has.",
    )


# Fragments ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _page(stamps: Stamps, first: bool, kept: bool) -> str:
    return finished(
        stamps.statement(
            "homes/adopting",
            "page",
            after=_after(stamps, first),
            keys_text=stamps.source.alias_text("s"),
            descending=stamps.source.descending,
            text_noted=stamps.noted("text_noted", "s"),
            **_parts(stamps, kept),
        )
    )


@lru_cache(maxsize=16)
def _changed(stamps: Stamps, kept: bool) -> str:
    in_place = sql.SQL("false" if kept else "true")
    return finished(stamps.statement("homes/adopting", "changed", in_place=in_place, **_parts(stamps, kept)))


def _parts(stamps: Stamps, kept: bool) -> dict[str, sql.Composable]:
    source, adopted = stamps.source, stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    return {
        "offered": source.offered(adopted),
        "sound": stamps.sound(sql.Identifier("o", "vector")),
        "read": read(stamps),
        "stored": source.stored_list(),
        "tag": sql.Literal(stamps.tag),
        # the partition's constraint reads it as well
        "payload": read(stamps) if kept else sql.SQL("NULL"),
        "lock": sql.SQL("FOR KEY SHARE SKIP LOCKED") if source.is_table else sql.SQL(""),
    }


def read(stamps: Stamps) -> sql.Composed:
    """Return the vector ``s.vector`` as the part of it that is all of it: such a one is in memory."""
    subvector = stamps.source.pgvector.function("subvector")
    return sql.SQL("{}(s.vector, 1, {})").format(subvector, sql.Literal(MAX_DIMS))


def _after(stamps: Stamps, first: bool) -> sql.Composable:
    return sql.SQL("true") if first else compared(stamps.source, ">", "k")
