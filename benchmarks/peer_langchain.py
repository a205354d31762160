"""Fill langchain-postgres with ready vectors, by the Python of its own environment; print the rows a second.

peer_langchain.py PGVector|PGVectorStore URL RECORDS DIMS
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVector, PGVectorStore

_BATCH = 1_000


class _Ready(Embeddings):  # type: ignore[misc]
    """Is asked for nothing: the vectors are given."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


def main() -> None:
    """Make the store, fill it, print the rate."""
    way, url, records, dims = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    store = _vector(url) if way == "PGVector" else _vector_store(url, dims)
    vectors = [[random.gauss(0, 1) for _ in range(dims)] for _ in range(min(records, _BATCH))]
    text = "some words of a record " * 26
    _add(store, [text], vectors[:1])  # connects, and learns about the table
    began = time.perf_counter()
    for first in range(0, records, _BATCH):
        size = min(_BATCH, records - first)
        _add(store, [text] * size, vectors[:size])
    print(records / (time.perf_counter() - began))


def _add(store: Any, texts: list[str], vectors: list[list[float]]) -> None:
    ids = [str(uuid.uuid4()) for _ in texts]
    store.add_embeddings(texts, vectors, metadatas=[{} for _ in texts], ids=ids)


def _vector(url: str) -> Any:
    return PGVector(embeddings=_Ready(), connection=url, collection_name="benchmark", use_jsonb=True)


def _vector_store(url: str, dims: int) -> Any:
    engine = PGEngine.from_connection_string(url=url)
    engine.init_vectorstore_table("langchain_store", dims)
    return PGVectorStore.create_sync(engine, embedding_service=_Ready(), table_name="langchain_store")


if __name__ == "__main__":
    main()
