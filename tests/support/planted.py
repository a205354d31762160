"""wordllama behind a function of the project's own, into which a test plants a fault.

Recipes name ``support.planted:embed64`` and ``embed256``; what a test hangs on ``model`` strikes in 256 dimensions.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders import Embedder, open_embedder
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

Vectors = NDArray[np.float32]
#: Gives the vectors of texts that are a "document" or a "query" each.
Embed = Callable[[list[str], str], Vectors]


@cache
def _wordllama(dims: int) -> Embedder:
    tag = f"wordllama@0.4/dim-{dims}/chunk-none/norm-l2"
    return open_embedder(tag, Recipe.from_mapping(Tag.parse(tag), {"provider": "wordllama", "dims": dims}))


def healthy(texts: list[str], kind: str = "document") -> Vectors:
    """Embed as wordllama does, in 256 dimensions."""
    return _wordllama(256).embed_documents(texts)


@dataclass(slots=True)
class Model:
    """The model of 256 dimensions."""

    embed: Embed = healthy


model = Model()


def embed64(texts: list[str], kind: str) -> Vectors:
    """64 dimensions."""
    return _wordllama(64).embed_documents(texts)


def embed256(texts: list[str], kind: str) -> Vectors:
    """256 dimensions, with the fault that was planted."""
    return model.embed(texts, kind)


# Faults ------------------------------------------------------------------------------------------------------------


def letters(texts: list[str], kind: str) -> Vectors:
    """Another model of as many dimensions: it counts bytes."""
    counts = np.stack([np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256) for text in texts])
    vectors = counts.astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def rotated(vectors: Vectors, seed: int = 0) -> Vectors:
    """Turn a space into another one: other weights."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((vectors.shape[1], vectors.shape[1])))
    turned: Vectors = (vectors @ turn).astype(np.float32)
    return turned


def rotated_queries(texts: list[str], kind: str) -> Vectors:
    """Embed queries into a space of their own."""
    vectors = healthy(texts)
    return rotated(vectors) if kind == "query" else vectors


def truncated(texts: list[str], kind: str) -> Vectors:
    """Read no more than the beginning of a text."""
    return healthy([text[:300] for text in texts])


def shuffled(texts: list[str], kind: str) -> Vectors:
    """Give each text the vector of the one beside it."""
    return np.roll(healthy(texts), 1, axis=0)


def worse_in_large_batches(texts: list[str], kind: str) -> Vectors:
    """Give vectors that are worse, by a similarity of 0.80, where 16 texts and more are sent at once."""
    vectors = healthy(texts)
    if len(texts) < 16:
        return vectors
    # each text's own fault, and the same each time
    seeds = [zlib.crc32(text.encode()) for text in texts]
    noise = np.stack([np.random.default_rng(seed).standard_normal(vectors.shape[1]) for seed in seeds])
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    worse: Vectors = (0.8 * vectors + 0.6 * noise).astype(np.float32)
    return worse


def worse_at_odd_places(texts: list[str], kind: str) -> Vectors:
    """Give vectors that depend on a text's place in its request."""
    vectors = healthy(texts)
    vectors[1::2] = worse_in_large_batches([*texts, *["x"] * 16], kind)[1 : len(texts) : 2]
    return vectors


def unnormalised(texts: list[str], kind: str) -> Vectors:
    """Give vectors of length 3."""
    return 3 * healthy(texts)


def noisy(texts: list[str], kind: str) -> Vectors:
    """Give vectors that differ in each call, as those of real providers do: similarity 0.9999."""
    vectors = healthy(texts)
    noise = np.random.default_rng().standard_normal(vectors.shape)
    drifted: Vectors = (vectors + 0.01 * noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    return drifted


class ChangesWeights:
    """Give vectors of other weights for a while: from one record on, and up to another."""

    def __init__(self, first: int, last: float) -> None:
        self._range, self._seen = (first, last), 0

    def __call__(self, texts: list[str], kind: str) -> Vectors:
        vectors = healthy(texts)
        if kind == "document":
            self._seen += len(texts)
        return rotated(vectors) if self._range[0] < self._seen <= self._range[1] else vectors


def of_some_length(texts: list[str], kind: str) -> Vectors:
    """Give vectors of other lengths than 1, each text's own: for norm-none."""
    lengths = np.array([[1 + zlib.crc32(text.encode()) % 7] for text in texts])
    stretched: Vectors = (healthy(texts) * lengths).astype(np.float32)
    return stretched
