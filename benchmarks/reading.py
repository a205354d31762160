"""What a search through ``vecmig.Reader`` costs beside the same SQL written by hand, and how soon a cutover reaches it.

    python benchmarks/reading.py [--records 20000] [--dims 256 1536] [--searches 400] [--switches 40] [--json]

By hand: psycopg and pgvector's own adapter, a connection from psycopg's pool, the same statement and settings in one
transaction, and the rows as they come. All take turns, search by search. The target is set against the hand that does
just what the reader does: everything in one round trip, prepared. The others show what that saves: with BEGIN and
COMMIT, not prepared, and statement by statement, as most programs do.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from zlib import crc32

import numpy as np
import psycopg_pool
from numpy.typing import NDArray
from pgvector.psycopg import register_vector

from common import Project, Report, directory, forget, load_source, opened, parser, tag_of, unit_vectors, write_project
from vecmig import Reader
from vecmig.freshness.stamps import Stamps
from vecmig.homes.search import Search, new_search
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.model.collection import Collection
from vecmig.postgres.sessions import Database

_TEXTS: Final = tuple(f"question {number}" for number in range(50))
#: The hand that the target is set against: it does the same, no more and no less.
_SAME: Final = "by hand, one round trip, prepared"
Vectors = NDArray[np.float32]


class Model:
    """Gives each text a vector of its own near to one of a few hundred others, as real texts have them."""

    def __init__(self) -> None:
        self._centres = unit_vectors(1, 1)

    def prepare(self, dims: int) -> None:
        """Make the centres."""
        self._centres = unit_vectors(300, dims)

    def embed(self, texts: list[str]) -> Vectors:
        """Give a vector for each text; it hangs on the text's beginning mostly, so that a part of it is near to it."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        begins, whole = crc32(text[:100].encode()), crc32(text.encode())
        dims = self._centres.shape[1]
        noise = unit_vectors(1, dims, seed=begins)[0] + 0.1 * unit_vectors(1, dims, seed=whole)[0]
        vector: Vectors = self._centres[begins % len(self._centres)] + noise
        return vector


#: What the recipes name.
model = Model()


def recipe_of(dims: int) -> dict[str, Any]:
    """Write the recipe of the model."""
    return {"provider": "python", "callable": "reading:model.embed", "dims": dims, "max_batch": 1_000}


@contextmanager
def upgraded(report: Report, records: int, dims: int, *models: str) -> Iterator[Project]:
    """Give a project whose documents have a tag of each model, all complete, the last one live."""
    forget(report.database)
    model.prepare(dims)
    with report.database.session() as connection:
        load_source(connection, records)
    with directory() as path:
        project = write_project(path, report.database.url, {tag_of(name, dims): recipe_of(dims) for name in models})
        project.upgrade()
        yield project


# What it costs ---------------------------------------------------------------------------------------------------


def overhead(report: Report, project: Project, dims: int) -> None:
    """Compare the reader with the hand."""
    tag, k = tag_of("model", dims), report.options.k
    search = statement_of(report.database, tag, k)
    vectors = np.concatenate([model.embed([text]) for text in _TEXTS])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with (
        Reader.from_config(project.path / "vecmig.ini") as reader,
        connections(report.database) as pool,
        connections(report.database, prepare_threshold=0) as preparing,
    ):
        runs: dict[str, Callable[[int], Any]] = {
            _SAME: by_hand(preparing, search, vectors),
            "by hand, one round trip": by_hand(pool, search, vectors),
            "by hand, one round trip, BEGIN and COMMIT": by_hand(pool, search, vectors, begin=True),
            "by hand, statement by statement": by_hand(pool, search, vectors, one_trip=False, begin=True),
            "Reader.search_vector": lambda at: reader.search_vector("documents", vectors[at], tag=tag, k=k),
            "Reader.search, query known": lambda at: reader.search("documents", _TEXTS[at], k),
        }
        in_turn(2 * len(_TEXTS), runs)
        taken = in_turn(report.options.searches, runs)
    found = {name: report.figure(f"{dims} dims: {name}", statistics.median(taken[name]), "ms") for name in runs}
    for name in (name for name in runs if name.startswith("Reader")):
        report.ratio(f"{dims} dims: {name} / {_SAME}", found[name] / found[_SAME], at_most=1.05)
        for other in (other for other in runs if other.startswith("by hand") and other != _SAME):
            report.ratio(f"{dims} dims: {name} / {other}", found[name] / found[other])


