"""Open an embedder when it is first asked for something: a run with nothing to embed needs no key and no model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vecmig.embedders.embedder import Embedder
from vecmig.embedders.limiter import Limiter
from vecmig.tags import Recipe


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

    def __getattr__(self, name: str) -> Any:
        with self._turn:
            if self._opened is None:
                self._opened = self._opening()
        return getattr(self._opened, name)

    def close(self) -> None:
        """Let go of what the embedder holds, if it was opened."""
        if self._opened is not None:
            self._opened.close()
