"""Look at a few vectors closely: are they what the embedder makes of their texts, whole texts, found by searches?

Coverage and hashes tell that every record has a vector made when its text was this one. They cannot tell that it is
this text's vector: answers may come in another order, a provider may change weights halfway or read only the beginning
of a text, and questions may be embedded into another space than records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vecmig.config import Metric
from vecmig.embedders import Embedder, cut_to_limit, embed_all, embed_questions
from vecmig.errors import EmbedderError, PoisonInputError
from vecmig.gate.canary import CANARY_SIMILARITY
from vecmig.gate.verdict import Check
from vecmig.store.connect import Connection
from vecmig.store.index import index_state
from vecmig.store.search import search_space
from vecmig.store.space import Space
from vecmig.store.spots import Sampled, longest_text, sample_vectors

Vectors = NDArray[np.float32]

#: Vectors that are embedded again. So many miss a fault that hits a twentieth of them, here and there, in 4 of 100
#: looks; one that lasted for a while, in none: see ``sample_vectors``.
SAMPLE: Final = 64
#: Vectors of which the longest text is taken.
_LENGTHS: Final = 2_000
#: From this similarity on, two texts count as one to the provider. Of texts that are read whole, the most repetitive
#: come to 0.9997.
_SAME: Final = 0.9999
#: What stands in for the last fifth of a text, at half the length: no provider's limit may be in the way.
_OTHER: Final = " Meanwhile the orchestra of the harbour town rehearses a waltz about nineteen copper kettles."
_SHORTEST: Final = 5 * len(_OTHER)
#: Texts that are asked as questions, and how many of the other records drawn must be farther away than their own. Of
#: questions in another space half of them are, give or take 0.07.
_QUESTIONS: Final = 16
_FARTHER: Final = 0.75
#: Vectors that are searched for; among how many answers each must be; the smallest share of them that must; and how
#: much farther than the vector itself an answer may be that is as good.
_SEARCHES: Final = 16
_ANSWERS: Final = 10
_FOUND: Final = 0.5
_ROUNDING: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Spot:
    """What a close look has found."""

    sampled: int
    #: Vectors that are not what the embedder makes of their texts now, and the key and similarity of the worst one.
    foreign: int = 0
    worst: tuple[str, float] | None = None
    #: How similar a long text is to itself with another end; None where no text is long enough to tell.
    tail: float | None = None
    #: The share of the other records drawn that a question is farther from than from the record whose text it is; None
    #: where there are no other texts.
    farther: float | None = None
    #: How many vectors the production search was given, and how many it found; None without a usable index.
    searched: tuple[int, int] | None = None
    #: Why the embedder gave no answer.
    error: str = ""


def look(connection: Connection, space: Space, embedder: Embedder) -> Spot:
    """Look at a random sample of a tag's vectors; no transaction is open while the embedder is asked."""
    sample = sample_vectors(connection, space, SAMPLE)
    if not sample:
        return Spot(0)
    longest = longest_text(connection, space, _LENGTHS)
    searched = _searched(connection, space, sample) if index_state(connection, space).usable else None
    try:
        return _look(embedder, sample, longest or "", searched)
    except EmbedderError as error:
        return Spot(len(sample), searched=searched, error=error.message)


def _look(embedder: Embedder, sample: Sequence[Sampled], longest: str, searched: tuple[int, int] | None) -> Spot:
    texts = [_sent(embedder, one.text) for one in sample]
    fresh = embed_all(embedder, texts)
    similar = _likeness(fresh, np.stack([one.vector for one in sample]))
    foreign = int(np.count_nonzero(~(similar >= CANARY_SIMILARITY)))
    at = int(similar.argmin())
    worst = (", ".join(sample[at].key), float(similar[at])) if foreign else None
    tail = _tail(embedder, _sent(embedder, longest))
    return Spot(len(sample), foreign, worst, tail, _farther(embedder, texts, fresh), searched)


def _sent(embedder: Embedder, text: str) -> str:
    """Give a text as the backfill sends it."""
    return cut_to_limit(embedder, text) if embedder.recipe.too_long == "cut" else text


