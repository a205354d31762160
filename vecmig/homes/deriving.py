"""Take over the first dims of the vectors of another tag: all in pages, and those of the records in the outbox."""

from __future__ import annotations

from functools import lru_cache

from psycopg import sql

from vecmig.freshness.pending import compared, key_values
from vecmig.freshness.stamps import Stamps, norm_function
from vecmig.homes.adopting import SLOW_RECORDS, AdoptedPage, page_size, through_outbox
from vecmig.homes.payload import column_of
from vecmig.postgres.named_sql import finished
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key, same_key


def derive_page(connection: Connection, stamps: Stamps, after: Key | None, *, indexed: bool) -> AdoptedPage:
    """Derive the vectors of the next records in key order that lack a fresh one, in one statement.

    Args:
        connection: a connection of vecmig's, in autocommit mode.
        stamps: a tag that derives from another one.
        after: the key to start behind; None for the first record.
        indexed: whether each vector goes into an index as well.
    """
    size = SLOW_RECORDS if indexed else page_size(stamps)
    values = stamps.values | {"size": size} | key_values("k", after)
    row = connection.execute(_derive(stamps, "first" if after is None else "page"), values).fetchone()
    page = AdoptedPage.from_row(row)
    if page.last is None:
        connection.execute(_reject(stamps), stamps.values)
    return page


def derive_changed(connection: Connection, stamps: Stamps) -> int:
    """Derive the vectors of the records in the outbox that lack a fresh one; return how many."""
    return through_outbox(connection, stamps, lambda _: _derive(stamps, "noted"))


# Fragments ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _derive(stamps: Stamps, which: str) -> str:
    source, parts = stamps.source, _parts(stamps)
    after = sql.SQL("true") if which == "first" else compared(source, ">", "k")
    page = "noted" if which == "noted" else "page"
    own_keys = source.alias_list("s")
    nonzero = stamps.statement("homes/deriving", "nonzero", **parts) if stamps.chunks else sql.SQL("")
    query = stamps.statement(
        "homes/deriving",
        "derive",
        page=stamps.statement("homes/deriving", page, after=after),
        nonzero=nonzero,
        same_record=same_key(source.key, source.aliases_of("s"), source.aliases_of("p")),
        own_keys=own_keys,
        keys_text=source.alias_text("s"),
        descending=source.descending,
        stored=source.stored_list(),
        tag=sql.Literal(stamps.tag),
        lock=sql.SQL("FOR KEY SHARE SKIP LOCKED") if source.is_table else sql.SQL(""),
        **parts,
    )
    return finished(query)


@lru_cache(maxsize=32)
def _reject(stamps: Stamps) -> str:
    return finished(stamps.statement("homes/deriving", "reject", **_parts(stamps)))


def _parts(stamps: Stamps) -> dict[str, sql.Composable]:
    base, pgvector = stamps.base, stamps.source.pgvector
    assert base is not None, "it is asked of a tag that derives from another one"
    first = sql.SQL("{}(b.embedding, 1, {})").format(pgvector.function("subvector"), sql.Literal(stamps.dims))
    return {
        "base": _vectors(base),
        "base_tag": sql.Literal(base.tag),
        "base_whole": base.whole,
        "base_match": base.match("s", "v"),
        "base_hash": base.hash,
        "hash_kind": stamps.hash_kind,
        "base_hash_kind": base.hash_kind,
        "first": first,
        "norm": pgvector.function(norm_function(stamps.source.collection.storage)),
        "unit": pgvector.function("l2_normalize"),
    }


def _vectors(base: Stamps) -> sql.Composable:
    """Return a relation of the base's stamps with their vectors beside them."""
    if base.home == "partition":
        return base.relation
    source = base.source
    payload = sql.SQL("t.{}::{}").format(column_of(base), source.pgvector.type(source.collection.storage))
    return base.statement(
        "homes/deriving",
        "in_column",
        stored=source.stored_list("v"),
        payload=payload,
        source=source.relation,
        match_source=source.match_source("t", "v"),
    )
