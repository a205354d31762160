"""Vectors of fewer dims: the first of those that another embedder gives, made length 1 again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from vecmig.embedders.deferred import Deferred
from vecmig.embedders.embedder import Embedded, Kind, Vectors


class CuttingEmbedder(Deferred):
    """Asks another embedder, and keeps the first dims (Kusupati et al., Matryoshka Representation Learning, 2022)."""

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        owners: Sequence[Hashable] | None = None,
        tokens: int | None = None,
    ) -> Embedded:
        """Embed any number of texts, and name those that the provider cannot embed, and what ended it early."""
        found = super().embed_each(texts, kind, owners=owners, tokens=tokens)
        return replace(found, vectors=cut(found.vectors, self.recipe.dims))

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records' texts, each of which must be embedded; returns (n, dims)."""
        return cut(super().embed_documents(texts), self.recipe.dims)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries, each of which must be embedded; returns (n, dims)."""
        return cut(super().embed_queries(texts), self.recipe.dims)


def cut(vectors: Vectors, dims: int) -> Vectors:
    """Return the first ``dims`` of vectors of shape (n, more), each of length 1; what is zero there stays so."""
    first = vectors[:, :dims]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    made: Vectors = np.divide(first, lengths, out=np.zeros_like(first), where=lengths != 0)
    return made
