"""What an application feels of a migration that runs beside it: its reads and writes with and without one.

    python benchmarks/beside.py [--records 20000] [--dims 384] [--alone 15] [--json]

A reader (the ten nearest by the live view) and a writer (edits of the source's text, of any record) run throughout, in
processes of their own, first alone, then beside a migration to another tag of the same dims and back, step by step. It
meets a third process that begins ten transactions a second, which read the live view and stay open for a second, as
applications do: the locks that vecmig needs are never free. All waits for locks are watched by the server, and each
statement is timed by the client: none may wait for vecmig for longer than 120 ms, and every step comes through.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psycopg

from common import (
    Project,
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
from vecmig import runner
from vecmig.errors import VecmigError

_ROLES: Final = ("reader", "writer")
#: Seconds between two looks at the locks; a wait is measured by the server, so that it is at most so much too short.
_TICK: Final = 0.02
#: Longest that a statement of the application may wait for vecmig, in milliseconds.
_MOST_MS: Final = 120.0
#: Seconds for which vecmig tries to get a lock.
_LOCK_WAIT: Final = 30
_WAITS: Final = """
SELECT a.application_name, extract(epoch FROM clock_timestamp() - l.waitstart)::float8
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.application_name LIKE 'application %'
  AND EXISTS (SELECT FROM unnest(pg_blocking_pids(l.pid)) AS b(pid)
              JOIN pg_stat_activity v ON v.pid = b.pid WHERE v.application_name LIKE 'vecmig%')
"""
_AT_WORK: Final = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND query <> '' AND query <> 'BEGIN'"

#: When each statement began, and the seconds that it took.
Taken = list[tuple[float, float]]


@dataclass(slots=True)
class Application:
    """The processes beside the migration."""

    url: str
    records: int
    dims: int
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, role: str, pause: float, sessions: int = 1) -> None:
        """Start one of them, and wait until it is at work."""
        command = [sys.executable, str(Path(__file__).with_name("application.py")), role]
        command += [f"--url={self.url}", f"--records={self.records}", f"--dims={self.dims}"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*command, f"--pause={pause}", f"--sessions={sessions}"], stdin=pipe, stdout=pipe, text=True
        )
        self.processes[role] = process
        with psycopg.connect(self.url, autocommit=True) as connection:
            while process.poll() is None and not connection.execute(_AT_WORK, [f"application {role}"]).fetchone():
                time.sleep(_TICK)

    def stop(self, role: str) -> Taken:
        """Stop it, and give what it noted."""
        process = self.processes.pop(role)
        output, _ = process.communicate()
        if process.returncode:
            sys.exit(f"the application's {role} failed")
        return [(began, seconds) for began, seconds in json.loads(output)]


@dataclass(slots=True)
class Watch:
    """Looks for statements of the application that wait for vecmig."""

    longest: float = 0.0
    seen: int = 0
    looks: int = 0

    @contextmanager
    def on(self, url: str) -> Iterator[None]:
        """Look for as long as the block runs."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look, args=[url, ended], daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self, url: str, ended: threading.Event) -> None:
        with psycopg.connect(url, autocommit=True, application_name="benchmark watch") as connection:
            while not ended.wait(_TICK):
                rows = connection.execute(_WAITS).fetchall()
                self.looks += 1
                self.seen += len(rows)
                self.longest = max([self.longest, *(seconds for _, seconds in rows)])


def steps(project: Project, old: str) -> dict[str, Callable[[], object]]:
    """Name the steps of a migration, there and back and there again, and what does each."""
    config = project.config
    return {
        "expand": lambda: project.upgrade(until="expand"),
        "backfill": lambda: project.upgrade(until="backfill"),
        "index": lambda: project.upgrade(until="index"),
        "cutover": project.upgrade,
        "rollback": lambda: runner.downgrade(config, "-1", hold=False),
        "second cutover": project.upgrade,
        "ensure_version": lambda: runner.ensure_version(config),
        "retire": lambda: runner.retire(config, "documents", old),
    }


def summarise(report: Report, role: str, taken: Taken, times: dict[str, tuple[float, float]]) -> None:
    """Enter the figures of one role: alone, in each step, and in all of them."""
    whole = (times["expand"][0], times["retire"][1])
    found = {}
    for name, (first, last) in (times | {"the whole migration": whole}).items():
        seconds = np.array([seconds for began, seconds in taken if began < last and began + seconds > first]) * 1_000
        if not seconds.size:
            continue
        place = name if name == "alone" else f"beside {name}"
        found[name] = [float(np.percentile(seconds, 50)), float(np.percentile(seconds, 99)), float(seconds.max())]
        note = f"{seconds.size} statements"
        for word, value in zip(("p50", "p99", "longest"), found[name], strict=True):
            report.figure(f"{role}, {place}: {word}", value, "ms", note if word == "p50" else "")
    beside, alone = found["the whole migration"], found["alone"]
    for number, word in enumerate(("p50", "p99")):
        report.ratio(f"{role}: {word} beside the whole migration / alone", beside[number] / alone[number])
    what = f"{role}: longest beside the whole migration / (longest alone + {_MOST_MS:g} ms)"
    report.ratio(what, beside[2] / (alone[2] + _MOST_MS), at_most=1.0)


def measure(report: Report, path: Path) -> None:
    """Run it all."""
    options, url = report.options, report.database.url
    with Provider(dims=options.dims, latency=options.latency, pool=0) as provider:
        recipe = openai_recipe(provider.url, options.dims, in_flight=options.in_flight, batch=options.batch)
        tags = [tag_of(model, options.dims) for model in ("old", "new")]
        project = write_project(path, url, dict.fromkeys(tags, recipe), lock_wait=_LOCK_WAIT)
        project.upgrade("r1")
        application, watch = Application(url, options.records, options.dims), Watch()
        for role in _ROLES:
            application.start(role, options.pause)
        began = time.monotonic()
        time.sleep(options.alone)
        times, blocked = {"alone": (began, time.monotonic())}, []
        if options.idle:
            application.start("idler", options.idle, options.idlers)
        with watch.on(url):
            for name, work in steps(project, tags[0]).items():
                began = time.monotonic()
                try:
                    work()
                except VecmigError as error:
                    blocked.append(f"{name}: {error.message}")
                times[name] = (began, time.monotonic())
        if options.idle:
            application.stop("idler")
        taken = {role: application.stop(role) for role in _ROLES}
    for name, (first, last) in times.items():
        report.figure(f"{name} took", last - first, "s")
    for role in _ROLES:
        summarise(report, role, taken[role], times)
    note = f"{watch.seen} waits seen in {watch.looks} looks"
    longest = report.figure("longest wait for a lock of vecmig", watch.longest * 1_000, "ms", note)
    report.ratio(f"longest wait for vecmig, by the server / {_MOST_MS:g} ms", longest / _MOST_MS, at_most=1.0)
    report.ratio("steps that did not come through", len(blocked), at_most=0.0)
    for words in blocked:
        report.note(words)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=20_000)
    made.add_argument("--dims", type=int, default=384)
    made.add_argument("--alone", type=float, default=15.0, help="seconds without a migration")
    made.add_argument("--pause", type=float, default=0.02, help="seconds between two statements of the application")
    made.add_argument("--idle", type=float, default=1.0, help="seconds that a transaction stays open; 0: none does")
    made.add_argument("--idlers", type=int, default=10, help="transactions that are open at once")
    add_server_options(made)
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database, directory() as path:
        report = Report("beside", options, database)
        with database.session() as connection:
            load_source(connection, options.records)
        measure(report, path)
        report.end()


if __name__ == "__main__":
    main()
