"""Pack what is to be embedded into requests that a provider takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

from vecmig.embedders.limiter import Limiter

T = TypeVar("T")


class Packing(Protocol):
    """What an embedder takes in one request."""

    limiter: Limiter

    @property
    def max_batch(self) -> int:
        """The most texts."""

    @property
    def max_batch_tokens(self) -> int | None:
        """The most tokens; None for no limit."""


def pack(
    items: Iterable[T],
    size: Callable[[T], tuple[int, int]],
    embedder: Packing,
    most: Callable[[], int] | None = None,
) -> Generator[list[T]]:
    """Pack items in their order, up to the embedder's limits; an item above them makes a batch of its own.

    Args:
        items: what is to be embedded.
        size: gives how many texts and how many tokens an item has.
        embedder: takes at most ``max_batch`` texts and ``max_batch_tokens`` tokens in one request; both are asked for
            each batch, because refusals may teach that it takes less.
        most: gives how many texts to take where that is fewer; asked for each batch too.
    """
    batch: list[T] = []
    texts = tokens = 0
    most_texts, most_tokens = _most_texts(embedder, most), token_limit(embedder)
    for item in items:
        more_texts, more_tokens = size(item)
        if batch and (texts + more_texts > most_texts or tokens + more_tokens > most_tokens):
            yield batch
            batch, texts, tokens = [], 0, 0
            most_texts, most_tokens = _most_texts(embedder, most), token_limit(embedder)
        batch.append(item)
        texts += more_texts
        tokens += more_tokens
    if batch:
        yield batch


def _most_texts(embedder: Packing, most: Callable[[], int] | None) -> int:
    return embedder.max_batch if most is None else min(embedder.max_batch, most())


def token_limit(embedder: Packing) -> float:
    """Return the most tokens of one request: the provider's limit, and no more than may be sent in a minute."""
    limits = (embedder.max_batch_tokens, embedder.limiter.tokens_per_minute)
    return min((limit for limit in limits if limit is not None), default=float("inf"))
