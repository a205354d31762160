"""The canary: a few texts whose vectors are kept with a new tag, and compared from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders import Embedder, row_problems
from vecmig.errors import EmbedderError, TerminalEmbedderError, VecmigError

#: Texts whose vectors are kept with a new tag and compared from then on.
CANARY_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I read a csv file line by line?",
    "Übergrößenträger, 東京 and the number 42.",
)
#: Smallest cosine similarity to the kept vector. The same weights give 0.9999 and more, on other hardware or in half
#: precision too; other weights of the same family stay far below.
CANARY_SIMILARITY: Final = 0.999


def new_canary(embedder: Embedder) -> dict[str, Any]:
    """Embed the canary texts for a new tag; the mapping is what ``vecmig.tag`` keeps.

    Raises:
        TerminalEmbedderError: the embedder gives a vector that cannot be compared.
    """
    vectors = embedder.embed_documents(CANARY_TEXTS)
    for problem in row_problems(vectors).values():
        raise TerminalEmbedderError(
            f"The embedder cannot embed a plain sentence: {problem}.", state="Nothing was embedded."
        )
    return {"texts": list(CANARY_TEXTS), "vectors": [[float(x) for x in vector] for vector in vectors]}


def cut_canary(canary: Mapping[str, Any], dims: int) -> dict[str, Any]:
    """Return the canary of a tag whose vectors are the first dims of those of the tag that this one is of."""
    return {**canary, "vectors": [vector[:dims] for vector in canary["vectors"]]}


def canary_similarity(embedder: Embedder, canary: Mapping[str, Any]) -> float:
    """Embed the kept texts again and give the smallest cosine similarity to the kept vectors."""
    texts: Sequence[str] = canary["texts"]
    kept = np.asarray(canary["vectors"], dtype=np.float64)
    fresh = embedder.embed_documents(texts).astype(np.float64)
    return _lowest_similarity(kept, fresh)


def _lowest_similarity(kept: NDArray[np.float64], fresh: NDArray[np.float64]) -> float:
    norms = np.linalg.norm(kept, axis=1) * np.linalg.norm(fresh, axis=1)
    if not norms.all():
        return 0.0
    lowest = float(((kept * fresh).sum(axis=1) / norms).min())
    return lowest if np.isfinite(lowest) else 0.0


def require_same_model(embedder: Embedder, tag: str, canary: Mapping[str, Any]) -> None:
    """Refuse to add vectors of other weights to a tag.

    Raises:
        TerminalEmbedderError: the embedder gives other vectors than when the tag was new.
    """
    similarity = canary_similarity(embedder, canary)
    if similarity < CANARY_SIMILARITY:
        raise TerminalEmbedderError(
            f"The model behind {tag} is not the one that made its vectors: similarity {similarity:.4f}, "
            f"at least {CANARY_SIMILARITY} is needed.",
            state="Nothing was embedded.",
            hint="Restore the old weights, or make a new tag with a new version after the @ and: vecmig revision",
        )


def require_same_canary(tag: str, kept: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> None:
    """Refuse vectors that came from elsewhere with another canary than the tag has here; without one all may be.

    Raises:
        VecmigError: the vectors of the same texts differ.
    """
    if kept is None or other is None or kept["texts"] != other["texts"]:
        return
    ours, theirs = (np.asarray(canary["vectors"], dtype=np.float64) for canary in (kept, other))
    similarity = _lowest_similarity(ours, theirs)
    if similarity < CANARY_SIMILARITY:
        raise VecmigError(
            f"The vectors of {tag} here were made by another model than those of the file: similarity "
            f"{similarity:.4f}, at least {CANARY_SIMILARITY} is needed.",
            state="Nothing was changed.",
            hint="Vectors of two models are never mixed: make a new tag with a new version after the @ and: vecmig "
            "revision",
        )


def ask_canary(embedder: Embedder, canary: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return (similarity, "") or, when the embedder does not answer, (None, why)."""
    try:
        return canary_similarity(embedder, canary), ""
    except EmbedderError as error:
        return None, error.message
