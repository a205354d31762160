"""Open an embedder when it is first asked for something: a run with nothing to embed needs no key and no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence

from vecmig.embedders.embedder import Embedded, Embedder, Kind, Vectors
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.limits import Learned
from vecmig.model.recipe import Recipe


class Deferred:
    """Stands for an embedder: its recipe and its limiter are at hand, and whatever else is asked for opens it."""

    def __init__(self, recipe: Recipe, limiter: Limiter, opening: Callable[[], Embedder]) -> None:
        """Open nothing yet.

        Args:
            recipe: the embedder's.
            limiter: the embedder's.
            opening: opens it; called once, by whichever thread comes first.
        """
        self.recipe = recipe
        self.limiter = limiter
        self._opening = opening
        self._turn = threading.Lock()
        self._opened: Embedder | None = None

    def _open(self) -> Embedder:
        with self._turn:
            if self._opened is None:
                self._opened = self._opening()
            return self._opened

    @property
    def learned(self) -> Learned:
        """What the provider's refusals have taught."""
        return self._open().learned

    @property
    def max_batch(self) -> int:
        """The most texts in one request."""
        return self._open().max_batch

    @property
    def max_batch_tokens(self) -> int | None:
        """The most tokens in one request; None for no limit."""
        return self._open().max_batch_tokens

    @property
    def max_input_tokens(self) -> int | None:
        """Most tokens in one text, its prompt included; None where it is not known."""
        return self._open().max_input_tokens

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        owners: Sequence[Hashable] | None = None,
        tokens: int | None = None,
    ) -> Embedded:
        """Embed any number of texts, and name those that the provider cannot embed, and what ended it early."""
        return self._open().embed_each(texts, kind, owners=owners, tokens=tokens)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records' texts, each of which must be embedded; returns (n, dims)."""
        return self._open().embed_documents(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries, each of which must be embedded; returns (n, dims)."""
        return self._open().embed_queries(texts)

    def count_tokens(self, text: str) -> int:
        """Count, or where the tokenizer is not local estimate, the tokens of a text."""
        return self._open().count_tokens(text)

    def close(self) -> None:
        """Let go of what the embedder holds, if it was opened."""
        if self._opened is not None:
            self._opened.close()
