"""Take over the vectors that the source itself has: all in pages, and what the outbox tells of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql

from vecmig.freshness.changes import lock_changes
from vecmig.freshness.pending import FIRST_DIGEST, compared, key_values
from vecmig.freshness.stamps import Stamps
from vecmig.model.tag import MAX_DIMS
from vecmig.postgres.named_sql import finished
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, same_key

#: Bytes of vectors in one statement, and most records: its transaction is as short as that of a backfill.
_STATEMENT_BYTES: Final = 8 * 2**20
_MOST_RECORDS: Final = 2_000
#: Records in one transaction where each may go into an index, at some 10 ms: an application that changes one of them
#: waits for it.
SLOW_RECORDS: Final = 20
#: Classes of SQLSTATE that are no value's doing; as ``try_vector`` has them.
_NO_VALUES: Final = ("08", "25", "40", "42", "53", "55", "57", "58", "XX")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AdoptedPage:
    """What became of a run of records in key order."""

    #: How many without a stamp were looked at, and how many have one now.
    size: int
    written: int
    #: Those whose value is no vector that the tag can have.
    unsound: int
    #: The last record looked at; None when there was none, and so nothing is left.
    last: Key | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...] | None) -> AdoptedPage:
        """Read what a statement over a page counts."""
        assert row is not None, "it counts"
        return cls(row[0], row[1], row[2], tuple(row[3]) if row[3] else None)


#: A page behind the last record.
NO_PAGE: Final = AdoptedPage(0, 0, 0, None)


def adopt_page(
    connection: Connection, stamps: Stamps, after: Key | None, *, kept: bool, indexed: bool = False
) -> AdoptedPage:
    """Take over the vectors of the next records in key order that have no stamp, in one statement.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        after: the key to start behind; None for the first record.
        kept: whether the tag keeps a copy of the vector beside its stamp.
        indexed: whether each copy goes into an index as well.
    """
    size = SLOW_RECORDS if indexed else page_size(stamps)
    values = stamps.values | {"size": size} | key_values("k", after)
    row = _whatever_it_has(
        lambda tried: connection.execute(_page(stamps, after is None, kept, tried), values).fetchone()
    )
    return AdoptedPage.from_row(row)


def any_to_adopt(connection: Connection, stamps: Stamps) -> bool:
    """Return whether the source has a vector that its tag has yet to take over; what the outbox tells of is no such."""
    row = _whatever_it_has(lambda tried: connection.execute(_any_left(stamps, tried), stamps.values).fetchone())
    return bool(row and row[0])


def adopt_differing(connection: Connection, stamps: Stamps, after: Key | None, *, indexed: bool) -> AdoptedPage:
    """Take over the vectors of the next records in key order whose copies are other ones, in one statement.

    It serves where nothing tells of a change. A vector that a text has outlived stays where it is.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        after: the key to start behind; None for the first record.
        indexed: whether each copy goes into an index as well.
    """
    size = page_size(stamps)
    values = stamps.values | {"size": size, "most": SLOW_RECORDS if indexed else size} | key_values("k", after)
    row = _whatever_it_has(
        lambda tried: connection.execute(_differing(stamps, after is None, tried), values).fetchone()
    )
    return AdoptedPage.from_row(row)


def forget_superseded(connection: Connection, stamps: Stamps) -> None:
    """Forget which vectors are superseded of records that are gone."""
    source = stamps.source
    match = source.match_parked("t", "x")
    query = stamps.statement("homes/adopting", "forget_superseded", source=source.relation, match_superseded=match)
    connection.execute(query, stamps.values)


def adopt_changed(connection: Connection, stamps: Stamps, *, kept: bool) -> int:
    """Take over the vectors of the records in the outbox that have no stamp, or whose vector changed; return how many.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        kept: whether the tag keeps a copy of the vector beside its stamp.
    """
    return through_outbox(connection, stamps, lambda tried: _changed(stamps, kept, tried))


def through_outbox(connection: Connection, stamps: Stamps, query_of: Callable[[bool], str]) -> int:
    """Take over what the outbox tells of, some rows in a transaction; return of how many records.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: the tag.
        query_of: gives the statement for the changes of some ``digests``, which counts them, and what it has written;
            told whether each value is to be tried.
    """
    written, after = 0, FIRST_DIGEST

    def batch(tried: bool) -> tuple[list[str], int]:
        with connection.transaction():
            digests = lock_changes(connection, [stamps], after, size=SLOW_RECORDS)
            if not digests:
                return digests, 0
            row = connection.execute(query_of(tried), stamps.values | {"digests": digests}).fetchone()
            return digests, row[1] if row else 0

    # an application, or another run, is at work on the tables themselves: the next call goes on
    with suppress(pg.LockNotAvailable):
        while True:
            digests, taken_over = _whatever_it_has(batch)
            if not digests:
                break
            written += taken_over
            after = digests[-1]
    return written


def _whatever_it_has(run: Callable[[bool], _T]) -> _T:
    """Run a statement over the source's vectors, once more with each of them tried where a value is none."""
    try:
        return run(False)
    except psycopg.Error as error:
        if not is_of_a_value(error):
            raise
        return run(True)