def _likeness(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Give how alike each pair of rows is in direction and length: of unit vectors it is the cosine; at most 1.

    Rows that are no numbers are not alike.
    """
    left, right = one.astype(np.float64), other.astype(np.float64)
    squares = (left * left).sum(axis=1) + (right * right).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike: NDArray[np.float64] = 2 * (left * right).sum(axis=1) / squares
    return np.where(np.isfinite(alike), alike, -1.0)


def _tail(embedder: Embedder, text: str) -> float | None:
    if len(text) < _SHORTEST:
        return None
    other = (_OTHER * (len(text) // len(_OTHER)))[: len(text) // 10]
    whole, changed = embed_all(embedder, [text, text[: len(text) * 4 // 5] + other])
    return float(_likeness(whole[None], changed[None])[0])


def _farther(embedder: Embedder, texts: Sequence[str], fresh: Vectors) -> float | None:
    """Compare questions with what the embedder makes of the records now: what is stored may have faults of its own."""
    asked = texts[:_QUESTIONS]
    others = np.array([[text != other for other in texts] for text in asked])
    told = others.any(axis=1)
    if not told.any():
        return None
    near = _directions(_questions(embedder, asked)) @ _directions(fresh).T
    own = near[range(len(asked)), range(len(asked))][:, None]
    shares = ((near < own) + 0.5 * (near == own)) * others
    return float((shares.sum(axis=1)[told] / others.sum(axis=1)[told]).mean())


def _questions(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    try:
        return embed_questions(embedder, texts)
    except PoisonInputError:
        # a query prompt that is longer than the document prompt leaves too little room for the longest records
        return embed_questions(embedder, [text if len(text) < 200 else text[: len(text) * 9 // 10] for text in texts])


def _directions(vectors: Vectors) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(norms > 0, norms, 1)


def _searched(connection: Connection, space: Space, sample: Sequence[Sampled]) -> tuple[int, int]:
    """Search for vectors as production does; what is as near as the vector itself is as good an answer."""
    wanted = sample[:_SEARCHES]
    found = 0
    for one in wanted:
        hits = search_space(connection, space, one.vector, _ANSWERS)
        bound = _farthest(space.source.collection.metric, one.vector)
        found += any(hit.text == one.text or hit.distance <= bound for hit in hits)
    return len(wanted), found


def _farthest(metric: Metric, vector: Vectors) -> float:
    """Give the distance of a vector to itself, and a little more."""
    square = float(vector.astype(np.float64) @ vector)
    if metric == "ip":
        return -square * (1 - _ROUNDING)
    return _ROUNDING if metric == "cosine" else float(_ROUNDING * np.sqrt(square))


# The checks --------------------------------------------------------------------------------------------------------


def judge_spot(spot: Spot | None, *, asked: bool) -> tuple[Check, ...]:
    """Judge a close look; None is one that was not taken, be it that the embedder was not asked or that it failed."""
    if spot is None:
        detail = "not looked at before the canary is right" if asked else "not looked at here; it needs the embedder"
        remedy = "See to the canary first." if asked else "Run: vecmig gate"
        return (Check("sample", None, None, f"all of {SAMPLE}", detail, remedy),)
    if spot.error:
        return (Check("sample", False, None, f"all of {SAMPLE}", spot.error, "Make the embedder answer first."),)
    found = () if spot.searched is None else (_findable(*spot.searched),)
    return (_own(spot), _whole(spot), _near(spot), *found)


def _own(spot: Spot) -> Check:
    good = spot.sampled - spot.foreign
    detail = f"{good} of {spot.sampled} vectors drawn at random are what the embedder makes of their texts"
    if spot.worst is not None:
        detail += f"; that of record {spot.worst[0]} is not (similarity {spot.worst[1]:.4f})"
    remedy = (
        "The vectors are of other weights, or of other records. Make a new tag with a new version after the @, or "
        "embed them again: vecmig downgrade -1 --discard, then vecmig upgrade head"
    )
    return Check("sample", not spot.foreign, good, spot.sampled, detail, remedy)


def _whole(spot: Spot) -> Check:
    if spot.tail is None:
        detail = "no text drawn is long enough to tell whether its end is read"
        return Check("whole texts", True, None, None, detail)
    read = spot.tail < _SAME
    detail = "another end of a long text gives another vector"
    if not read:
        detail = "a long text with another end gives the same vector: the provider reads only its beginning"
    remedy = "Chunk the texts (a new tag with chunk-N), or raise what the provider reads (a new version after the @)."
    return Check("whole texts", read, "read" if read else "cut", "read", detail, remedy)


def _near(spot: Spot) -> Check:
    if spot.farther is None:
        return Check(
            "questions", True, None, _FARTHER, "there are too few texts to tell records apart", bound="≥", share=True
        )
    detail = f"a record's text, asked as a question, is nearer to it than to {_floor(spot.farther)} of other records"
    remedy = (
        "Questions and records are embedded into two spaces. Correct query_prompt, or the provider's own treatment of "
        "queries, with a new tag."
    )
    return Check("questions", spot.farther >= _FARTHER, spot.farther, _FARTHER, detail, remedy, bound="≥", share=True)


def _floor(share: float) -> str:
    """Write a share in whole percent, never rounded up."""
    return f"{int(share * 100)} %"


def _findable(asked: int, found: int) -> Check:
    share = found / asked
    detail = f"the search finds {found} of {asked} vectors drawn at random"
    remedy = "Build the index anew: DROP INDEX CONCURRENTLY, then vecmig upgrade head --until index"
    return Check("search", share >= _FOUND, share, _FOUND, detail, remedy, bound="≥", share=True)
