"""What an embedder is to those who use it, and what it gives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders.limiter import Abandoned, Limiter
from vecmig.embedders.limits import Learned
from vecmig.errors import EmbedderError
from vecmig.model.recipe import Recipe

Kind = Literal["document", "query"]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered."""

    #: Of shape (n, dims), as it came; whatever it is in the rows that ``refused`` names.
    vectors: NDArray[Any]
    #: Tokens that the provider charges for; None where it does not say.
    tokens: int | None = None
    #: The answer's headers, which may tell how much of a rate limit is left.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Texts that the answer has no vector for, by row, and what it has instead.
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of texts."""

    #: Of shape (n, dims), in the order of the texts; NaN in the rows that ``refused`` names.
    vectors: Vectors
    #: Texts that the provider cannot embed, by row, and why, in the provider's words.
    refused: Mapping[int, str] = field(default_factory=dict)
    #: What ended it before all were embedded, and the rows that it left; what is there is paid for.
    failure: EmbedderError | Abandoned | None = None
    left: frozenset[int] = frozenset()


class Embedder(Protocol):
    """Turns texts into the vectors of one tag."""

    recipe: Recipe
    #: Lets the requests through.
    limiter: Limiter

    @property
    def learned(self) -> Learned:
        """What the provider's refusals have taught."""

    @property
    def max_input_tokens(self) -> int | None:
        """The most tokens in one text, its prompt included; None where it is not known."""

    @property
    def max_batch(self) -> int:
        """The most texts in one request."""

    @property
    def max_batch_tokens(self) -> int | None:
        """The most tokens in one request; None for no limit."""

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        owners: Sequence[Hashable] | None = None,
        tokens: int | None = None,
    ) -> Embedded:
        """Embed any number of texts, and name those that the provider cannot embed, and what ended it early."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records' texts, each of which must be embedded; returns (n, dims)."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries, each of which must be embedded; returns (n, dims)."""

    def count_tokens(self, text: str) -> int:
        """Count, or where the tokenizer is not local estimate, the tokens of a text."""

    def close(self) -> None:
        """Let go of connections and models."""
