"""Look at a few vectors closely: are they what the embedder makes of their texts, of all of a text?

Coverage and hashes tell that every record has a vector made when its text was this one. They cannot tell that it is
this text's vector: answers may come in another order, a provider may change weights halfway or read only the beginning
of a text, and queries may be embedded into another space than records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vecmig.check import Check, Remedy, Required
from vecmig.embedders import Embedded, Embedder, Kind, cut_to_limit
from vecmig.errors import EmbedderError, TerminalEmbedderError
from vecmig.gate.apart import condition_apart
from vecmig.gate.canary import CANARY_SIMILARITY
from vecmig.homes import Home, Sampled
from vecmig.text import percent

Vectors = NDArray[np.float32]

#: Vectors that are embedded again. This many miss a fault that hits a twentieth of them, here and there, in 4 of 100
#: looks; one that lasted for a while, in none: see ``sample_vectors``.
SAMPLE: Final = 64
#: Adopted vectors that are embedded again before the first one is put beside them.
_ADOPTED: Final = 16
#: Vectors of which the longest text is taken.
_LENGTHS: Final = 2_000
#: From this similarity on, two texts count as one to the provider. Of texts that are read to their end, the most
#: repetitive come to 0.9997.
_SAME: Final = 0.9999
#: What stands in for the last fifth of a text, at half the length: no provider's limit may be in the way.
_OTHER: Final = " Meanwhile the orchestra of the harbour town rehearses a waltz about nineteen copper kettles."
_SHORTEST: Final = 5 * len(_OTHER)
#: Texts that are asked as queries, and how many of the other records drawn must be farther away than their own. Of
#: queries in another space half of them are, give or take 0.07.
_QUESTIONS: Final = 16
_FARTHER: Final = 0.75
#: Of the vectors drawn, how many texts are sent one by one, and how many in one request in another order: a server may
#: give other vectors in large requests, or by the place in them.
_ALONE: Final = 8
_REVERSED: Final = 24
#: The largest share of the texts drawn that the provider may refuse to embed again.
_MOST_REFUSED: Final = 0.1


@dataclass(frozen=True, slots=True)
class Spot:
    """What a close look has found."""

    sampled: int
    #: Vectors that are not what the embedder makes of their texts now, and the key and similarity of the worst one.
    foreign: int = 0
    worst: tuple[str, float] | None = None
    #: A condition that tells these from the others, where the vectors were adopted; empty where none was found.
    apart: str = ""
    #: Texts that the embedder refuses now, and why the first one.
    refused: int = 0
    why: str = ""
    #: The smallest similarity of a text's vectors when it is sent alone, or in another order, and when it is not.
    steady: float = 1.0
    #: How similar a long text is to itself with another end; None where no text is long enough to tell.
    tail: float | None = None
    #: The share of the other records drawn that a query is farther from than from the record whose text it is; None
    #: where there are no other texts.
    farther: float | None = None
    #: Why the embedder gave no answer.
    error: str = ""

    @property
    def good(self) -> int:
        """How many of the vectors drawn are what the embedder makes of their texts."""
        return self.sampled - self.foreign - self.refused

    @property
    def verified(self) -> dict[str, Any]:
        """What ``vecmig.tag`` keeps of it for a tag that has adopted vectors."""
        return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "good": self.good, "of": self.sampled}


def look(home: Home, embedder: Embedder) -> Spot:
    """Look at a random sample of a tag's vectors; no transaction is open while the embedder is asked."""
    sample = home.sample(SAMPLE)
    if not sample:
        return Spot(0)
    longest = home.longest_text(_LENGTHS)
    try:
        return _look(embedder, sample, longest or "")
    except EmbedderError as error:
        return Spot(len(sample), error=error.message)


