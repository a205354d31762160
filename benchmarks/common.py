"""What the benchmarks share: a database of their own, a corpus, a project on it, and how figures are reported."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
import psycopg
import yaml
from numpy.typing import NDArray

import vecmig
from vecmig import runner
from vecmig.backfill import run_backfill
from vecmig.config import Config, load_config
from vecmig.embedders import open_embedder
from vecmig.events import Listener, ignore
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.model.collection import Collection
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.postgres.embedded import remove_embedded, start_embedded
from vecmig.postgres.sessions import Database

#: Characters of a record's text: a few sentences, as a search over paragraphs has them.
TEXT_LENGTH: Final = 600
#: Options that tell about a person's machine and not about the measurement.
_OWN: Final = ("cache", "database_url")
#: Where the vecmig is that is measured, for the processes that a benchmark starts.
ROOT: Final = Path(vecmig.__file__).parents[1]


# The command line --------------------------------------------------------------------------------------------------


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.add_argument("--strict", action="store_true", help="exit with 1 if a ratio misses its target")
    made.add_argument("--database-url", help="an empty database to use up, instead of an embedded one of its own")
    return made


def add_server_options(made: argparse.ArgumentParser) -> None:
    """Add how the local server answers, and how it is asked."""
    made.add_argument("--latency", type=float, default=0.05, help="seconds that the server takes for an answer")
    made.add_argument("--in-flight", type=int, default=16, help="requests at once")
    made.add_argument("--batch", type=int, default=128, help="texts in a request")


# The database ------------------------------------------------------------------------------------------------------


@contextmanager
def opened(url: str | None) -> Iterator[Database]:
    """Give an empty database with pgvector: the one of ``url``, or an embedded one with PostgreSQL's own settings.

    The embedded one is stopped and deleted at the end; another is left as the benchmark leaves it.
    """
    if url is not None:
        with psycopg.connect(url, autocommit=True) as connection:
            _require_empty(connection)
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        yield Database(url)
        return
    home = Path(tempfile.mkdtemp(prefix="vecmig-benchmark-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server is not left behind
    try:
        yield Database(start_embedded(home / "pgdata"))
    finally:
        remove_embedded(home / "pgdata")
        shutil.rmtree(home, ignore_errors=True)


def _require_empty(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN "
        "('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)"
    ).fetchone()
    if row is None or row[0]:
        sys.exit("--database-url names a database that has tables. A benchmark drops some: give it an empty one.")


def load_source(connection: psycopg.Connection[Any], records: int) -> None:
    """Make public.documents(id bigint, body text), with records of TEXT_LENGTH characters."""
    connection.execute("DROP TABLE IF EXISTS public.documents CASCADE")
    connection.execute("CREATE TABLE public.documents (id bigint PRIMARY KEY, body text)")
    connection.execute(
        "INSERT INTO public.documents SELECT i, left(repeat(md5(i::text), 20), %s) FROM generate_series(1, %s) i",
        [TEXT_LENGTH, records],
    )
    connection.execute("VACUUM ANALYZE public.documents")


def forget(database: Database) -> None:
    """Drop all that vecmig has made, and let no later measurement pay for what an earlier one left to the server."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS vecmig CASCADE; DROP TABLE IF EXISTS documents_vectors CASCADE")
        connection.execute("CHECKPOINT")


# Models ------------------------------------------------------------------------------------------------------------


def unit_vectors(count: int, dims: int, seed: int = 7) -> NDArray[np.float32]:
    """Make ``count`` random vectors of length 1: float32 of shape (count, dims)."""
    vectors = np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class FreeModel:
    """A model that costs next to nothing: it gives vectors that were made beforehand, always the same one to a text."""

    def __init__(self) -> None:
        self._vectors = unit_vectors(1, 1)
        #: Texts that it was sent.
        self.sent = 0

    def prepare(self, count: int, dims: int) -> None:
        """Make ``count`` vectors."""
        self._vectors = unit_vectors(count, dims)

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Give a vector for each text."""
        self.sent += len(texts)
        return self._vectors[[crc32(text.encode()) % len(self._vectors) for text in texts]]


#: What ``free_recipe`` names.
free_model = FreeModel()


def tag_of(model: str, dims: int) -> str:
    """Write a tag without chunks."""
    return f"{model}@1/dim-{dims}/chunk-none/norm-l2"


def free_recipe(dims: int, batch: int = 1_000) -> dict[str, Any]:
    """Write the recipe of a model that costs nothing."""
    free_model.prepare(1_000, dims)
    return {"provider": "python", "callable": "common:free_model.embed", "dims": dims, "max_batch": batch}


def openai_recipe(url: str, dims: int, *, in_flight: int, batch: int) -> dict[str, Any]:
    """Write the recipe of a model on an OpenAI-compatible server."""
    return {
        "provider": "openai",
        "dims": dims,
        "base_url": url,
        "encoding_format": "base64",
        "max_batch": batch,
        "concurrency": in_flight,
    }


# A project -----------------------------------------------------------------------------------------------------------

_SCRIPT = '''\
"""{revision}

