"""How fast the backfill is, as a share of what the database itself can do: raw COPY BINARY of the same vectors.

    python benchmarks/backfill.py [--records 20000] [--dims 1536 384] [--rounds 3] [--json]

Everything runs in one process against one embedded PostgreSQL with its default settings. The provider costs nothing (it
cuts vectors out of an array), so what is measured is reading, checking and writing. Each round measures both, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from vecmig.backfill import backfill
from vecmig.config import Collection
from vecmig.embedders import BaseEmbedder, Kind
from vecmig.store import layout, schema
from vecmig.store.catalog import inspect_source
from vecmig.store.changes import install_tracking
from vecmig.store.connect import Database
from vecmig.store.ledger import Ledger
from vecmig.store.vectors import Space
from vecmig.tags import Recipe, Tag

TEXT_LENGTH = 600


class FreeEmbedder(BaseEmbedder):
    """Gives vectors that were made beforehand."""

    default_max_batch = 1_000

    def __init__(self, tag: str, recipe: Recipe) -> None:
        super().__init__(tag, recipe)
        self._vectors = unit_vectors(self.max_batch, recipe.dims)

    def _request(self, texts: list[str], kind: Kind) -> NDArray[np.float32]:
        return self._vectors[: len(texts)]


def unit_vectors(count: int, dims: int) -> NDArray[np.float32]:
    """Make ``count`` random vectors of length 1."""
    vectors = np.random.default_rng(7).standard_normal((count, dims), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def load_source(connection: psycopg.Connection, records: int) -> None:
    """Fill public.documents with records of TEXT_LENGTH characters."""
    connection.execute("DROP TABLE IF EXISTS documents CASCADE")
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    connection.execute(
        "INSERT INTO documents SELECT i, left(repeat(md5(i::text), 20), %s) FROM generate_series(1, %s) i",
        [TEXT_LENGTH, records],
    )
    connection.execute("VACUUM ANALYZE documents")


def measure_copy(connection: psycopg.Connection, records: int, dims: int) -> float:
    """Give the rows a second of a raw binary COPY of ready vectors into a table with a primary key."""
    connection.execute("DROP TABLE IF EXISTS copied")
    connection.execute("CREATE TABLE copied (id bigint PRIMARY KEY, embedding vector NOT NULL)")
    vectors = unit_vectors(1_000, dims)
    head = struct.pack(">ihh", 4 + 4 * dims, dims, 0)
    rows = [head + vector.astype(">f4").tobytes() for vector in vectors]
    began = time.perf_counter()
    with connection.cursor().copy("COPY copied FROM STDIN WITH (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for first in range(0, records, 1_000):
            size = min(1_000, records - first)
            copy.write(b"".join(struct.pack(">hiq", 2, 8, first + i) + rows[i] for i in range(size)))
        copy.write(struct.pack(">h", -1))
    return records / (time.perf_counter() - began)


def measure_backfill(database: Database, records: int, dims: int) -> float:
    """Give the rows a second of a whole backfill of a new tag, its checks before and after included."""
    tag = f"free@1/dim-{dims}/chunk-none/norm-l2"
    recipe = Recipe.from_mapping(Tag.parse(tag), {"provider": "wordllama", "dims": dims})
    with database.transaction() as connection:
        source = inspect_source(connection, Collection("documents", ("public", "documents"), ("id",), "body"))
        space = Space(source, database.schema, tag)
        Ledger(connection, database.schema).record_collection(source)
        layout.create_vectors_table(connection, source)
        layout.create_partition(connection, space)
        install_tracking(connection, source, database.schema)
    began = time.perf_counter()
    result = backfill(database, space, FreeEmbedder(tag, recipe))
    seconds = time.perf_counter() - began
    if result.coverage.fresh != records:
        sys.exit(f"the backfill is not complete: {result.coverage}")
    with database.transaction() as connection:
        layout.drop_partition(connection, space)
    return records / seconds


def rounds(count: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Run the measures in turn, ``count`` times."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(count):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure())
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[1_536, 384])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        database = Database(f"embedded:{Path(directory) / 'pgdata'}")
        schema.ensure(database)
        results = []
        with database.session() as connection:
            load_source(connection, options.records)
            for dims in options.dims:
                copied, filled = rounds(
                    options.rounds,
                    partial(measure_copy, connection, options.records, dims),
                    partial(measure_backfill, database, options.records, dims),
                )
                copy, vecmig = statistics.median(copied), statistics.median(filled)
                results.append({"dims": dims, "copy": copied, "backfill": filled, "ratio": vecmig / copy})
                if not options.json:
                    print(
                        f"{dims:>5} dims  COPY {copy:>9,.0f} rows/s  backfill {vecmig:>9,.0f} rows/s  "
                        f"ratio {vecmig / copy:.2f}"
                    )
    if options.json:
        print(json.dumps({"records": options.records, "results": results}, indent=2))


if __name__ == "__main__":
    main()