def require_same_space(embedder: Embedder, home: Home) -> None:
    """Refuse to put vectors beside those that a tag has adopted which are not the same model's.

    Raises:
        TerminalEmbedderError: the embedder gives other vectors than those that were adopted.
    """
    sample = home.sample(_ADOPTED)
    if not sample:
        return
    found = _asked(embedder, [_sent(embedder, one.text) for one in sample])
    kept = [row for row in range(len(sample)) if row not in found.refused]
    if not kept:
        return
    similar = _likeness(found.vectors[kept], np.stack([sample[row].vector for row in kept]))
    if float(np.median(similar)) < CANARY_SIMILARITY:
        raise TerminalEmbedderError(
            f"The recipe of {home.stamps.tag} is not the one that made the adopted vectors: similarity "
            f"{float(np.median(similar)):.4f}, at least {CANARY_SIMILARITY} is needed.",
            state="Nothing was embedded, and what was taken over stays.",
            hint="Correct the recipe (model, dims, prompt, normalisation) with a tag of its own, or adopt with "
            "fill=False, which embeds nothing.",
        )


def _look(embedder: Embedder, sample: Sequence[Sampled], longest: str) -> Spot:
    texts = [_sent(embedder, one.text) for one in sample]
    found = _asked(embedder, texts)
    kept = [row for row in range(len(texts)) if row not in found.refused]
    refused, why = len(found.refused), next(iter(found.refused.values()), "")
    if not kept:
        return Spot(len(sample), refused=refused, why=why)
    texts, fresh = [texts[row] for row in kept], found.vectors[kept]
    similar = _likeness(fresh, np.stack([sample[row].vector for row in kept]))
    other = ~(similar >= CANARY_SIMILARITY)
    foreign, at = int(np.count_nonzero(other)), int(similar.argmin())
    records = [sample[row].record or {} for row in kept]
    return Spot(
        len(sample),
        foreign,
        (", ".join(sample[kept[at]].key), float(similar[at])) if foreign else None,
        condition_apart(records, other.tolist()) if 0 < foreign < len(kept) else "",
        refused,
        why,
        _steady(embedder, texts, fresh),
        _tail(embedder, _sent(embedder, longest)),
        _farther(embedder, texts, fresh),
    )


def _asked(embedder: Embedder, texts: Sequence[str], kind: Kind = "document") -> Embedded:
    found = embedder.embed_each(texts, kind)
    if found.failure is not None:
        raise found.failure
    return found


def _steady(embedder: Embedder, texts: Sequence[str], fresh: Vectors) -> float:
    """Send some texts again, one by one and in another order, and return how similar the least similar vector is."""
    alone = [embedder.embed_documents([text]) for text in texts[:_ALONE]]
    backwards = embedder.embed_documents(texts[:_REVERSED][::-1])[::-1]
    again = np.concatenate([*alone, backwards])
    before = np.concatenate([fresh[: len(alone)], fresh[: len(backwards)]])
    return float(_likeness(again, before).min())


def _sent(embedder: Embedder, text: str) -> str:
    """Return a text as the backfill sends it."""
    return cut_to_limit(embedder, text) if embedder.recipe.too_long == "cut" else text


