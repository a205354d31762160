"""Pack what is to be embedded into calls that a provider takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

import numpy as np

from vecmig.embedders.base import Embedder, Vectors, estimated_tokens, with_prompt

T = TypeVar("T")


def pack(
    items: Iterable[T],
    size: Callable[[T], tuple[int, int]],
    embedder: Embedder,
    most: Callable[[], int] | None = None,
) -> Generator[list[T]]:
    """Pack items in their order, up to the embedder's limits; an item above them makes a batch of its own.

    Args:
        items: what is to be embedded.
        size: gives how many texts and how many tokens an item has.
        embedder: takes at most ``max_batch`` texts and ``max_batch_tokens`` tokens in one call.
        most: gives how many texts to take where that is fewer; asked for each batch, because it may change.
    """
    batch: list[T] = []
    texts = tokens = 0
    most_texts, most_tokens = _most_texts(embedder, most), token_limit(embedder)
    for item in items:
        more_texts, more_tokens = size(item)
        if batch and (texts + more_texts > most_texts or tokens + more_tokens > most_tokens):
            yield batch
            batch, texts, tokens = [], 0, 0
            most_texts = _most_texts(embedder, most)
        batch.append(item)
        texts += more_texts
        tokens += more_tokens
    if batch:
        yield batch


def _most_texts(embedder: Embedder, most: Callable[[], int] | None) -> int:
    return embedder.max_batch if most is None else min(embedder.max_batch, most())


def token_limit(embedder: Embedder) -> float:
    """Give the most tokens of one call: the provider's limit, and no more than may be sent in a minute."""
    limits = (embedder.max_batch_tokens, embedder.limiter.tokens_per_minute)
    return min((limit for limit in limits if limit is not None), default=float("inf"))


def document_tokens(embedder: Embedder, text: str) -> int:
    """Estimate the tokens that a record's text takes of a call, prompt included."""
    return estimated_tokens(with_prompt(embedder.recipe.document_prompt, text))


def embed_all(embedder: Embedder, texts: Sequence[str], tokens: int | None = None) -> Vectors:
    """Embed any number of records' texts, at least one, in as many calls as it takes; gives (n, dims).

    Args:
        embedder: what embeds them.
        texts: the texts.
        tokens: their estimated tokens, prompts included, where somebody has counted them.
    """
    if tokens is not None and len(texts) <= embedder.max_batch and tokens <= token_limit(embedder):
        return embedder.embed_documents(texts)
    parts = pack(texts, lambda text: (1, document_tokens(embedder, text)), embedder)
    return np.concatenate([embedder.embed_documents(part) for part in parts])


def embed_questions(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed any number of questions, at least one, in as many calls as it takes; gives (n, dims)."""
    prompt = embedder.recipe.query_prompt
    parts = pack(texts, lambda text: (1, estimated_tokens(with_prompt(prompt, text))), embedder)
    return np.concatenate([embedder.embed_queries(part) for part in parts])
