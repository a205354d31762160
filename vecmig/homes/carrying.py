"""Carry the vectors of a tag from one database to another: read them out, and find the records with their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, cast

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps
from vecmig.homes.vector_file import TextHash
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, same_key

#: Bytes that are handed on at once, and about how many records are found at once.
_PIECE: Final = 2**20
_FOUND: Final = 20_000


class WantedRecord(NamedTuple):
    """A record without a fresh vector: its key, the hash of its text under its tag, and whether it has none at all."""

    key: Key
    source_hash: str
    new: bool


def text_hash(connection: Connection, stamps: Stamps) -> TextHash:
    """Return what the hashes of a tag's texts are."""
    query = stamps.statement("homes/carrying", "text_hash")
    row = connection.execute(query, stamps.values).fetchone()
    return cast(TextHash, row[0]) if row and row[0] else "sha256"


def exported(connection: Connection, stamps: Stamps) -> Iterator[bytes]:
    """Yield, piece by piece, the vectors of a tag as COPY BINARY has them: hash, chunk, chunks, vector; once a text.

    What was adopted counts where it belongs to the text as it is now.
    """
    with connection.cursor().copy(_export(stamps)) as copy:
        pieces: list[bytes | bytearray | memoryview] = []
        size = 0
        for piece in copy:
            pieces.append(piece)
            size += len(piece)
            if size >= _PIECE:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join(pieces)


def _export(stamps: Stamps) -> sql.Composed:
    source, adopted = stamps.source, stamps.adopted
    kind = source.pgvector.type(source.collection.storage)
    if stamps.chunks:
        return stamps.statement(
            "homes/carrying",
            "export_chunks",
            type=kind,
            stored=source.stored_list("w"),
            order=source.stored_list("o"),
            same_record=same_key(source.key, source.stored_of("v"), source.stored_of("o")),
        )
    vector, beside = sql.Identifier("v", "embedding"), sql.SQL("").format()
    if adopted is not None:
        offered, noted = stamps.tried(adopted), sql.SQL("SELECT WHERE false").format()
        if stamps.follows:
            noted = stamps.noted("vector_noted", "s")
        beside = stamps.statement("homes/carrying", "beside", offered=offered, vector_noted=noted)
        if stamps.home == "column":
            vector = sql.Identifier("s", "vector")
    condition = stamps.sound(vector) if adopted is not None else sql.SQL("true")
    return stamps.statement("homes/carrying", "export", vector=vector, type=kind, beside=beside, condition=condition)


def gather_wanted(connection: Connection, stamps: Stamps, hashes: TextHash) -> int:
    """Gather which records lack a fresh vector in a temporary table, by hashes of this kind; return how many do.

    Raises:
        DatabaseError: the role may have no temporary table.
    """
    _require_temporary(connection)
    connection.execute(statement("homes/carrying", "forget"))
    other = sql.SQL("NULL::uuid") if hashes == text_hash(connection, stamps) else statement("homes/carrying", hashes)
    query = stamps.statement(
        "homes/carrying",
        "gather",
        other_hash=other,
        owned=stamps.owned("s"),
        kept=stamps.kept("s"),
        match_any=stamps.match("s", "a"),
        collection=sql.Literal(stamps.source.collection.name),
        tag=sql.Literal(stamps.tag),
    )
    connection.execute(query)
    connection.execute(statement("homes/carrying", "arrange"))
    connection.execute(statement("homes/carrying", "analyze"))
    row = connection.execute(statement("homes/carrying", "wanted")).fetchone()
    return int(row[0]) if row else 0


def _require_temporary(connection: Connection) -> None:
    database, role, may = connection.execute(statement("source/catalog", "temporary")).fetchone() or ("", "", True)
    if not may:
        raise DatabaseError(
            f"The role {role} may create no temporary tables in {database}: in one an import gathers which records "
            "lack a vector.",
            state="Nothing was imported.",
            hint=f"Let the owner of the database run: GRANT TEMPORARY ON DATABASE {database} TO {role}",
        )


def find_wanted(
    connection: Connection, stamps: Stamps, texts: Sequence[str]
) -> Iterator[list[tuple[int, WantedRecord]]]:
    """Yield, some at a time, the gathered records that have one of some texts, each with the place of its text.

    Args:
        connection: the session that gathered them.
        stamps: the tag.
        texts: the hashes of the texts.
    """
    query = _keyed(stamps, "find")
    left = dict.fromkeys(range(len(texts)), 0)
    while left:
        places = list(left)
        most = max(10, _FOUND // len(places))
        values = {"texts": [texts[at] for at in places], "after": list(left.values()), "most": most}
        rows = connection.execute(query, values).fetchall()
        counts, last = Counter(row[0] for row in rows), {row[0]: row[1] for row in rows}
        if rows:
            yield [(places[row[0] - 1], WantedRecord(tuple(row[4:]), row[2], row[3])) for row in rows]
        left = {places[at - 1]: last[at] for at, count in counts.items() if count == most}


def known_texts(connection: Connection, texts: Sequence[str]) -> set[int]:
    """Return the places of those texts that any record of the source has."""
    if not texts:
        return set()
    rows = connection.execute(statement("homes/carrying", "known"), {"texts": list(texts)})
    return {at - 1 for (at,) in rows}


def texts_of(connection: Connection, stamps: Stamps, texts: Sequence[str]) -> dict[int, str]:
    """Return texts by the places of their hashes; those are left out that no gathered record has any more."""
    return {at - 1: text for at, text in connection.execute(_keyed(stamps, "texts"), {"texts": list(texts)})}


@lru_cache(maxsize=64)
def _keyed(stamps: Stamps, name: str) -> str:
    source = stamps.source
    return finished(
        stamps.statement(
            "homes/carrying",
            name,
            keys_text=source.alias_text("t"),
            same_record=same_key(source.key, source.aliases_of("s"), source.aliases_of("t")),
        )
    )