def _likeness(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Return how alike each pair of rows is in direction and length: of unit vectors it is the cosine; at most 1.

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
    found = _asked(embedder, [text, text[: len(text) * 4 // 5] + other])
    if found.refused:
        return None
    whole, changed = found.vectors
    return float(_likeness(whole[None], changed[None])[0])


def _farther(embedder: Embedder, texts: Sequence[str], fresh: Vectors) -> float | None:
    """Compare queries with what the embedder makes of the records now: what is stored may have faults of its own."""
    queries = _queries(embedder, texts[:_QUESTIONS])
    asked = [row for row in range(len(queries.vectors)) if row not in queries.refused]
    others = np.array([[texts[row] != other for other in texts] for row in asked])
    told = others.any(axis=1) if asked else np.zeros(0, dtype=bool)
    if not told.any():
        return None
    near = _directions(queries.vectors[asked]) @ _directions(fresh).T
    own = near[range(len(asked)), asked][:, None]
    shares = ((near < own) + 0.5 * (near == own)) * others
    return float((shares.sum(axis=1)[told] / others.sum(axis=1)[told]).mean())


def _queries(embedder: Embedder, texts: Sequence[str]) -> Embedded:
    found = _asked(embedder, texts, "query")
    if not found.refused:
        return found
    # a query prompt that is longer than the document prompt leaves too little room for the longest records
    return _asked(embedder, [text if len(text) < 200 else text[: len(text) * 9 // 10] for text in texts], "query")


def _directions(vectors: Vectors) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(norms > 0, norms, 1)


# The checks --------------------------------------------------------------------------------------------------------


def judge_spot(spot: Spot | None, *, asked: bool, adopted: bool = False) -> tuple[Check, ...]:
    """Judge a close look; None is one that was not taken, be it that the embedder was not asked or that it failed.

    Vectors that were adopted are what reads have used all along, and their model may be gone: where it gives no answer,
    they stay asserted.
    """
    if spot is None:
        detail = "not measured before the canary holds" if asked else "not measured here: it needs the embedder"
        remedy = Remedy("Correct the canary first.") if asked else Remedy.run("vecmig gate")
        return (Check("spot check", None, None, Required(f"all of {SAMPLE}"), detail, remedy),)
    if spot.error and adopted:
        detail = (
            f"the vectors were adopted, and are asserted to be the recipe's; its model gives no answer: {spot.error}"
        )
        return (Check("spot check", True, "asserted", Required(f"all of {SAMPLE}"), detail),)
    if spot.error:
        remedy = Remedy("Make the embedder answer first.")
        return (Check("spot check", False, None, Required(f"all of {SAMPLE}"), spot.error, remedy),)
    return (_own(spot, adopted=adopted), _whole(spot), _near(spot))


def _own(spot: Spot, *, adopted: bool) -> Check:
    detail = f"{spot.good} of {spot.sampled} vectors drawn at random are what the embedder makes of their texts"
    remedy = (
        "The vectors are of other weights, or of other records. Make a new tag with a new version after the @, or "
        "embed them again: vecmig downgrade -1 --discard, then vecmig upgrade head"
    )
    if adopted:
        remedy = (
            "The column's vectors are not what the recipe makes of text: one of them is not as it was when they were "
            "made. Correct text: in collections.yaml, or the recipe (model, prompts, norm). Then take them over again: "
            "vecmig downgrade -1 --discard, then vecmig upgrade head"
        )
    known = spot.refused <= _MOST_REFUSED * spot.sampled
    if spot.worst is not None:
        detail += f"; that of record {spot.worst[0]} is not (similarity {spot.worst[1]:.4f})"
        if spot.apart:
            detail += f"; those that are not, and no others, have {spot.apart}"
            remedy = f"The column has vectors of two models. Adopt one of them alone: where={f'NOT ({spot.apart})'!r}"
    elif spot.steady < CANARY_SIMILARITY:
        detail += (
            f"; but a text that is sent alone, or in another order, gets another vector (similarity {spot.steady:.4f})"
        )
        remedy = (
            "The server's vectors depend on what is sent beside a text. Lower max_batch in the recipe until they do "
            "not, then embed them again: vecmig downgrade -1 --discard, then vecmig upgrade head"
        )
    elif not known:
        remedy = "See why the provider refuses what it has embedded before, then: vecmig gate"
    if spot.refused:
        detail += f"; {spot.refused} could not be embedded again ({spot.why.rstrip('.')})"
    passed = not spot.foreign and spot.steady >= CANARY_SIMILARITY and known
    return Check("spot check", passed, spot.good, Required(spot.sampled), detail, Remedy(remedy))


def _whole(spot: Spot) -> Check:
    if spot.tail is None:
        detail = "no text drawn can tell whether its end is read"
        return Check("truncation", True, None, None, detail)
    read = spot.tail < _SAME
    detail = "another end of a long text gives another vector"
    if not read:
        detail = "a long text with another end gives the same vector: the provider reads only its beginning"
    remedy = "Chunk the texts (a new tag with chunk-N), or raise what the provider reads (a new version after the @)."
    return Check("truncation", read, "read" if read else "cut", Required("read"), detail, Remedy(remedy))


def _near(spot: Spot) -> Check:
    required = Required(_FARTHER, "≥", share=True)
    if spot.farther is None:
        return Check("query space", True, None, required, "there are too few texts to tell records apart")
    detail = f"a record's text, asked as a query, is nearer to it than to {percent(spot.farther)} of other records"
    remedy = (
        "Queries and records are embedded into two spaces. Correct query_prompt, or the provider's own treatment of "
        "queries, with a new tag."
    )
    return Check("query space", spot.farther >= _FARTHER, spot.farther, required, detail, Remedy(remedy))
