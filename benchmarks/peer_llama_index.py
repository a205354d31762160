"""Fill LlamaIndex's PGVectorStore with ready vectors, by the Python of its own environment; print the rows a second.

peer_llama_index.py add URL RECORDS DIMS
"""

from __future__ import annotations

import random
import sys
import time

from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore

_BATCH = 1_000


def main() -> None:
    """Make the store, fill it, print the rate."""
    url, records, dims = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store = PGVectorStore.from_params(
        connection_string=url.replace("postgresql://", "postgresql+psycopg2://", 1),
        async_connection_string=url.replace("postgresql://", "postgresql+asyncpg://", 1),
        table_name="llama_index",
        embed_dim=dims,
    )
    vectors = [[random.gauss(0, 1) for _ in range(dims)] for _ in range(min(records, _BATCH))]
    text = "some words of a record " * 26
    nodes = [TextNode(text=text, embedding=vectors[number % len(vectors)]) for number in range(records)]
    store.add([TextNode(text=text, embedding=vectors[0])])  # connects, and makes the table
    began = time.perf_counter()
    for first in range(0, records, _BATCH):
        store.add(nodes[first : first + _BATCH])
    print(records / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
