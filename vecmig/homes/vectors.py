"""Vectors as they cross the driver: pgvector's types in binary, from numpy and to numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pgvector.psycopg.halfvec import HalfVector, HalfVectorBinaryDumper  # type: ignore[attr-defined]  # in its __all__
from pgvector.psycopg.vector import (  # type: ignore[attr-defined]  # pgvector before 0.4 has no other place for both
    Vector,
    VectorBinaryDumper,
    VectorBinaryLoader,
)
from psycopg.adapt import AdaptersMap

from vecmig.model.collection import Storage


def send_vectors(adapters: AdaptersMap) -> None:
    """Let a connection send vectors.

    Their type is left for the statement to say: each database has a number of its own for it, and a session's
    search_path need not lead to it.
    """
    adapters.register_dumper(Vector, VectorBinaryDumper)
    adapters.register_dumper(HalfVector, HalfVectorBinaryDumper)


def load_vectors(adapters: AdaptersMap, oid: int) -> None:
    """Let a connection load vectors, whose type has this number in its database."""
    adapters.register_loader(oid, VectorBinaryLoader)


def to_send(vector: NDArray[np.float32], storage: Storage) -> Vector | HalfVector:
    """Return a vector of shape (dims,) as the driver sends it."""
    return HalfVector(vector) if storage == "halfvec" else Vector(vector)


def loaded(vector: Vector | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector that the driver has loaded, of shape (dims,); pgvector before 0.4 loads arrays."""
    return vector.to_numpy() if isinstance(vector, Vector) else vector
