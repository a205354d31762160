"""The vectors of the latest queries: a query that is asked again is not embedded again."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from vecmig.ledger.rows import TagRow

Vector = NDArray[np.float32]


class QueryCache:
    """The vectors of the latest queries, by tag and recipe: none is ever used with another model's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[tuple[str, str, str], Vector] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, row: TagRow, text: str) -> Vector | None:
        """Return the vector of a query that was asked lately."""
        key = (row.tag, row.fingerprint, text)
        with self._turn:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def keep(self, row: TagRow, text: str, vector: Vector) -> None:
        """Keep a vector, and let the oldest go."""
        with self._turn:
            self._vectors[row.tag, row.fingerprint, text] = vector
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
