"""How fast the backfill is, against what the database and the provider allow; each ratio is taken inside one run.

    python benchmarks/backfill.py [--records 20000] [--dims 1536 384] [--rounds 3] [--only free|http] [--json]

free: a provider that costs nothing (it cuts vectors out of an array), so that what is measured is reading, checking and
writing. The limit is one raw COPY BINARY of the same vectors into a table with a primary key, measured three times:
from bytes that are laid out before the clock starts; from the float32 array that a provider gives, laid out by numpy in
one piece while the clock runs; and row by row, as it is mostly written (psycopg's write_row, pgvector's adapter). The
target is set against the second: no program gets its vectors in COPY's format.

http: a local OpenAI-compatible server in a process of its own, asked by vecmig's own openai provider. The limit is the
smaller of what that server allows (a load generator that throws answers away) and of a bare pipeline written by hand
(the same requests in flight, base64 read by numpy, one COPY BINARY an answer, no checks).

Each round measures all in turn. Everything runs on one machine, so all share its cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import psycopg

from common import (
    Report,
    add_server_options,
    free_recipe,
    load_source,
    measure_backfill,
    openai_recipe,
    opened,
    parser,
    rounds,
    tag_of,
    unit_vectors,
)
from pipeline import Pipeline, measure_copy, measure_copy_rows, measure_server
from provider import Provider

#: Share of COPY that a free provider should reach, by dims.
_OF_COPY: Final = {1_536: 0.55, 384: 0.4}
#: Share of the smaller limit that a provider over HTTP should reach.
_OF_LIMIT: Final = 0.9
#: Fewer connections than requests: on two cores more of them only get in each other's way.
_WRITERS: Final = 4


def compare_free(report: Report, connection: psycopg.Connection[Any], dims: int) -> None:
    """Compare a free provider with COPY."""
    options, database = report.options, report.database
    vectors = unit_vectors(1_000, dims)
    tag = tag_of("free", dims)
    ready, laid, by_row, filled = rounds(
        options.rounds,
        partial(measure_copy, connection, options.records, vectors, ready=True),
        partial(measure_copy, connection, options.records, vectors, ready=False),
        partial(measure_copy_rows, connection, options.records, vectors),
        partial(measure_backfill, database, options.records, tag, free_recipe(dims)),
    )
    report.figure(f"COPY BINARY of ready bytes, {dims} dims", ready, "rows/s")
    copy = report.figure(f"COPY BINARY from float32, {dims} dims", laid, "rows/s")
    common = report.figure(f"COPY BINARY row by row, {dims} dims", by_row, "rows/s")
    vecmig = report.figure(f"vecmig, free provider, {dims} dims", filled, "rows/s")
    report.ratio(f"vecmig / COPY BINARY from float32, {dims} dims", vecmig / copy, at_least=_OF_COPY.get(dims))
    report.ratio(f"vecmig / COPY BINARY row by row, {dims} dims", vecmig / common)


def compare_http(report: Report, connection: psycopg.Connection[Any], dims: int) -> None:
    """Compare vecmig's openai provider with a load generator and with a bare pipeline."""
    options, database = report.options, report.database
    in_flight, batch, records = options.in_flight, options.batch, options.records
    texts = [row[0] for row in connection.execute("SELECT body FROM public.documents ORDER BY id LIMIT %s", [batch])]
    limit, tag = options.requests_per_second, tag_of("benchmark", dims)
    with Provider(dims=dims, latency=options.latency, requests_per_second=limit) as provider:
        recipe = openai_recipe(provider.url, dims, in_flight=in_flight, batch=batch)
        bare = Pipeline(database.url, provider.url, in_flight, batch, min(_WRITERS, in_flight))
        served, piped, filled = rounds(
            options.rounds,
            partial(measure_server, provider.url, texts, requests=-(-records // len(texts)), in_flight=in_flight),
            bare.measure,
            partial(measure_backfill, database, records, tag, recipe),
        )
    what = f"{in_flight} x {batch} texts in flight, {options.latency * 1_000:g} ms, {dims} dims"
    server = report.figure(f"the server alone, {what}", served, "rows/s")
    pipeline = report.figure(f"a bare pipeline, {what}", piped, "rows/s")
    vecmig = report.figure(f"vecmig, {what}", filled, "rows/s")
    ratio = vecmig / min(server, pipeline)
    name = "the server" if server < pipeline else "the bare pipeline"
    report.ratio(f"vecmig / the smaller limit ({name}), {dims} dims", ratio, at_least=_OF_LIMIT)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=20_000)
    made.add_argument("--dims", type=int, nargs="+", default=[1_536, 384])
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--only", choices=["free", "http"])
    add_server_options(made)
    made.add_argument("--requests-per-second", type=int, help="what the server takes; above it answers 429")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, psycopg.connect(database.url, autocommit=True) as connection:
        report = Report("backfill", options, database)
        load_source(connection, options.records)
        for dims in options.dims:
            if options.only != "http":
                compare_free(report, connection, dims)
            if options.only != "free":
                compare_http(report, connection, dims)
        report.end()


if __name__ == "__main__":
    main()
