"""Whether memory stays flat: peak resident memory of ``vecmig upgrade --until backfill`` over two sizes of a corpus.

    python benchmarks/memory.py [--records 20000 200000] [--dims 1536] [--full] [--json]

vecmig is a process of its own, as a user runs it, with 16 requests in flight to a local server. Its peak (VmHWM) is
read from /proc until it ends. --full takes 100,000 and 1,000,000 records, and needs 25 GB of disk at 1,536 dims.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from common import (
    Report,
    add_server_options,
    directory,
    finish,
    forget,
    load_source,
    openai_recipe,
    opened,
    parser,
    tag_of,
    write_project,
)
from provider import Provider
from vecmig.postgres.sessions import Database

_FULL: Final = [100_000, 1_000_000]
#: The larger corpus may take so many times the memory of the smaller one, and no run more than so many MB.
_GROWTH: Final = 1.15
_MOST_MB: Final = 250.0
#: Seconds between two looks. The peak only grows, so at most the very last moment is missed.
_TICK: Final = 0.02
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
#: Bytes on disk for each byte of vectors: TOAST's pages, the write-ahead log, the texts.
_DISK: Final = 3.5


def peak_mb(process: subprocess.Popen[str]) -> float:
    """Watch a process until it ends; give its peak resident memory in MB."""
    peak, status = 0, Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        # a process that has just ended has no such line any more
        with suppress(OSError):
            found = _PEAK.search(status.read_text())
            peak = max(peak, int(found[1]) if found else 0)
        time.sleep(_TICK)
    return peak / 1_024


def measure(report: Report, database: Database, records: int) -> float:
    """Backfill so many records; give the peak in MB."""
    options = report.options
    tag = tag_of("benchmark", options.dims)
    forget(database)
    with database.session() as connection:
        load_source(connection, records)
    with Provider(dims=options.dims, latency=options.latency) as provider, directory() as path:
        recipe = openai_recipe(provider.url, options.dims, in_flight=options.in_flight, batch=options.batch)
        project = write_project(path, database.url, {tag: recipe})
        project.upgrade(until="expand")
        began = time.perf_counter()
        process = project.start("upgrade", "--until", "backfill")
        peak = peak_mb(process)
        seconds = time.perf_counter() - began
        finish(process)
    _check_complete(database, records)
    rate = f"{records / seconds:,.0f} rows/s, start and checks included"
    report.figure(f"peak memory, {records:,} records, {options.dims} dims", peak, "MB", rate)
    return peak


def _check_complete(database: Database, records: int) -> None:
    with database.session() as connection:
        row = connection.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone()
    if row != (records,):
        sys.exit(f"the backfill is not complete: {row} of {records}")


def _require_disk(options: argparse.Namespace) -> None:
    needed = max(options.records) * options.dims * 4 * _DISK
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if options.database_url is None and free < needed:
        sys.exit(f"This needs about {needed / 1e9:.0f} GB in {tempfile.gettempdir()}; {free / 1e9:.0f} GB are free.")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, nargs=2, default=[20_000, 200_000], metavar=("SMALL", "LARGE"))
    made.add_argument("--full", action="store_true", help="take 100,000 and 1,000,000 records")
    made.add_argument("--dims", type=int, default=1_536)
    add_server_options(made)
    options = made.parse_args(argv)
    if options.full:
        options.records = _FULL
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    _require_disk(options)
    with opened(options.database_url) as database:
        report = Report("memory", options, database)
        small, large = (measure(report, database, records) for records in options.records)
        what = f"peak at {options.records[1]:,} / peak at {options.records[0]:,} records"
        report.ratio(what, large / small, at_most=_GROWTH)
        report.ratio("highest peak in MB", max(small, large), at_most=_MOST_MB)
        report.end()


if __name__ == "__main__":
    main()
