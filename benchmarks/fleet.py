"""Whether a record costs the same on a fleet: CPU seconds and texts sent for each record, with 1 and with 2 workers.

    python benchmarks/fleet.py [--records 40000] [--dims 256] [--rounds 3] [--json]

The workers run on a Ray cluster that is started for it on this host, with wordllama as the model on the machine itself.
What a worker takes to start is not a record's cost, and is left out: its CPU time counts from when it shows itself in
the run table, with its model loaded, to its end. The rows a second count from the first progress to the last; two
workers on two cores, which PostgreSQL needs too, are no measure of how fast a fleet gets.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from common import Report, directory, forget, load_source, opened, parser, tag_of, write_project
from vecmig import runner
from vecmig.backfill import Needs
from vecmig.backfill.cluster import Cluster
from vecmig.config import load_config
from vecmig.embedders import Embedder, open_embedder
from vecmig.events import Event, Progress
from vecmig.gate import CANARY_TEXTS
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.postgres.sessions import Database

#: CPU seconds a record may cost with two workers, as a share of those with one: they share caches and memory.
_GROWTH: Final = 1.15
#: Where every worker writes how many texts it was sent.
_LOG: Final = "VECMIG_BENCHMARK_LOG"
_TICK: Final = 0.05
_CLOCK: Final = os.sysconf("SC_CLK_TCK")
_model: dict[int, Embedder] = {}


def embed(texts: list[str]) -> NDArray[np.float32]:
    """Embed with wordllama, and write down how many texts that were; the recipe's function, called in the workers."""
    dims = int(os.environ[_LOG].rsplit("-", 1)[1])
    if dims not in _model:
        tag = f"wordllama@1/dim-{dims}/chunk-none/norm-l2"
        _model[dims] = open_embedder(tag, Recipe.from_mapping(Tag.parse(tag), {"provider": "wordllama", "dims": dims}))
    if texts != list(CANARY_TEXTS):
        with Path(os.environ[_LOG]).open("a") as log:
            log.write(f"{len(texts)}\n")
    return _model[dims].embed_documents(texts)


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process and its threads."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / _CLOCK


@dataclass(slots=True)
class Watch:
    """A context with a thread that reads what CPU time the workers have taken since they showed themselves."""

    database: Database
    first: dict[int, float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch while the block runs."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            while not self.ended.wait(_TICK):
                shown = {int(row[0]) for row in connection.execute("SELECT pid FROM vecmig.run")}
                for pid in shown | set(self.last):
                    # a worker that has just ended has no such file any more
                    with suppress(OSError):
                        self.last[pid] = cpu_seconds(pid)
                        self.first.setdefault(pid, self.last[pid])

    @property
    def cpu(self) -> float:
        """CPU seconds of all workers."""
        return sum(self.last[pid] - self.first[pid] for pid in self.last)


@dataclass(frozen=True, slots=True)
class Found:
    """What one run cost."""

    #: Workers that took part; where there is little to do, the first one may have done it all.
    workers: int
    cpu_ms: float
    sent: float
    rate: float


def measure(database: Database, log: Path, options: Any, workers: int) -> Found:
    """Backfill on so many workers; give what each record cost."""
    tag = tag_of("fleet", options.dims)
    recipe = {"provider": "python", "callable": "fleet:embed", "dims": options.dims, "max_batch": options.batch}
    forget(database)
    log.write_text("")
    watch, progress = Watch(database), list[tuple[float, int]]()

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            progress.append((time.perf_counter(), event.done))

    with directory() as path:
        write_project(path, database.url, {tag: recipe}).upgrade(until="expand")
        with watch.running():
            config = load_config(path / "vecmig.ini")
            runner.upgrade(config, until="backfill", engine="ray", workers=workers, listener=listen)
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM vecmig.documents_vectors").fetchone()
    if row != (options.records,):
        sys.exit(f"the backfill is not complete: {row} of {options.records}")
    sent = sum(int(line) for line in log.read_text().split())
    (began, before), (ended, after) = progress[0], progress[-1]
    rate = (after - before) / max(ended - began, 1e-9)
    return Found(len(watch.last), watch.cpu / options.records * 1_000, sent / options.records, rate)


def main() -> None:
    """Run it."""
    made = parser(__doc__)
    made.add_argument("--records", type=int, default=40_000)
    made.add_argument("--dims", type=int, default=256, choices=(64, 128, 256))
    made.add_argument("--batch", type=int, default=256, help="texts in one call of the model")
    made.add_argument("--rounds", type=int, default=3)
    options = made.parse_args()
    home = Path(tempfile.mkdtemp(prefix="vecmig-fleet-"))
    log = home / f"sent-{options.dims}"
    os.environ[_LOG] = str(log)
    with opened(options.database_url) as database:
        report = Report("fleet", options, database)
        with psycopg.connect(database.url, autocommit=True) as connection:
            load_source(connection, options.records)
        found: dict[int, list[Found]] = {1: [], 2: []}
        with Cluster("local", Needs(), max(found)):
            for _ in range(options.rounds):
                for workers, results in found.items():
                    results.append(measure(database, log, options, workers))
        tell(report, found)
        report.end()
    shutil.rmtree(home, ignore_errors=True)


def tell(report: Report, found: Mapping[int, Sequence[Found]]) -> None:
    """Enter the figures and what they come to."""
    for workers, results in found.items():
        if any(one.workers < workers for one in results):
            report.note(f"Of {workers} workers not all took part in every round: there are too few records.")
        name = f"{workers} worker{'s' if workers > 1 else ''}"
        report.figure(f"{name}: CPU for a record", [one.cpu_ms for one in results], "ms")
        report.figure(f"{name}: texts sent for a record", [one.sent for one in results], "texts")
        report.figure(f"{name}: speed once it runs", [one.rate for one in results], "rows/s")
    one, two = (found[workers] for workers in (1, 2))
    # the middle of the rounds' own ratios: the two runs of a round meet the same machine
    cpu = statistics.median(b.cpu_ms / max(a.cpu_ms, 1e-9) for a, b in zip(one, two, strict=True))
    report.ratio("CPU for a record, 2 workers against 1", cpu, at_most=_GROWTH)
    sent = max(result.sent for result in (*one, *two))
    report.ratio("texts sent for a record, at most", sent, at_most=1.0)
    report.note("The start of the cluster and of the models is left out; each worker loads its model once.")


if __name__ == "__main__":
    main()
