"""The embedders of a reader: each opened when its tag is first asked, by a trusted recipe."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders import Embedder, open_embedder
from vecmig.ledger.rows import TagRow
from vecmig.ledger.trusted_recipes import refuse_unvouched
from vecmig.model.recipe import Recipe


@dataclass(slots=True)
class _Slot:
    """One tag's embedder. Loading a model may take long: who asks for another tag does not wait for it."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    embedder: Embedder | None = None


class Embedders:
    """Embeds queries. Any thread may use it."""

    def __init__(self, recipes: Mapping[str, Recipe], environ: Mapping[str, str]) -> None:
        self._recipes = recipes
        self._environ = environ
        self._slots: dict[tuple[str, Recipe], _Slot] = {}
        self._turn = threading.Lock()

    def embed(self, row: TagRow, text: str) -> NDArray[np.float32]:
        """Embed a query by the recipe of a tag; return a vector of shape (dims,).

        Raises:
            RecipeError: only the database has the recipe, and it is not trusted.
            EmbedderError: the provider does not answer.
        """
        vector: NDArray[np.float32] = self._opened(row).embed_queries([text])[0]
        return vector

    def close(self) -> None:
        """Let go of all of them."""
        with self._turn:
            slots, self._slots = self._slots, {}
        for slot in slots.values():
            if slot.embedder is not None:
                slot.embedder.close()

    def _opened(self, row: TagRow) -> Embedder:
        recipe = self._recipe(row)
        with self._turn:
            slot = self._slots.setdefault((row.tag, recipe), _Slot())
        with slot.turn:
            if slot.embedder is None:
                slot.embedder = open_embedder(row.tag, recipe, environ=self._environ)
            return slot.embedder

    def _recipe(self, row: TagRow) -> Recipe:
        configured = self._recipes.get(row.tag)
        if configured is not None and configured.fingerprint == row.fingerprint:
            return configured
        hint = (
            f"If it is yours, write the recipe of {row.tag} into collections.yaml and use Reader.from_config, or pass "
            "recipes= to say so."
        )
        refuse_unvouched(row.tag, row.recipe, self._environ, records=False, hint=hint)
        return row.recipe
