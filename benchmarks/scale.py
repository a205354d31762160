"""What commands cost on a live collection of two tags, as its records grow: each as a process, from start to end.

    python benchmarks/scale.py [--records 10000 100000 1000000] [--rounds 3] [--json]

Each round changes 100 records and runs `status`, `sync`, `sync` again with nothing to do, `audit`, `downgrade -1`,
`gate`, and `upgrade head` after a `release`. In the end metrics are scraped, in this process. The ratios are of the
medians at the largest size to those at the smallest; beside them stand the seconds at the largest, which are for a
machine with two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from common import Project, Report, directory, finish, forget, load_source, opened, parser, tag_of, write_project
from vecmig import runner
from vecmig.serve.looks import Looks
from vecmig.serve.metrics import as_text

_DIMS: Final = (8, 16)
_CHANGED: Final = 100
#: The commands of a round, in their order, and how many seconds each may take at 1,000,000 records.
_COMMANDS: Final[dict[str, tuple[tuple[str, ...], float | None]]] = {
    "status": (("status",), 1.0),
    f"sync, {_CHANGED} changes": (("sync",), 1.5),
    "sync, no change": (("sync",), 1.2),
    "audit": (("audit",), None),
    "downgrade -1": (("downgrade", "-1"), None),
    "release": (("release", "r2"), None),
    "gate": (("gate",), 3.0),
    "upgrade after downgrade": (("upgrade", "head"), 3.0),
}
_CHANGE: Final = (
    "UPDATE public.documents SET body = md5(random()::text) || substr(body, 33) "
    "WHERE id IN (SELECT 1 + (random() * (%s - 1))::bigint FROM generate_series(1, %s))"
)
#: What autovacuum does within a minute or two, but for the vectors' indexes.
_VACUUM: Final = "VACUUM (ANALYZE, INDEX_CLEANUP off) "


def _embed(texts: list[str], dims: int) -> NDArray[np.float32]:
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=dims).digest() for text in texts)
    vectors = np.frombuffer(digests, dtype=np.uint8).reshape(len(texts), dims).astype(np.float32) - 127.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def embed8(texts: list[str]) -> NDArray[np.float32]:
    """Give each text a vector of its own, of 8 dims."""
    return _embed(texts, 8)


def embed16(texts: list[str]) -> NDArray[np.float32]:
    """Give each text a vector of its own, of 16 dims."""
    return _embed(texts, 16)


def live_project(report: Report, path: Path, records: int) -> Project:
    """Make a collection of so many records that was led through two tags, and has settled."""
    forget(report.database)
    recipes = {
        tag_of("benchmark", dims): {
            "provider": "python",
            "callable": f"scale:embed{dims}",
            "dims": dims,
            "max_batch": 1_000,
        }
        for dims in _DIMS
    }
    with psycopg.connect(report.database.url, autocommit=True) as connection:
        load_source(connection, records)
        project = write_project(path, report.database.url, recipes)
        project.upgrade()
        (partitions,) = connection.execute(
            "SELECT array_agg(c.oid::regclass::text) FROM pg_class c "
            "WHERE c.relispartition AND c.relkind = 'r' AND c.relname LIKE '%vectors%'"
        ).fetchone() or ([],)
        for table in (*(partitions or ()), "public.documents"):
            connection.execute(f"{_VACUUM}{table}")
        connection.execute("CHECKPOINT")
    return project


def measure(report: Report, records: int, rounds: int) -> dict[str, float]:
    """Run the commands on so many records; give the median of each in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    with directory() as path:
        project = live_project(report, path, records)
        with psycopg.connect(report.database.url, autocommit=True) as connection:
            for round_ in range(rounds + 1):
                connection.execute(_CHANGE, [records, _CHANGED])
                for name, (arguments, _) in _COMMANDS.items():
                    began = time.perf_counter()
                    finish(project.start(*arguments))
                    # the first round fills the caches
                    if round_:
                        taken[name].append(time.perf_counter() - began)
        looked, scraped = _scrapes(project, rounds)
    for name, values in (taken | {"a look for metrics": looked, "a scrape after it": scraped}).items():
        report.figure(f"{name}, {records:,} records", values, "s")
    return {name: statistics.median(values) for name, values in taken.items()}


def _scrapes(project: Project, rounds: int) -> tuple[list[float], list[float]]:
    """Give the seconds of a scrape that looks at the database, and of the next one, which shows the same figures."""
    found: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        looks = Looks(lambda: runner.status(project.config))
        for values in found:
            began = time.perf_counter()
            as_text(looks.latest)
            if round_:
                values.append(time.perf_counter() - began)
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    made.add_argument("--rounds", type=int, default=3, help="how often each command runs")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    # for the processes, which name its models
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with opened(options.database_url) as database:
        report = Report("scale", options, database)
        found: list[dict[str, Any]] = [measure(report, records, options.rounds) for records in options.records]
        smallest, largest = options.records[0], options.records[-1]
        for name, (_, most) in _COMMANDS.items():
            target = 1.5 if most is not None else None
            report.ratio(f"{name}: {largest:,} / {smallest:,}", found[-1][name] / found[0][name], at_most=target)
            if most is not None:
                report.ratio(f"{name}: seconds at {largest:,}", found[-1][name], at_most=most)
        report.end()


if __name__ == "__main__":
    main()
