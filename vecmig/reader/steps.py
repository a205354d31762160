"""How a search goes, step by step and without a driver: what is to be done is yielded, and its result sent back in.

So the reader that waits and the one that awaits share everything but the few lines in which they do it.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from vecmig.errors import ConditionError, UsageError
from vecmig.freshness.stamps import Stamps
from vecmig.homes.search import Hit, Parameters, Search, new_search
from vecmig.ledger.rows import TagRow
from vecmig.model.tag import Tag
from vecmig.postgres.sessions import Outdated
from vecmig.published.pool import Broken, Fetched
from vecmig.reader.query_cache import QueryCache, Vector
from vecmig.reader.snapshots import CollectionSnapshot, live_tag_of, tag_row


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search as an application asks for it."""

    collection: str
    k: int = 10
    text: str | None = None
    vector: Vector | None = None
    #: Another tag than the live one.
    tag: str | None = None
    where: str | None = None
    params: Parameters = ()
    ef_search: int | None = None
    #: Whose request it is: the same caller is served by the same tag while traffic is ramped up.
    caller: str | None = None


class LoadSnapshot(NamedTuple):
    """Look up what is known of a collection; answered by a ``CollectionSnapshot``."""

    collection: str
    again: bool = False


class EmbedQuery(NamedTuple):
    """Embed a query by a tag's recipe; answered by a vector of shape (dims,)."""

    row: TagRow
    text: str


class RunSearch(NamedTuple):
    """Run a search; answered by ``Fetched``."""

    search: Search
    values: dict[str, Any]


class ReadDigest(NamedTuple):
    """Read the digest of what the ledger says of a collection now, as in ``CollectionSnapshot.digest``."""

    collection: str


class Reconnect(NamedTuple):
    """Let go of the connections that broke."""


Step = LoadSnapshot | EmbedQuery | RunSearch | ReadDigest | Reconnect


class Embedded(NamedTuple):
    """A query's vector, of shape (dims,), and the tag whose recipe made it. The vector is the caller's own."""

    tag: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, and what a second one under another tag would need."""

    hits: list[Hit]
    snapshot: CollectionSnapshot
    tag: str
    #: How long it took on its connection, in seconds.
    seconds: float


def search(
    request: SearchRequest, cached: Callable[[str], CollectionSnapshot | None], query_cache: QueryCache
) -> Generator[Step, Any, Answer]:
    """Answer one search."""
    snapshot = cached(request.collection)
    if snapshot is None:
        snapshot = yield LoadSnapshot(request.collection)
    try:
        answer = yield from _search(request, snapshot, query_cache)
    except (Outdated, ConditionError):
        # the source or the tags may have changed since they were read
        snapshot = yield LoadSnapshot(request.collection, again=True)
        answer = yield from _search(request, snapshot, query_cache)
    # a tag that was retired has no rows; nor has the live one if reads have moved and nothing was heard of it
    if answer.hits or (yield from _twice(ReadDigest(request.collection))) == snapshot.digest:
        return answer
    now: CollectionSnapshot = yield LoadSnapshot(request.collection)
    return answer if now.digest == snapshot.digest else (yield from _search(request, now, query_cache))


def embed(
    request: SearchRequest, cached: Callable[[str], CollectionSnapshot | None], query_cache: QueryCache
) -> Generator[Step, Any, Embedded]:
    """Embed the query alone, for reads that no ramp touches."""
    snapshot = cached(request.collection)
    try:
        fresh: CollectionSnapshot = (yield LoadSnapshot(request.collection)) if snapshot is None else snapshot
        row = tag_row(fresh, named(request, fresh))
    except Outdated:
        fresh = yield LoadSnapshot(request.collection, again=True)
        row = tag_row(fresh, named(request, fresh))
    # a copy: what is kept for the next who asks must not change
    return Embedded(row.tag, (yield from _vector(request, row, fresh, query_cache)).copy())


def _search(
    request: SearchRequest, snapshot: CollectionSnapshot, query_cache: QueryCache
) -> Generator[Step, Any, Answer]:
    row = tag_row(snapshot, choose(request, snapshot))
    vector = yield from _vector(request, row, snapshot, query_cache)
    if request.text is None:
        _check_vector(vector, row, snapshot)
    query = prepared(request, snapshot, row.tag)
    fetched: Fetched = yield from _twice(RunSearch(query, query.values(vector, request.params)))
    return Answer(query.hits(fetched.rows), snapshot, row.tag, fetched.seconds)


def _twice(step: RunSearch | ReadDigest) -> Generator[Step, Any, Any]:
    """Ask the database, once more if the connection broke: a server that restarts breaks those that wait, too."""
    try:
        return (yield step)
    except Broken:
        yield Reconnect()
        return (yield step)


def _vector(
    request: SearchRequest, row: TagRow, snapshot: CollectionSnapshot, query_cache: QueryCache
) -> Generator[Step, Any, Vector]:
    if request.text is None:
        assert request.vector is not None, "a search asks by text or by vector"
        return request.vector
    vector = query_cache.get(row, request.text)
    if vector is None:
        vector = yield EmbedQuery(row, request.text)
        _check_vector(vector, row, snapshot)
        query_cache.keep(row, request.text, vector)
    return vector


def _check_vector(vector: Vector, row: TagRow, snapshot: CollectionSnapshot) -> None:
    if vector.shape != (row.dims,):
        raise UsageError(f"The vector has the shape {vector.shape}; {row.tag} needs ({row.dims},).")
    square = float(vector @ vector)
    if not (math.isfinite(square) and (square or snapshot.source.collection.metric != "cosine")):
        problem = "holds NaN or is too long" if square else "has the length 0, for which there is no cosine"
        raise UsageError(f"The vector of the query {problem}.")


def prepared(request: SearchRequest, snapshot: CollectionSnapshot, tag: str) -> Search:
    """Put the search of one tag together, once."""
    stamps = Stamps(snapshot.source, snapshot.schema, tag)
    return snapshot.search(
        (tag, request.k, request.where, request.ef_search),
        lambda: new_search(
            stamps, request.k, where=request.where, ef_search=request.ef_search, lock_wait=snapshot.lock_wait
        ),
    )


def named(request: SearchRequest, snapshot: CollectionSnapshot) -> str:
    """Return the tag that a request names, or the live one."""
    if request.tag is None:
        return live_tag_of(snapshot)
    return request.tag if request.tag in snapshot.tags else str(Tag.parse(request.tag))


def choose(request: SearchRequest, snapshot: CollectionSnapshot) -> str:
    """Return the tag that serves a search: the candidate for its share of those that name none, else as ``named``."""
    route = snapshot.route
    if (
        request.tag is None
        and route.candidate is not None
        and route.ramp_share > 0
        and place(request) < route.ramp_share
    ):
        return route.candidate
    return named(request, snapshot)


def place(request: SearchRequest) -> float:
    """Return a number from 0 to 1 that is the same for all requests of a caller to a collection, or a random one."""
    if request.caller is None:
        return random.random()  # noqa: S311  # a share of the traffic, no secret
    digest = hashlib.sha256(f"{request.collection}\0{request.caller}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
