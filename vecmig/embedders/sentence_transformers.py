"""Vectors from a sentence-transformers model on this machine; imported only when a recipe names the provider."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.limiter import Limiter
from vecmig.errors import RecipeError, TerminalEmbedderError
from vecmig.model.recipe import Recipe


class SentenceTransformersEmbedder(BaseEmbedder):
    """Runs the model; the recipe's prompts are applied here, not by the model's own configuration."""

    def __init__(self, tag: str, recipe: Recipe, *, retry: Retry | None = None, limiter: Limiter | None = None) -> None:
        super().__init__(tag, recipe, retry=retry, limiter=limiter)
        self._model = _load(recipe.model)
        # A fast tokenizer raises "Already borrowed" when two threads use it with different settings.
        self._lock = Lock()
        self.max_input_tokens = getattr(self._model, "max_seq_length", None)

    def _request(self, texts: list[str], kind: Kind) -> Reply:  # noqa: ARG002  # the prompts tell them apart
        try:
            # prompt="" keeps the model from adding one of its own.
            with self._lock:
                answer = self._model.encode(texts, prompt="", convert_to_numpy=True, show_progress_bar=False)
        except Exception as error:
            raise TerminalEmbedderError(
                f"The model {self.recipe.model} raised {type(error).__name__}: {error}."
            ) from error
        return Reply(np.asarray(answer))

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, those that the model adds around it included."""
        with self._lock:
            return len(self._model.tokenizer(text, truncation=False)["input_ids"])


def _load(model: str) -> Any:
    try:
        import sentence_transformers
    except ImportError as error:
        raise RecipeError(
            "The provider sentence-transformers is not installed.",
            hint="Run: pip install 'vecmig[sentence-transformers]'",
        ) from error
    try:
        return sentence_transformers.SentenceTransformer(model)
    except Exception as error:
        raise RecipeError(
            f"The sentence-transformers model {model} cannot be loaded: {type(error).__name__}: {error}."
        ) from error
