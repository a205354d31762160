"""What the types of an index take, and what they find: build time, memory, size, recall@10 and latency, in one run.

    python benchmarks/index_types.py [--records 100000] [--dims 1536] [--rerank 4 10] [--full] [--json]

The vectors lie in clusters, as those of real texts do. They are written into a tag once; then its index is built as
each type, by vecmig's own home with a memory that holds it, and searched by vecmig's own search. Queries are other
vectors of the same clusters. ``--full`` is 100,000 vectors of 1,536 dims and 1,000,000 of 256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg.types.numeric import Int8

from common import Report, directory, free_recipe, load_source, opened, parser, rounds, tag_of, write_project
from vecmig.freshness.stamps import Stamps
from vecmig.homes import IndexLimits, home_over
from vecmig.homes.vectors import send_vectors, to_send
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.model.collection import Collection
from vecmig.model.index import Index
from vecmig.postgres.sessions import Connection, Database

_FULL: Final = ((100_000, 1_536), (1_000_000, 256))
_QUERIES: Final = 100
#: Vectors of one cluster, and how far from its middle they lie, as a share of the way between two clusters.
_CLUSTER: Final = 100
_SPREAD: Final = 0.5
_BLOCK: Final = 2_000
_ENOUGH: Final = IndexLimits(memory_mb=1_000_000, workers=1)


def clustered(count: int, dims: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Make vectors of length 1 in clusters, in blocks of shape (n, dims)."""
    made = np.random.default_rng(7)
    middles = made.standard_normal((max(1, count // _CLUSTER), dims), dtype=np.float32)
    noise = np.random.default_rng(seed)
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        vectors = middles[noise.integers(len(middles), size=size)]
        vectors = vectors + _SPREAD * noise.standard_normal((size, dims), dtype=np.float32)
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(connection: Connection, stamps: Stamps, records: int) -> None:
    """Write the vectors of all records."""
    send_vectors(connection.adapters)
    with connection.cursor().copy(
        f"COPY {stamps.relation.as_string()} (tag, id, embedding, source_hash) FROM STDIN (FORMAT BINARY)"
    ) as copy:
        number = 0
        for block in clustered(records, stamps.dims, seed=1):
            for vector in block:
                number += 1
                copy.write_row((stamps.tag, Int8(number), to_send(vector, "vector"), UUID(int=0)))
    connection.execute(f"ANALYZE {stamps.relation.as_string()}")


def compare(report: Report, database: Database, records: int, dims: int) -> None:
    """Build and search an index of each type over the same vectors."""
    tag, size = tag_of("clustered", dims), f"{records:,} of {dims:,}"
    with directory() as path:
        write_project(path, database.url, {tag: free_recipe(dims)}).upgrade(until="expand")
    with database.session() as connection:
        collection = Collection("documents", ("public", "documents"), ("id",), "body")
        stamps = Stamps(find_source(Ledger(connection, database.schema), collection), database.schema, tag)
        fill(connection, stamps, records)
        queries = list(next(clustered(records, dims, seed=2))[:_QUERIES])
        exact = [
            {hit.key for hit in hits} for hits in home_over(connection, stamps).search_each(queries, 10, exact=True)
        ]
    built: dict[str, float] = {}
    for kind in ("vector", "halfvec", "bit"):
        index = Index(type=None if kind == "vector" else kind)
        with database.session() as connection:
            home = home_over(connection, stamps.indexed_as(index))
        build = home.build_index(database, vectors=records, limits=_ENOUGH, listener=lambda _: None)
        assert build is not None, "none is there"
        built[kind] = build.seconds
        with database.session() as connection:
            home = home_over(connection, home.stamps)
            report.figure(f"{size}, {kind}: build", build.seconds, "s", f"{build.memory_mb:,} MB of memory")
            report.figure(f"{size}, {kind}: size", home.index().bytes / 2**20, "MB")
            for rerank in report.options.rerank if kind == "bit" else [None]:
                asked = home_over(connection, stamps.indexed_as(Index(type=index.type, rerank=rerank)))
                found = [{hit.key for hit in hits} for hits in asked.search_each(queries, 10)]
                recall = np.mean([len(one & right) / len(right) for one, right in zip(found, exact, strict=True)])
                what = f"{size}, {kind}" + (f", {10 * rerank} ranked again" if rerank else "")
                report.figure(f"{what}: recall@10", float(recall), "")

                def searched(home: Any = asked) -> float:
                    began = time.perf_counter()
                    for query in queries:
                        home.search(query, 10)
                    return 1000 * (time.perf_counter() - began) / len(queries)

                (milliseconds,) = rounds(3, searched)
                report.figure(f"{what}: a search", milliseconds, "ms")
        home.drop_index(database, wait=10, on_wait=lambda *_: None)
    for kind in ("halfvec", "bit"):
        report.ratio(f"{size}, build of {kind} / vector", built[kind] / built["vector"])


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=100_000)
    made.add_argument("--dims", type=int, default=1_536)
    made.add_argument("--rerank", type=int, nargs="+", default=[4, 10])
    made.add_argument("--full", action="store_true", help="100,000 vectors of 1,536 dims and 1,000,000 of 256")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    sizes = _FULL if options.full else ((options.records, options.dims),)
    with opened(options.database_url) as database:
        report = Report("index_types", options, database)
        for records, dims in sizes:
            with database.session() as connection:
                connection.execute("DROP SCHEMA IF EXISTS vecmig CASCADE")
                load_source(connection, records)
            compare(report, database, records, dims)
        report.end()


if __name__ == "__main__":
    main()
