"""What share of a migration its index takes, and what workers and memory do to the build.

    python benchmarks/index.py [--records 10000] [--dims 1536] [--workers 0 1 2] [--json]

First a whole migration from a local OpenAI-compatible server, each step timed by vecmig itself; then the index that it
built is dropped and built again, CONCURRENTLY as vecmig does it, with so many parallel workers and with
maintenance_work_mem that holds the graph, or a quarter of that (with which PostgreSQL may start fewer workers). The
vectors are random, which is the worst case for HNSW, and no two are equal.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from common import (
    Report,
    add_server_options,
    directory,
    load_source,
    openai_recipe,
    opened,
    parser,
    tag_of,
    write_project,
)
from provider import Provider
from vecmig.events import Event, StepDone

#: Bytes of a node of the graph beside its vector, and what is held back for safety.
_NODE: Final = 400
_MARGIN: Final = 1.3
#: PostgreSQL starts no worker that would have less than this, and counts the leader as one.
_LEAST_MB: Final = 32
_WORKERS: Final = re.compile(r"using (\d+) parallel workers")


@dataclass(slots=True)
class Steps:
    """Hears how long each step of a migration took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def listen(self, event: Event) -> None:
        """Keep the seconds of a step."""
        if isinstance(event, StepDone):
            self.seconds[event.step] = self.seconds.get(event.step, 0.0) + event.seconds


@dataclass(slots=True)
class Build:
    """What one build of the index told."""

    seconds: float = 0.0
    workers: int = 0
    overflowed: bool = False

    def notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """Read a message of the server."""
        text = diagnostic.message_primary or ""
        if found := _WORKERS.search(text):
            self.workers = int(found[1])
        self.overflowed = self.overflowed or "no longer fits" in text


def migrate(report: Report, path: Path) -> dict[str, float]:
    """Run a whole migration; give the seconds of its steps."""
    options = report.options
    with Provider(dims=options.dims, latency=options.latency, pool=0) as provider:
        recipe = openai_recipe(provider.url, options.dims, in_flight=options.in_flight, batch=options.batch)
        project = write_project(path, report.database.url, {tag_of("benchmark", options.dims): recipe})
        steps = Steps()
        project.upgrade(listener=steps.listen)
    return steps.seconds


def rebuild(connection: psycopg.Connection[Any], definition: str, name: str, *, workers: int, memory_mb: int) -> Build:
    """Drop the index and build it again; give what the server said."""
    connection.execute(f"DROP INDEX {name}")
    connection.execute(
        f"SET max_parallel_maintenance_workers = {workers}; SET maintenance_work_mem = '{memory_mb}MB'; "
        # vectors this wide lie in TOAST, so that the table itself looks too small for workers
        "SET min_parallel_table_scan_size = 0; SET client_min_messages = debug1"
    )
    build = Build()
    connection.add_notice_handler(build.notice)
    began = time.perf_counter()
    connection.execute(definition.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))
    build.seconds = time.perf_counter() - began
    connection.remove_notice_handler(build.notice)
    return build


def compare_builds(report: Report) -> None:
    """Build the index with each number of workers, with enough and with too little memory."""
    options = report.options
    graph = options.records * (4 * options.dims + _NODE) / 2**20
    least = _LEAST_MB * (max(options.workers) + 1)
    memories = {"enough": max(least, int(graph * _MARGIN)), "too little": max(1, int(graph / 4))}
    with psycopg.connect(report.database.url, autocommit=True) as connection:
        name, definition = connection.execute(
            "SELECT format('%I.%I', schemaname, indexname), indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'"
        ).fetchone() or ("", "")
        seconds: dict[tuple[str, int], float] = {}
        for word, memory in memories.items():
            for workers in options.workers:
                build = rebuild(connection, definition, name, workers=workers, memory_mb=memory)
                seconds[word, workers] = build.seconds
                said = f"{build.workers} workers started" + (", graph did not fit" if build.overflowed else "")
                report.figure(f"index, {workers} workers, {memory:,} MB ({word})", build.seconds, "s", said)
    first = options.workers[0]
    for workers in options.workers[1:]:
        what = f"build with {workers} workers / with {first}, memory enough"
        report.ratio(what, seconds["enough", workers] / seconds["enough", first])
    what = f"build with too little memory / enough, {first} workers"
    report.ratio(what, seconds["too little", first] / seconds["enough", first])


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=10_000)
    made.add_argument("--dims", type=int, default=1_536)
    made.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    add_server_options(made)
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, directory() as path:
        report = Report("index", options, database)
        with database.session() as connection:
            load_source(connection, options.records)
        steps = migrate(report, path)
        for step, seconds in steps.items():
            report.figure(f"{step} of {options.records:,} records, {options.dims} dims", seconds, "s")
        report.ratio("share of the index in the migration", steps["index"] / sum(steps.values()))
        compare_builds(report)
        report.end()


if __name__ == "__main__":
    main()
