"""What it costs to adopt the vectors that a team has already, copied and in place, for vecmig and for the application.

    python benchmarks/adopt.py [--only copy|place|beside] [--records 30000] [--sizes 100000 1000000] [--json]

copy: the vectors of a source, 1,536 dims, are copied into a tag, with their stamps and every check, by ``vecmig upgrade
--until backfill`` from its start to its end. The limit is one raw COPY BINARY of the same vectors into a table with a
primary key, as backfill.py measures it; each round measures both in turn.

place: stamps are written beside a column of 64 dims, by vecmig as a process of its own. Measured are the growth of the
database, the peak memory of the process (VmHWM, read from /proc) and how long the source is locked: a session of its
own asks every 2 ms for the table lock that a write takes, and another one looks in pg_locks every 20 ms how long it has
waited for vecmig. How long its answers took as it sees it is told as well, beside and without vecmig: on a busy machine
that is more.

beside: an application updates text and vector of one record after the other, any of them, each in a transaction, first
without vecmig and then beside the adoption, in place and copied.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import psycopg
from beside import Application, Watch
from memory import peak_mb

from common import (
    TEXT_LENGTH,
    Project,
    Report,
    directory,
    finish,
    forget,
    free_recipe,
    opened,
    parser,
    rounds,
    tag_of,
    unit_vectors,
    write_project,
)
from pipeline import copy_rows, laid_out, make_copied, measure_copy

COPY: Final = 'm.adopt("embedding", fill=False)'
IN_PLACE: Final = 'm.adopt("embedding", home="column")'
#: Vectors that are different; a record has one of them.
_DRAWN: Final = 1_000
_LOAD: Final = """
INSERT INTO public.documents
SELECT i, left(repeat(md5(i::text), 20), %(length)s), c.embedding
FROM generate_series(1, %(records)s) i JOIN copied c ON c.id = i %% %(drawn)s
ORDER BY i
"""
#: Seconds between two requests for the lock.
_TICK: Final = 0.002

#: The targets: share of COPY, bytes a record, milliseconds, and times.
_OF_COPY: Final = 0.5
_MOST_BYTES: Final = 150
_MOST_MS: Final = 100
_GROWTH: Final = 1.15
_MOST_P99: Final = 3.0


# A source that has vectors -----------------------------------------------------------------------------------------


def load_vectors(report: Report, records: int, dims: int) -> None:
    """Make public.documents(id, body, embedding) as an application has filled it."""
    forget(report.database)
    with psycopg.connect(report.database.url, autocommit=True) as connection:
        make_copied(connection)
        copy_rows(connection, iter([laid_out(np.arange(_DRAWN), unit_vectors(_DRAWN, dims))]))
        connection.execute("DROP TABLE IF EXISTS public.documents CASCADE")
        connection.execute(
            f"CREATE TABLE public.documents (id bigint PRIMARY KEY, body text, embedding vector({dims}))"
        )
        connection.execute(_LOAD, {"length": TEXT_LENGTH, "records": records, "drawn": _DRAWN})
        connection.execute("DROP TABLE copied")
        connection.execute("VACUUM ANALYZE public.documents")
        connection.execute("CHECKPOINT")


@contextmanager
def adopting(report: Report, call: str, dims: int) -> Iterator[Project]:
    """Give a project whose first revision adopts the vectors of public.documents."""
    with directory() as path:
        project = write_project(path, report.database.url, {tag_of("benchmark", dims): free_recipe(dims)})
        (path / "common.py").write_text(_STAND_IN)
        script = path / "migrations" / "versions" / "r1.py"
        script.write_text(script.read_text().replace("m.backfill()", call))
        yield project


#: What the recipe names, for a vecmig in a process of its own: adopting is done when nothing was asked of it.
_STAND_IN: Final = """\
class free_model:
    @staticmethod
    def embed(texts):
        raise RuntimeError("a vector was bought")
