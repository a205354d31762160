"""Find the vectors that a tag has of texts already, whatever records they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg
from psycopg import sql

from vecmig.freshness.stamps import Stamps
from vecmig.homes.vectors import load_vectors, loaded
from vecmig.postgres.named_sql import finished, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, same_key

#: Of shape (dims,).
Vector = NDArray[np.float32]
#: Vectors by the digests of their texts.
Shared = dict[str, Vector]


def chunk_digest(text: str) -> str:
    """Return the digest of a chunk: the first 128 bits of its SHA-256, as PostgreSQL writes a uuid."""
    found = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return f"{found[:8]}-{found[8:12]}-{found[12:16]}-{found[16:20]}-{found[20:32]}"


def find_texts(connection: Connection, stamps: Stamps, digests: Sequence[str]) -> Shared:
    """Find vectors by the digests of their texts, in one look at all of the tag's stamps."""
    return _fetch(connection, stamps, "found", {"digests": digests})


def find_gathered(connection: Connection, stamps: Stamps, digests: Sequence[str]) -> Shared | None:
    """Find vectors by the digests of their texts, in what the first call of a session gathers in a temporary table.

    Returns:
        What there is; None where the role may have no temporary table.
    """
    with suppress(pg.UndefinedTable):
        return _fetch(connection, stamps, "gathered", {"digests": digests})
    with suppress(pg.InsufficientPrivilege):
        connection.execute(stamps.statement("homes/sharing", "gather", digest=_digest(stamps)))
        connection.execute(statement("homes/sharing", "arrange"))
        connection.execute(statement("homes/sharing", "analyze"))
        return _fetch(connection, stamps, "gathered", {"digests": digests})
    return None


def forget_gathered(connection: Connection) -> None:
    """Let the next call of ``find_gathered`` look at the stamps again."""
    connection.execute(statement("homes/sharing", "forget"))


def find_own(connection: Connection, stamps: Stamps, keys: Sequence[Key], digests: Sequence[str]) -> Shared:
    """Find the vectors of chunks, by their digests, among those that records have already."""
    written = [json.dumps(key) for key in keys]
    return _fetch(connection, stamps, "own", {"tag": stamps.tag, "keys": written, "digests": digests})


def _fetch(connection: Connection, stamps: Stamps, name: str, values: dict[str, object]) -> Shared:
    load_vectors(connection.adapters, stamps.source.pgvector.vector_oid)
    rows = connection.execute(_query(stamps, name), values, binary=True)
    return {digest: loaded(vector) for digest, vector in rows}


@lru_cache(maxsize=64)
def _query(stamps: Stamps, name: str) -> str:
    source = stamps.source
    return finished(
        stamps.statement(
            "homes/sharing",
            name,
            digest=_digest(stamps),
            vector=source.pgvector.type("vector"),
            same_record=same_key(source.key, source.stored_of("v"), source.json_values("c")),
        )
    )


def _digest(stamps: Stamps) -> sql.Composable:
    return statement("homes/sharing", "digest") if stamps.chunks else sql.Identifier("v", "source_hash")