@contextmanager
def connections(database: Database, prepare_threshold: int | None = None) -> Iterator[Any]:
    """Give a pool as a program makes one."""
    options = {"autocommit": True, "prepare_threshold": prepare_threshold}
    with psycopg_pool.ConnectionPool(
        database.conninfo, min_size=1, kwargs=options, configure=register_vector, open=True
    ) as pool:
        yield pool


def by_hand(
    pool: Any, search: Search, vectors: Vectors, *, one_trip: bool = True, begin: bool = False
) -> Callable[[int], Any]:
    """Give the search as a program has it that does not know of vecmig."""

    def run(at: int) -> Any:
        with pool.connection() as connection:
            with connection.pipeline() if one_trip else nullcontext(), transaction(connection, begin=begin):
                connection.execute(search.settings)
                cursor = connection.execute(search.query, {"query": vectors[at]})
            return cursor.fetchall()

    return run


def transaction(connection: Any, *, begin: bool) -> Any:
    """Give a transaction; what is sent in one round trip is one without being told."""
    return connection.transaction() if begin else nullcontext()


def statement_of(database: Database, tag: str, k: int) -> Search:
    """Give the statement and the settings that the reader has."""
    with database.session() as connection:
        collection = Collection("documents", ("public", "documents"), ("id",), "body")
        return new_search(Stamps(find_source(Ledger(connection, database.schema), collection), database.schema, tag), k)


def in_turn(count: int, runs: Mapping[str, Callable[[int], Any]]) -> dict[str, list[float]]:
    """Run each with each question; give the milliseconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(count):
        # who comes first finds the pages of a question cold
        names = random.sample(list(runs), len(runs))
        for name in names:
            began = time.perf_counter()
            runs[name](number % len(_TEXTS))
            taken[name].append((time.perf_counter() - began) * 1_000)
    return taken


# How soon a switch arrives -----------------------------------------------------------------------------------------


def switching(report: Report, project: Project, tags: Sequence[str]) -> None:
    """Move the route to and fro under a reader that asks all the time; see when it follows."""
    lags, stale = [], []
    with Reader.from_config(project.path / "vecmig.ini") as reader:
        reader.search("documents", "question", 1)
        time.sleep(0.2)  # until it listens
        for number in range(report.options.switches):
            before, after = tags[(number + 1) % 2], tags[number % 2]
            asked: list[tuple[float, str]] = []
            thread = threading.Thread(target=_ask_until, args=[reader, after, asked])
            thread.start()
            time.sleep(0.02)
            committed = move(report.database, before, after)
            thread.join()
            late = [began for began, tag in asked if began > committed and tag == before]
            lags.append(max(asked[-1][0] - committed, 0) * 1_000)
            stale.append(len(late))
    report.figure("a switch reaches a reader after its commit, median", statistics.median(lags), "ms")
    report.figure("a switch reaches a reader after its commit, longest", max(lags), "ms", f"{len(lags)} switches")
    report.figure("searches begun after a commit and answered by the old tag, most", max(stale), "")


def _ask_until(reader: Reader, tag: str, asked: list[tuple[float, str]]) -> None:
    while not asked or asked[-1][1] != tag:
        began = time.perf_counter()
        (hit,) = reader.search("documents", "question", 1)
        asked.append((began, hit.tag))


def move(database: Database, before: str, after: str) -> float:
    """Move the route as a cutover does; give when it was committed."""
    with database.session() as connection:
        with connection.transaction():
            Ledger(connection, database.schema).routes.move("documents", before=before, live=after, standby=before)
        return time.perf_counter()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=20_000)
    made.add_argument("--dims", type=int, nargs="+", default=[256, 1536])
    made.add_argument("--searches", type=int, default=400, help="of each kind")
    made.add_argument("--switches", type=int, default=40)
    made.add_argument("-k", type=int, default=10, help="answers of a search")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database:
        report = Report("reading", options, database)
        for dims in options.dims:
            with upgraded(report, options.records, dims, "model") as project:
                overhead(report, project, dims)
        with upgraded(report, min(options.records, 1_000), options.dims[0], "old", "new") as project:
            switching(report, project, [tag_of(name, options.dims[0]) for name in ("old", "new")])
        report.end()


if __name__ == "__main__":
    # under the name by which the recipes know the model
    from reading import main as run

    run()
