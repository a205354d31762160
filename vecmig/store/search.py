"""The search over one tag, as the reader runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from vecmig.store.connect import Connection
from vecmig.store.live import nearest
from vecmig.store.vectors import Space


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search."""

    #: The values of the record's key columns.
    key: tuple[Any, ...]
    #: The tag whose vectors were searched.
    tag: str
    chunk: int
    #: By the collection's metric; smaller is nearer.
    distance: float
    #: The chunk's text, or the record's where the tag does not chunk.
    text: str
    #: The record's columns.
    record: dict[str, Any]


def search_space(connection: Connection, space: Space, vector: NDArray[np.float32], k: int) -> list[Hit]:
    """Give the k chunks nearest to a query vector of shape (dims,) among the vectors of one tag, nearest first."""
    source = space.source
    query = space.statement_of(
        "search",
        "search",
        nearest=nearest(space, query=sql.Placeholder("query"), k=sql.Placeholder("k")),
        n_keys=source.alias_list("n"),
        same_record=sql.SQL(" AND ").join(
            sql.SQL("r.{alias} = n.{alias}").format(alias=alias) for alias in source.aliases
        ),
        same_source=source.match("n", "s"),
        same_vector=source.match("n", "v"),
        vectors=source.vectors,
        tag_literal=sql.Literal(space.tag),
        source=source.relation,
    )
    values = {"query": "[" + ",".join(map(repr, vector.tolist())) + "]", "k": k}
    with connection.transaction():
        if source.pgvector.iterative_scan:
            connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        rows = connection.execute(query, values).fetchall()
    keys = len(source.key)
    return [Hit(tuple(row[:keys]), space.tag, row[keys], *row[keys + 1 :]) for row in rows]
