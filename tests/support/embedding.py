"""A fast, deterministic model for tests of the library, which can be told what to do and remembers what it was asked.

Recipes name ``support.embedding:embed64`` and so on; a test takes a fresh ``model`` and hangs its own behaviour on it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vecmig.gate import CANARY_TEXTS


@dataclass(slots=True)
class Model:
    """What the model does beside embedding, and what it was asked."""

    #: Texts of records that were embedded to be written, by (dims, text): neither the canary nor the gate's sample.
    embedded: Counter[tuple[int, str]] = field(default_factory=Counter)
    #: Runs before each batch of records, in the thread that embeds; may raise.
    before: Callable[[list[str]], None] = lambda texts: None
    #: Changes the vectors of a batch, of shape (n, dims).
    after: Callable[[list[str], NDArray[np.float32]], NDArray[np.float32]] = lambda texts, vectors: vectors
    #: Other weights under the same name.
    weights: str = ""
    #: Changes every vector, the canary's and the questions' too, as other hardware or slightly other weights do.
    drift: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda vectors: vectors
    lock: threading.Lock = field(default_factory=threading.Lock)

    def total(self, dims: int | None = None) -> int:
        """Count the texts embedded."""
        return sum(count for (size, _), count in self.embedded.items() if dims in (None, size))


model = Model()


@contextmanager
def fresh_model() -> Iterator[Model]:
    """Put a model as new in place of the one that embeds, for as long as the block runs."""
    global model  # noqa: PLW0603  # recipes name functions of this module, which have nothing else to go by
    before = model
    model = Model()
    try:
        yield model
    finally:
        model = before


def vector(text: str, dims: int) -> NDArray[np.float32]:
    """Give the unit vector that the model makes of a text; any two texts are nearly orthogonal."""
    seed = int.from_bytes(hashlib.md5(f"{model.weights}{text}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
    drawn = np.random.default_rng(seed).standard_normal(dims)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def _embed(texts: Sequence[str], kind: str, dims: int) -> NDArray[np.float32]:
    asked = [text for text in texts if text not in CANARY_TEXTS]
    if asked and kind == "document":
        model.before(asked)
        # the gate embeds a few records again to compare them, in another thread than those that are to be written
        if threading.current_thread().name == "vecmig-embed":
            with model.lock:
                model.embedded.update((dims, text) for text in asked)
    vectors = model.drift(np.stack([vector(text, dims) for text in texts]))
    return model.after(list(texts), vectors) if asked else vectors


def embed4(texts: list[str], kind: str) -> NDArray[np.float32]:
    """4 dimensions."""
    return _embed(texts, kind, 4)


def embed64(texts: list[str], kind: str) -> NDArray[np.float32]:
    """64 dimensions."""
    return _embed(texts, kind, 64)


def embed256(texts: list[str], kind: str) -> NDArray[np.float32]:
    """256 dimensions."""
    return _embed(texts, kind, 256)