Revision ID: {revision}
Revises: {down}
"""

from vecmig import Gate, Migration, Trust

revision = "{revision}"
down_revision = {down!r}
branch_labels = None
depends_on = None

collection = "documents"
old_tag = {old!r}
new_tag = {new!r}
# An application edits records all the time here, and nothing runs sync: the gate is not what is measured.
gate = Gate(coverage=0.0, freshness_budget=1.0, index_recall=0)
trust = Trust(days=0, eval_days=0)


def upgrade(m: Migration) -> None:
    m.expand()


def backfill(m: Migration) -> None:
    m.backfill()


def cutover(m: Migration) -> None:
    m.build_index()
    m.cutover(gate)


def downgrade(m: Migration) -> None:
    m.rollback()
'''


@dataclass(frozen=True, slots=True)
class Project:
    """A project directory, and vecmig in it: as a process of its own, or in this one."""

    path: Path

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start vecmig; its output is read by ``finish``."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, "-m", "vecmig", *args],
            cwd=self.path,
            env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def upgrade(self, target: str = "head", *, until: str | None = None, listener: Listener = ignore) -> None:
        """Run ``vecmig upgrade`` in this process."""
        runner.upgrade(self.config, target, until=until, listener=listener)

    @property
    def config(self) -> Config:
        """What the project says."""
        return load_config(self.path / "vecmig.ini")


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a process, and end the benchmark if it fails."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{process.args!r} ended with {process.returncode}:\n{output}")


def write_project(path: Path, url: str, recipes: Mapping[str, Mapping[str, Any]], **settings: object) -> Project:
    """Write a project whose revisions r1, r2, … lead ``documents`` through the tags of ``recipes``, in their order."""
    versions = path / "migrations" / "versions"
    versions.mkdir(parents=True)
    lines = {"database_url": url, "collections": "migrations/collections.yaml"} | settings
    (path / "vecmig.ini").write_text("\n".join(["[vecmig]", *(f"{name} = {value}" for name, value in lines.items())]))
    tags = list(recipes)
    collection = {"source": "public.documents", "key": ["id"], "text": "body", "tag": tags[-1]}
    data = {"collections": {"documents": collection}, "tags": {tag: dict(recipe) for tag, recipe in recipes.items()}}
    (path / "migrations" / "collections.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    for number, new in enumerate(tags, start=1):
        down, old = (f"r{number - 1}", tags[number - 2]) if number > 1 else (None, None)
        script = _SCRIPT.format(revision=f"r{number}", down=down, old=old, new=new)
        (versions / f"r{number}.py").write_text(script)
    return Project(path)


@contextmanager
def directory() -> Iterator[Path]:
    """Give a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="vecmig-benchmark-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def measure_backfill(database: Database, records: int, tag: str, recipe: Mapping[str, Any]) -> float:
    """Give the rows a second of a whole backfill of a new tag, its checks before and after included."""
    forget(database)
    with directory() as path, closing(open_embedder(tag, Recipe.from_mapping(Tag.parse(tag), recipe))) as embedder:
        write_project(path, database.url, {tag: recipe}).upgrade(until="expand")
        with database.session() as connection:
            collection = Collection("documents", ("public", "documents"), ("id",), "body")
            stamps = Stamps(find_source(Ledger(connection, database.schema), collection), database.schema, tag)
        began = time.perf_counter()
        result = run_backfill(database, stamps, embedder)
        seconds = time.perf_counter() - began
    if result.coverage.fresh != records:
        sys.exit(f"the backfill is not complete: {result.coverage}")
    return records / seconds


def rounds(count: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Run the measures in turn, ``count`` times."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(count):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure())
    return found


# The report ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, once a round."""

    what: str
    values: tuple[float, ...]
    unit: str
    note: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure as a share of another of the same run, and what it should be."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is on the right side of its target; always, where it has none."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The target in words."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


@dataclass(slots=True)
class Report:
    """What a benchmark found. Figures are printed as they come, ratios at the end."""

    benchmark: str
    options: argparse.Namespace
    database: Database
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def figure(self, what: str, values: Sequence[float] | float, unit: str, note: str = "") -> float:
        """Enter a figure; give its median."""
        given = (values,) if isinstance(values, int | float) else tuple(values)
        found = Figure(what, given, unit, note)
        self.figures.append(found)
        if not self.options.json:
            print(_figure_line(found), flush=True)
        return found.median

    def ratio(self, what: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Enter a ratio."""
        self.ratios.append(Ratio(what, value, at_least, at_most))

    def note(self, text: str) -> None:
        """Enter a remark that a reader of the figures needs."""
        self.notes.append(text)

    def end(self) -> None:
        """Print what is to be printed; exit with 1 if a target is missed and ``--strict`` was given."""
        machine = self._machine()
        if self.options.json:
            print(json.dumps(self._document(machine), indent=2, default=str))
        else:
            for ratio in self.ratios:
                verdict = f"({ratio.target}: {'met' if ratio.holds else 'MISSED'})" if ratio.target else ""
                print(f"{ratio.what:<64} {ratio.value:>9.3f}  {verdict}".rstrip())
            for note in self.notes:
                print(f"Note: {note}")
            print(", ".join(f"{name} {value}" for name, value in machine.items()))
        if self.options.strict and not all(ratio.holds for ratio in self.ratios):
            sys.exit(1)

    def _document(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "machine": dict(machine),
            "options": {name: value for name, value in vars(self.options).items() if name not in _OWN},
            "figures": [asdict(figure) | {"median": figure.median} for figure in self.figures],
            "ratios": [asdict(ratio) | {"holds": ratio.holds} for ratio in self.ratios],
            "notes": self.notes,
        }

    def _machine(self) -> dict[str, Any]:
        with self.database.session() as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"
            ).fetchone()
        version, pgvector = row or ("", "")
        return {
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "postgresql": version,
            "pgvector": pgvector,
            "load_before": round(self.load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
        }


def _figure_line(figure: Figure) -> str:
    places = 0 if figure.median >= 100 else 2
    spread = ""
    if len(figure.values) > 1:
        spread = f"  ({min(figure.values):,.{places}f} to {max(figure.values):,.{places}f})"
    note = f"  {figure.note}" if figure.note else ""
    return f"{figure.what:<64} {figure.median:>9,.{places}f} {figure.unit}{spread}{note}"
