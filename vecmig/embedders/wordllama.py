"""Vectors from wordllama: static word vectors in a wheel, so that no key, network or GPU is needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.limiter import Limiter
from vecmig.errors import RecipeError
from vecmig.model.recipe import Recipe

#: The sizes to which the weights in the wheel can be cut.
DIMS: Final = (64, 128, 256)
MODELS: Final = ("wordllama", "l2_supercat")
#: Tokens that are summed at once, so that a text of a megabyte does not take a gigabyte.
_WINDOW: Final = 8192
#: Held while wordllama is imported: a second thread would take what the import does to the logging for what was before.
_IMPORTING: Final = threading.Lock()


class WordllamaEmbedder(BaseEmbedder):
    """Averages the vectors of a text's tokens."""

    default_max_batch = 1024

    def __init__(self, tag: str, recipe: Recipe, *, retry: Retry | None = None, limiter: Limiter | None = None) -> None:
        super().__init__(tag, recipe, retry=retry, limiter=limiter)
        if recipe.model not in MODELS:
            raise RecipeError(f"The provider wordllama has no model {recipe.model!r}; it has wordllama.")
        if recipe.dims not in DIMS:
            raise RecipeError(f"The provider wordllama gives 64, 128 or 256 dimensions, not {recipe.dims}.")
        try:
            with _IMPORTING, _logging_untouched():
                import wordllama
        except ImportError as error:
            raise RecipeError(
                "The provider wordllama is not installed.", hint="Run: pip install 'vecmig[embedded]'"
            ) from error
        home = Path(wordllama.__file__).parent
        model = wordllama.WordLlama.load(cache_dir=home, disable_download=True, trunc_dim=recipe.dims)
        self._table: NDArray[np.float32] = model.embedding
        self._tokenizer = model.tokenizer
        # Padding to the longest text of a batch would let one long text take the memory of all.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def _request(self, texts: list[str], kind: Kind) -> Reply:  # noqa: ARG002  # both alike here
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return Reply(np.array([self._mean(np.array(one.ids, dtype=np.intp)) for one in encoded], dtype=np.float32))

    def _mean(self, ids: NDArray[np.intp]) -> NDArray[np.float32]:
        # The tokenizer knows a few tokens that the weights do not; wordllama too reads them as the last one.
        ids = np.minimum(ids, len(self._table) - 1)
        windows = (self._table[ids[start : start + _WINDOW]].sum(axis=0) for start in range(0, len(ids), _WINDOW))
        total = np.zeros(self._table.shape[1], dtype=np.float32)
        for window in windows:
            total += window
        return total / np.float32(max(len(ids), 1))

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


@contextmanager
def _logging_untouched() -> Iterator[None]:
    """Undo what importing wordllama does to the root logger: it adds a handler and sets the level to INFO."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