"""


def check(report: Report, records: int) -> None:
    """End the benchmark if not every record has a stamp."""
    with report.database.session() as connection:
        row = connection.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone()
    if row != (records,):
        raise SystemExit(f"the adoption is not complete: {row} of {records}")


# Copied ------------------------------------------------------------------------------------------------------------


def measure_adoption(report: Report, call: str, dims: int, records: int) -> float:
    """Adopt all vectors; give the records a second of the command that does it."""
    forget(report.database)
    with adopting(report, call, dims) as project:
        project.upgrade(until="expand")
        began = time.perf_counter()
        project.upgrade(until="backfill")
        seconds = time.perf_counter() - began
    check(report, records)
    return records / seconds


def compare_copy(report: Report) -> None:
    """Compare the copy with COPY of the same vectors."""
    options = report.options
    records, dims = options.records, options.dims
    load_vectors(report, records, dims)
    with psycopg.connect(report.database.url, autocommit=True) as connection:
        raw, adopted = rounds(
            options.rounds,
            partial(measure_copy, connection, records, unit_vectors(_DRAWN, dims), ready=False),
            partial(measure_adoption, report, COPY, dims, records),
        )
        connection.execute("DROP TABLE copied")
    copy = report.figure(f"COPY BINARY of {records:,} vectors, {dims} dims", raw, "rows/s")
    vecmig = report.figure(f"adopted, copied, {records:,} records, {dims} dims", adopted, "rows/s")
    report.ratio(f"adopted, copied / COPY BINARY, {dims} dims", vecmig / copy, at_least=_OF_COPY)


# In place ----------------------------------------------------------------------------------------------------------


@contextmanager
def asking(url: str, waits: list[float]) -> Iterator[None]:
    """Ask all the time for the lock on the source that a write takes; keep the seconds that each answer took."""
    ended = threading.Event()

    def ask() -> None:
        with psycopg.connect(url, application_name="application locks") as connection:
            while not ended.wait(_TICK):
                began = time.perf_counter()
                connection.execute("LOCK TABLE public.documents IN ROW EXCLUSIVE MODE")
                waits.append(time.perf_counter() - began)
                connection.rollback()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class InPlace:
    """What it took to adopt a number of records in place."""

    bytes_each: float
    peak: float
    longest_ms: float


def database_size(report: Report) -> int:
    """Give the bytes that the database takes."""
    with report.database.session() as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def measure_in_place(report: Report, records: int) -> InPlace:
    """Adopt so many records in place, in a process of its own."""
    dims = report.options.small_dims
    load_vectors(report, records, dims)
    idle, asked, watch = [0.0], [0.0], Watch()
    with asking(report.database.url, idle):
        time.sleep(report.options.alone)
    before = database_size(report)
    with (
        adopting(report, IN_PLACE, dims) as project,
        watch.on(report.database.url),
        asking(report.database.url, asked),
    ):
        project.upgrade(until="expand")
        began = time.perf_counter()
        process = project.start("upgrade", "--until", "backfill")
        peak = peak_mb(process)
        seconds = time.perf_counter() - began
        finish(process)
    check(report, records)
    found = InPlace((database_size(report) - before) / records, peak, watch.longest * 1_000)
    what = f"{records:,} records in place, {dims} dims"
    report.figure(f"{what}: rate", records / seconds, "rows/s", "start and checks included")
    report.figure(f"{what}: growth of the database", found.bytes_each, "B each")
    report.figure(f"{what}: peak memory", peak, "MB")
    told = f"{max(asked) * 1_000:.1f} ms for all of it, {max(idle) * 1_000:.1f} ms without vecmig"
    note = f"waiting seen {watch.seen} times in {watch.looks:,} looks; {len(asked):,} answers, the longest took {told}"
    report.figure(f"{what}: longest wait for a lock of vecmig", found.longest_ms, "ms", note)
    return found


def measure_sizes(report: Report) -> None:
    """Adopt each number of records in place, and compare."""
    sizes: Sequence[int] = report.options.sizes
    found = [measure_in_place(report, records) for records in sizes]
    small, large = found[0], found[-1]
    report.ratio(f"growth in bytes a record, {sizes[-1]:,} records in place", large.bytes_each, at_most=_MOST_BYTES)
    longest = max(one.longest_ms for one in found)
    report.ratio("longest lock on the source, in ms", longest, at_most=_MOST_MS)
    what = f"peak memory at {sizes[-1]:,} / at {sizes[0]:,} records in place"
    report.ratio(what, large.peak / small.peak, at_most=_GROWTH)


# The application beside it -----------------------------------------------------------------------------------------


def beside(report: Report, call: str, records: int, dims: int) -> None:
    """Let an application write without vecmig and then beside an adoption, and compare its writes."""
    options, what = report.options, "in place" if call == IN_PLACE else "copied"
    load_vectors(report, records, dims)
    application = Application(report.database.url, records, dims)
    application.start("author", options.pause)
    times = {}
    with adopting(report, call, dims) as project:
        for place, work in _places(project, options.alone):
            began = time.monotonic()
            work()
            times[place] = (began, time.monotonic())
    taken = application.stop("author")
    p99 = {}
    for place, (first, last) in times.items():
        seconds = np.array([took for began, took in taken if began < last and began + took > first]) * 1_000
        note = f"p50 {np.percentile(seconds, 50):.2f}, longest {seconds.max():.1f} of {seconds.size:,} writes"
        name = f"a write {place}, {records:,} records {what}: p99"
        p99[place] = report.figure(name, float(np.percentile(seconds, 99)), "ms", note)
    report.ratio(f"p99 of writes beside the adoption, {what} / alone", p99["beside"] / p99["alone"], at_most=_MOST_P99)
    report.ratio(f"p99 of writes to the adopted source, {what} / alone", p99["after"] / p99["alone"])


def _places(project: Project, alone: float) -> list[tuple[str, Callable[[], Any]]]:
    def adopt() -> None:
        project.upgrade(until="expand")
        finish(project.start("upgrade", "--until", "backfill"))

    return [("alone", partial(time.sleep, alone)), ("beside", adopt), ("after", partial(time.sleep, alone))]


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--only", choices=["copy", "place", "beside"])
    made.add_argument("--records", type=int, default=30_000, help="records that are copied")
    made.add_argument("--dims", type=int, default=1_536, help="dims of the vectors that are copied")
    made.add_argument("--rounds", type=int, default=3, help="times that the copy and COPY are measured")
    made.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000], help="records adopted in place")
    made.add_argument("--small-dims", type=int, default=64, help="dims of the vectors that are adopted in place")
    made.add_argument("--alone", type=float, default=10.0, help="seconds without vecmig")
    made.add_argument("--pause", type=float, default=0.005, help="seconds between two writes of the application")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database:
        report = Report("adopt", options, database)
        if options.only in (None, "copy"):
            compare_copy(report)
        if options.only in (None, "place"):
            measure_sizes(report)
        if options.only in (None, "beside"):
            beside(report, IN_PLACE, options.sizes[-1], options.small_dims)
            beside(report, COPY, options.records, options.dims)
        report.end()


if __name__ == "__main__":
    main()