def is_of_a_value(error: psycopg.Error) -> bool:
    """Return whether an error may come from a value that is no vector, or that a function of the team's refuses."""
    state = error.sqlstate
    return state is not None and state[:2] not in _NO_VALUES


def sweep_emptied(connection: Connection, stamps: Stamps) -> None:
    """Delete the stamps of records whose column has no vector any more, where nothing told of that."""
    adopted = stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    connection.execute(stamps.statement("homes/adopting", "emptied", offered=stamps.source.offered(adopted)), {})


# Fragments ---------------------------------------------------------------------------------------------------------


def page_size(stamps: Stamps) -> int:
    """Return how many records are taken over in one statement."""
    return max(1, min(_MOST_RECORDS, _STATEMENT_BYTES // (4 * stamps.dims)))


@lru_cache(maxsize=16)
def _page(stamps: Stamps, first: bool, kept: bool, tried: bool) -> str:
    return finished(
        stamps.statement(
            "homes/adopting",
            "page",
            after=_after(stamps, first),
            keys_text=stamps.source.alias_text("s"),
            descending=stamps.source.descending,
            text_noted=stamps.noted("text_noted", "s"),
            superseded=stamps.superseded("s"),
            **_parts(stamps, kept, tried),
        )
    )


@lru_cache(maxsize=16)
def _any_left(stamps: Stamps, tried: bool) -> str:
    return finished(
        stamps.statement(
            "homes/adopting",
            "any_left",
            key_json=stamps.source.key_json("s"),
            superseded=stamps.superseded("s"),
            **_parts(stamps, kept=False, tried=tried),
        )
    )


@lru_cache(maxsize=16)
def _differing(stamps: Stamps, first: bool, tried: bool) -> str:
    source = stamps.source
    return finished(
        stamps.statement(
            "homes/adopting",
            "differing",
            after=_after(stamps, first),
            own_keys=source.alias_list("s"),
            same_record=same_key(source.key, source.aliases_of("s"), source.aliases_of("d")),
            equals=source.pgvector.equals,
            key_json=source.key_json("s"),
            keys_text=source.alias_text("s"),
            descending=source.descending,
            superseded=stamps.superseded("s"),
            **_parts(stamps, kept=True, tried=tried),
        )
    )


@lru_cache(maxsize=16)
def _changed(stamps: Stamps, kept: bool, tried: bool) -> str:
    parts = _parts(stamps, kept, tried) | {"in_place": sql.SQL("false" if kept else "true")}
    parts |= {"superseded": stamps.superseded("s"), "not_filled": stamps.not_filled}
    if stamps.fills:
        # what vecmig has put there stays known as that, under another key, too
        equals = stamps.source.pgvector.equals
        parts["payload"] = stamps.statement("homes/adopting", "own_fill", equals=equals)
    return finished(stamps.statement("homes/adopting", "changed", **parts))


def _parts(stamps: Stamps, kept: bool, tried: bool) -> dict[str, sql.Composable]:
    source, adopted = stamps.source, stamps.adopted
    assert adopted is not None, "it is asked of an adopted tag"
    return {
        "offered": stamps.tried(adopted) if tried else source.offered(adopted),
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
