"""What it costs to buy each text once, where texts repeat and where none does.

    python benchmarks/pay_once.py [--only texts|derive|carry] [--records 30000] [--sizes 30000 150000] [--dims 384 1536]
                                  [--rounds 3] [--json]

A corpus in which no text repeats is backfilled by a provider that costs nothing, with texts shared as always and as if
each record were alone. Then one in which ten records have each text: the inputs that were sent are counted.

``vecmig vectors export`` and ``import`` of a tag whose texts all differ are measured from their start to their end: the
check of the file, the look at what the records here lack, and the count of what is fresh after. The limit is a raw COPY
BINARY of the same vectors, out of the server into a file, and into a table with a primary key. Then both are processes
of their own over two sizes, whose peak memory is read from /proc.

derive: a tag of 768 dims takes the first of another one's 1,536, by ``vecmig upgrade --until backfill`` from its start
to its end. The limit is one raw COPY BINARY of as many vectors of 768 dims into a table with a primary key.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from carry import compare_copy, compare_memory

from common import (
    Report,
    directory,
    forget,
    free_model,
    free_recipe,
    load_source,
    measure_backfill,
    opened,
    parser,
    rounds,
    tag_of,
    unit_vectors,
    write_project,
)
from pipeline import make_copied, measure_copy
from vecmig.backfill import LocalEngine
from vecmig.backfill.batches import whole_source

#: The targets: the share of the rate that is left, and the inputs for each text.
_OF_UNSHARED: Final = 0.97
_INPUTS: Final = 1.0
_OF_COPY: Final = 0.4
#: Dims of a tag, and those that are cut from it.
_BASE: Final = 1_536
_CUT: Final = 768
#: Records that have the same text.
_SAME: Final = 10


@contextmanager
def each_alone() -> Iterator[None]:
    """Let each record be bought by itself."""
    shared = LocalEngine.whole_pass

    def whole_pass(engine: LocalEngine, limit: int | None = None) -> None:
        engine.one_pass(whole_source(engine.counters.stamps), limit, whole=False)

    LocalEngine.whole_pass = whole_pass  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        LocalEngine.whole_pass = shared  # type: ignore[method-assign]


def compare_distinct(report: Report, dims: int) -> None:
    """Compare the two where no text repeats."""
    options, tag = report.options, tag_of("free", dims)
    measure = partial(measure_backfill, report.database, options.records, tag, free_recipe(dims))

    def alone() -> float:
        with each_alone():
            return measure()

    shared, unshared = rounds(options.rounds, measure, alone)
    rate = report.figure(f"no text repeats, {dims} dims, each bought once", shared, "rows/s")
    other = report.figure(f"no text repeats, {dims} dims, each record alone", unshared, "rows/s")
    report.ratio(f"bought once / alone, {dims} dims", rate / other, at_least=_OF_UNSHARED)


def count_inputs(report: Report, connection: psycopg.Connection[Any], dims: int) -> None:
    """Count what is sent where ten records have each text."""
    records = report.options.records
    connection.execute("UPDATE documents SET body = md5(mod(id, %s)::text)", [records // _SAME])
    connection.execute("VACUUM ANALYZE documents")
    free_model.sent = 0
    rate = measure_backfill(report.database, records, tag_of("free", dims), free_recipe(dims))
    report.figure(f"{_SAME} records with each text, {dims} dims", rate, "rows/s")
    inputs = report.figure("inputs sent", free_model.sent, "inputs")
    report.ratio("inputs sent / texts", inputs / (records // _SAME), at_most=_INPUTS)


def measure_derived(report: Report) -> float:
    """Derive a tag; give the records a second."""
    forget(report.database)
    base, cut = tag_of("free", _BASE), tag_of("free", _CUT)
    recipes = {base: free_recipe(_BASE), cut: {"derive": {"from": base, "dims": _CUT}}}
    with directory() as path:
        project = write_project(path, report.database.url, recipes)
        project.upgrade("r1")
        project.upgrade("r2", until="expand")
        free_model.sent = 0
        began = time.perf_counter()
        project.upgrade("r2", until="backfill")
        seconds = time.perf_counter() - began
    if free_model.sent:
        raise SystemExit(f"{free_model.sent} texts were embedded")
    with report.database.session() as connection:
        row = connection.execute("SELECT count(*) FROM vecmig.documents_vectors WHERE tag = %s", [cut]).fetchone()
    if row != (report.options.records,):
        raise SystemExit(f"not all records were derived: {row}")
    return float(report.options.records / seconds)


def compare_derived(report: Report, connection: psycopg.Connection[Any]) -> None:
    """Compare deriving with COPY of the same vectors."""
    options = report.options
    make_copied(connection)
    raw, derived = rounds(
        options.rounds,
        partial(measure_copy, connection, options.records, unit_vectors(1_000, _CUT), ready=False),
        partial(measure_derived, report),
    )
    connection.execute("DROP TABLE copied")
    copy = report.figure(f"COPY BINARY of {options.records:,} vectors, {_CUT} dims", raw, "rows/s")
    rate = report.figure(f"derived, {_BASE} to {_CUT} dims", derived, "rows/s")
    report.ratio(f"derived / COPY BINARY, {_CUT} dims", rate / copy, at_least=_OF_COPY)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=30_000)
    made.add_argument("--sizes", type=int, nargs=2, default=[30_000, 150_000], help="records, for the memory")
    made.add_argument("--dims", type=int, nargs="+", default=[1_536, 384])
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--only", choices=["texts", "derive", "carry"])
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, psycopg.connect(database.url, autocommit=True) as connection:
        report = Report("pay_once", options, database)
        for dims in options.dims:
            load_source(connection, options.records)
            if options.only in (None, "texts"):
                compare_distinct(report, dims)
                count_inputs(report, connection, dims)
            if options.only in (None, "carry"):
                compare_copy(report, connection, dims)
        if options.only in (None, "carry"):
            compare_memory(report, connection, min(options.dims))
        if options.only in (None, "derive"):
            load_source(connection, options.records)
            compare_derived(report, connection)
        report.end()


if __name__ == "__main__":
    main()
