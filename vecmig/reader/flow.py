"""How a search goes, step by step and without a driver: what is to be done is yielded, and its result sent back in.

So the reader that waits and the one that awaits share everything but the few lines in which they do it.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecmig.errors import ConditionError, UsageError
from vecmig.reader.known import Known, live_of, row_of
from vecmig.store.connect import Outdated
from vecmig.store.ledger import TagRow
from vecmig.store.pool import Broken, Fetched
from vecmig.store.search import Hit, Parameters, Search, new_search
from vecmig.store.space import Space
from vecmig.tags import Tag

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ask:
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


class Load(NamedTuple):
    """Look up what is known of a collection; gives ``Known``."""

    collection: str
    anew: bool = False


class Embed(NamedTuple):
    """Embed a question by a tag's recipe; gives a vector of shape (dims,)."""

    row: TagRow
    text: str


class Run(NamedTuple):
    """Run a search; gives ``Fetched``."""

    search: Search
    values: dict[str, Any]


class Stamp(NamedTuple):
    """Ask what the ledger says of a collection now; gives the digest that ``Known.stamp`` is one of."""

    collection: str


class Mend(NamedTuple):
    """Let go of the connections that broke."""


Step = Load | Embed | Run | Stamp | Mend


class Embedded(NamedTuple):
    """A question's vector, of shape (dims,), and the tag whose recipe made it. The vector is the caller's own."""

    tag: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search gave, and what a second one under another tag would need."""

    hits: list[Hit]
    known: Known
    tag: str
    #: How long it took on its connection, in seconds.
    seconds: float


class Vectors:
    """The vectors of the latest questions, by tag and recipe: none is ever used with another model's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[str, str, str], Vector] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, row: TagRow, text: str) -> Vector | None:
        """Give the vector of a question that was asked lately."""
        key = (row.tag, row.fingerprint, text)
        with self._turn:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def keep(self, row: TagRow, text: str, vector: Vector) -> None:
        """Keep one, and let the oldest go."""
        with self._turn:
            self._kept[row.tag, row.fingerprint, text] = vector
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def search(ask: Ask, cached: Callable[[str], Known | None], vectors: Vectors) -> Generator[Step, Any, Answer]:
    """Answer one search."""
    known = cached(ask.collection)
    if known is None:
        known = yield Load(ask.collection)
    try:
        answer = yield from _search(ask, known, vectors)
    except (Outdated, ConditionError):
        # the source or the tags were changed since they were looked at, perhaps
        known = yield Load(ask.collection, anew=True)
        answer = yield from _search(ask, known, vectors)
    # a tag that was taken away gives no rows; the live one, too, if reads have moved unheard
    if answer.hits or (yield from _twice(Stamp(ask.collection))) == known.stamp:
        return answer
    now: Known = yield Load(ask.collection)
    return answer if now.stamp == known.stamp else (yield from _search(ask, now, vectors))


def embed(ask: Ask, cached: Callable[[str], Known | None], vectors: Vectors) -> Generator[Step, Any, Embedded]:
    """Embed the question alone, for reads that no ramp touches."""
    known = cached(ask.collection)
    try:
        fresh: Known = (yield Load(ask.collection)) if known is None else known
        row = row_of(fresh, named(ask, fresh))
    except Outdated:
        fresh = yield Load(ask.collection, anew=True)
        row = row_of(fresh, named(ask, fresh))
    # a copy: what is kept for the next who asks is for nobody to change
    return Embedded(row.tag, (yield from _vector(ask, row, fresh, vectors)).copy())


def _search(ask: Ask, known: Known, vectors: Vectors) -> Generator[Step, Any, Answer]:
    row = row_of(known, choose(ask, known))
    vector = yield from _vector(ask, row, known, vectors)
    if ask.text is None:
        _check_vector(vector, row, known)
    query = prepared(ask, known, row.tag)
    fetched: Fetched = yield from _twice(Run(query, query.values(vector, ask.params)))
    return Answer(query.hits(fetched.rows), known, row.tag, fetched.seconds)


def _twice(step: Run | Stamp) -> Generator[Step, Any, Any]:
    """Ask the database, once more if the connection broke: a server that restarts breaks those that wait, too."""
    try:
        return (yield step)
    except Broken:
        yield Mend()
        return (yield step)


def _vector(ask: Ask, row: TagRow, known: Known, vectors: Vectors) -> Generator[Step, Any, Vector]:
    if ask.text is None:
        assert ask.vector is not None, "a search asks by text or by vector"
        return ask.vector
    vector = vectors.get(row, ask.text)
    if vector is None:
        vector = yield Embed(row, ask.text)
        _check_vector(vector, row, known)
        vectors.keep(row, ask.text, vector)
    return vector


def _check_vector(vector: Vector, row: TagRow, known: Known) -> None:
    if vector.shape != (row.dims,):
        raise UsageError(f"The vector has the shape {vector.shape}; {row.tag} needs ({row.dims},).")
    square = float(vector @ vector)
    if not (math.isfinite(square) and (square or known.source.collection.metric != "cosine")):
        problem = "holds NaN or is too long" if square else "has the length 0, for which there is no cosine"
        raise UsageError(f"The vector of the question {problem}.")


def prepared(ask: Ask, known: Known, tag: str) -> Search:
    """Put the search of one tag together, once."""
    space = Space(known.source, known.schema, tag)
    return known.search(
        (tag, ask.k, ask.where, ask.ef_search),
        lambda: new_search(space, ask.k, where=ask.where, ef_search=ask.ef_search, lock_wait=known.lock_wait),
    )


def named(ask: Ask, known: Known) -> str:
    """Give the tag that a request names, or the live one."""
    if ask.tag is None:
        return live_of(known)
    return ask.tag if ask.tag in known.tags else str(Tag.parse(ask.tag))


def choose(ask: Ask, known: Known) -> str:
    """Give the tag that serves a search: the candidate, for its share of those that name none, or as ``named`` says."""
    route = known.route
    if ask.tag is None and route.candidate is not None and route.ramp_share > 0 and place(ask) < route.ramp_share:
        return route.candidate
    return named(ask, known)


def place(ask: Ask) -> float:
    """Give a number from 0 to 1 that is the same for all requests of a caller to a collection, or a random one."""
    if ask.caller is None:
        return random.random()  # noqa: S311  # a share of the traffic, no secret
    digest = hashlib.sha256(f"{ask.collection}\0{ask.caller}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
