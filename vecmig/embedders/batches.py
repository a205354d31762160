"""Pack what is to be embedded into calls that a provider takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

import numpy as np

from vecmig.embedders.base import Embedder, Vectors, estimated_tokens, with_prompt

T = TypeVar("T")


def pack(items: Iterable[T], size: Callable[[T], tuple[int, int]], embedder: Embedder) -> Generator[list[T]]:
    """Pack items in their order, up to the embedder's limits; an item above them makes a batch of its own.

    Args:
        items: what is to be embedded.
        size: gives how many texts and how many tokens an item has.
        embedder: takes at most ``max_batch`` texts and ``max_batch_tokens`` tokens in one call.
    """
    batch: list[T] = []
    texts = tokens = 0
    for item in items:
        more_texts, more_tokens = size(item)
        too_many = texts + more_texts > embedder.max_batch
        too_long = embedder.max_batch_tokens is not None and tokens + more_tokens > embedder.max_batch_tokens
        if batch and (too_many or too_long):
            yield batch
            batch, texts, tokens = [], 0, 0
        batch.append(item)
        texts += more_texts
        tokens += more_tokens
    if batch:
        yield batch


def document_tokens(embedder: Embedder, text: str) -> int:
    """Estimate the tokens that a record's text takes of a call, prompt included."""
    return estimated_tokens(with_prompt(embedder.recipe.document_prompt, text))


def embed_all(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed any number of records' texts, at least one, in as many calls as it takes; gives (n, dims)."""
    parts = pack(texts, lambda text: (1, document_tokens(embedder, text)), embedder)
    return np.concatenate([embedder.embed_documents(part) for part in parts])
