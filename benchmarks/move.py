"""How long `vecmig ensure_version` locks anybody out while it moves the vectors of an older project to their schema.

    python benchmarks/move.py [--records 1000 1000000] [--json]

Records and vectors of 8 dims are written by the server itself, beside the source, as earlier versions had them. An
application updates one record all the time, and its longest wait is told beside the seconds that the move took.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from common import Project, Report, directory, forget, load_source, opened, parser, tag_of, write_project
from vecmig import runner
from vecmig.config import load_config
from vecmig.events import Event, StepDone

_DIMS = 8
_FIRST = 100
_INDEXES = "SELECT format('%I.%I', schemaname, indexname) FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'"
#: What the server writes for every record after the first: nothing of vecmig's runs for it.
_FILL = """
SET session_replication_role = replica;
INSERT INTO public.documents SELECT i, 'text ' || i FROM generate_series({first} + 1, {records}) i;
INSERT INTO public.documents_vectors (tag, id, embedding, source_hash, written_by)
SELECT '{tag}', i, '[1,0,0,0,0,0,0,0]', md5(i::text)::uuid, NULL FROM generate_series({first} + 1, {records}) i
"""


def embed(texts: list[str]) -> Any:
    """Give each text a vector of its own, of length 1."""
    drawn = [np.random.default_rng(list(text.encode())).standard_normal(_DIMS) for text in texts]
    vectors = np.asarray(drawn, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def older_project(report: Report, path: Path, records: int) -> Project:
    """Make a live collection of so many records whose vectors lie beside the source, and say that they shall not."""
    forget(report.database)
    url, tag = report.database.url, tag_of("benchmark", _DIMS)
    recipe = {"provider": "python", "callable": "move:embed", "dims": _DIMS}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS public.documents_vectors CASCADE")
        load_source(connection, _FIRST)
        project = write_project(path, url, {tag: recipe}, vectors_schema="public")
        project.upgrade()
        for (index,) in connection.execute(_INDEXES).fetchall():
            # to fill it would take an hour; it moves with its table
            connection.execute(f"DROP INDEX {index}")
        connection.execute(_FILL.format(first=_FIRST, records=records, tag=tag))
        connection.execute("CHECKPOINT")
    ini = path / "vecmig.ini"
    ini.write_text(ini.read_text().replace("vectors_schema = public", ""))
    return project


@contextmanager
def application(url: str, waits: list[float]) -> Iterator[None]:
    """Update one record all the time; keep how long each update took."""
    done = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not done.is_set():
                began = time.perf_counter()
                connection.execute("UPDATE public.documents SET body = body || 'x' WHERE id = 1")
                waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measure(report: Report, records: int) -> float:
    """Move so many vectors; give the seconds."""
    seconds, waits = [], [0.0]

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == "move":
            seconds.append(event.seconds)

    with directory() as path:
        project = older_project(report, path, records)
        with application(report.database.url, waits):
            runner.ensure_version(load_config(project.path / "vecmig.ini"), listener=listen)
    longest = f"the application's longest write took {max(waits) * 1000:.0f} ms"
    return report.figure(f"the move of {records:,} vectors", seconds[0], "s", longest)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--records", type=int, nargs="+", default=[1_000, 1_000_000])
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database:
        report = Report("move", options, database)
        seconds = [measure(report, records) for records in options.records]
        for records, took in zip(options.records[1:], seconds[1:], strict=True):
            report.ratio(f"move of {records:,} vectors / {options.records[0]:,}", took / seconds[0])
        report.ratio("the longest move, in seconds", max(seconds), at_most=1.0)
        report.end()


if __name__ == "__main__":
    main()
