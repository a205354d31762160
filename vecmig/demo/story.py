"""The story that ``vecmig demo`` tells: each step done for real, with the functions that the commands call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from vecmig import runner
from vecmig.config import Config, load_config
from vecmig.config.collections import load_collections
from vecmig.demo.corpus import Record, read_corpus
from vecmig.errors import VecmigError
from vecmig.events import Listener
from vecmig.freshness.coverage import Coverage
from vecmig.gate import Report
from vecmig.homes import Hit
from vecmig.postgres.sessions import Connection, Database
from vecmig.reader import Reader
from vecmig.script import ScriptDirectory
from vecmig.script.generate import Wish, new_revision
from vecmig.script.project import init_project

COLLECTION: Final = "documents"
OLD_TAG: Final = "wordllama@0.4/dim-64/chunk-none/norm-l2"
NEW_TAG: Final = "wordllama@0.4/dim-256/chunk-none/norm-l2"
#: A query that 64 dimensions answer with how to delete a directory; found by trying.
QUESTION: Final = "temporary directory that is deleted afterwards"
ANSWERS: Final = 2
_REASON: Final = "to show that it is quick"
_TABLE: Final = "CREATE TABLE public.documents (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL)"
_COPY: Final = "COPY public.documents (id, title, body) FROM STDIN"
_WRITTEN_SINCE: Final = "SELECT count(*), count(*) FILTER (WHERE embedded_at > %s) FROM vecmig.documents_vectors"


# What is told ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the story begins."""

    title: str


@dataclass(frozen=True, slots=True)
class Said:
    """A few words to the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """The command line that does what comes next."""

    command: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """The files that `vecmig init` or `vecmig revision` wrote."""

    #: Relative to the project.
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """What `vecmig upgrade` or `vecmig downgrade` gave."""

    results: tuple[runner.RevisionResult, ...]


@dataclass(frozen=True, slots=True)
class Covered:
    """What `vecmig backfill` gave."""

    coverage: Mapping[str, Coverage]


@dataclass(frozen=True, slots=True)
class Judged:
    """What `vecmig gate` gave, by collection: the revision and the report."""

    reports: Mapping[str, tuple[str, Report]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What `vecmig search` gave."""

    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Stood:
    """What `vecmig status` gave."""

    status: runner.Status


Result = Wrote | Walk | Covered | Judged | Answered | Stood
Part = Chapter | Said | Typed | Result


# The telling -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """One telling of the story in an empty directory."""

    home: Path
    #: Told of the steps of each run, as they happen.
    listener: Listener
    _before: list[Hit] = field(default_factory=list)

    def tell(self) -> Iterator[Part]:
        """Do one step after the other and yield what is to be shown.

        Raises:
            VecmigError: of any kind; the story ends there.
        """
        yield from self._table()
        yield from self._first_tag()
        yield from self._half()
        yield from self._switch()
        yield from self._back_and_forward()

    @property
    def _config(self) -> Config:
        # not with this process's environment: VECMIG_DATABASE_URL may name a database that matters to somebody
        return load_config(self.home / "vecmig.ini", environ={})

    @property
    def _database(self) -> Database:
        return Database(self._config.database_url, self._config.schema)

    def _table(self) -> Iterator[Part]:
        yield Chapter("1  A table with text")
        files = init_project(self.home / "migrations", ini=self.home / "vecmig.ini")
        records = tuple(read_corpus())
        if not records:
            raise VecmigError("This Python comes without the sources of its standard library, which the demo reads.")
        began = time.monotonic()
        self._database.connect().close()
        started = time.monotonic() - began
        with self._database.transaction() as connection:
            _load(connection, records)
        yield Said(
            "vecmig moves a table's vectors from one embedding model to another, and back. Here the table holds "
            f"{len(records):,} docstrings of Python, in a PostgreSQL started for it in {started:.1f} s."
        )
        yield Typed("vecmig init")
        yield Wrote(self._relative(files))

    def _first_tag(self) -> Iterator[Part]:
        yield Chapter("2  The first tag")
        yield Said(
            "Every vector has a tag, which says how it was made. A revision is a script that leads to a new tag: this "
            "first one to vectors of 64 dimensions."
        )
        yield from self._revision()
        yield Typed("vecmig upgrade +1")
        yield Walk(runner.upgrade(self._config, "+1", listener=self.listener))
        yield from self._ask()

    def _half(self) -> Iterator[Part]:
        yield Chapter("3  The second tag, half done")
        yield Said(
            "collections.yaml now asks for 256 dimensions. The new vectors grow beside the old ones, which go on "
            "serving. Half-way, we ask the gate that every switch has to pass."
        )
        _ask_for(self._config.collections_path, OLD_TAG, NEW_TAG)
        yield from self._revision()
        yield Typed("vecmig upgrade +1 --until expand")
        yield Walk(runner.upgrade(self._config, "+1", until="expand", listener=self.listener))
        with self._database.session() as connection:
            half = _count(connection) // 2
        yield Typed(f"vecmig backfill --limit {half}")
        yield Covered(runner.backfill(self._config, limit=half, listener=self.listener))
        yield Typed("vecmig gate")
        yield Judged(runner.gate_reports(self._config))
        yield Said(f"Searches still use {self._live_tag()}, and no option overrides the gate.")

    def _switch(self) -> Iterator[Part]:
        yield Chapter("4  Finish, and switch")
        yield Said("The same command goes on where it stopped, and switches if all checks hold.")
        yield Typed("vecmig upgrade head")
        yield Walk(runner.upgrade(self._config, "head", listener=self.listener))
        yield from self._ask()

    def _back_and_forward(self) -> Iterator[Part]:
        yield Chapter("5  Back, and forward again")
        yield Said("Should the new tag disappoint: one short transaction goes back, and forward.")
        yield Typed(f'vecmig downgrade -1 --reason "{_REASON}"')
        yield Walk(runner.downgrade(self._config, "-1", reason=_REASON, listener=self.listener))
        yield Said("It is on hold now: no deploy undoes that. To go forward, release it.")
        with self._database.session() as connection:
            since = _clock(connection)
        yield Typed("vecmig upgrade head --release")
        yield Walk(runner.upgrade(self._config, "head", release=True, listener=self.listener))
        with self._database.session() as connection:
            vectors, written = _written_since(connection, since)
        yield Said(f"Of {vectors:,} vectors, {written:,} were made by this second upgrade.")
        yield Typed("vecmig status")
        yield Stood(runner.status(self._config))

    def _revision(self) -> Iterator[Part]:
        config = self._config
        yield Typed("vecmig revision")
        script = new_revision(ScriptDirectory(config), load_collections(config.collections_path), Wish())
        yield Wrote(self._relative([script.path]))

    def _ask(self) -> Iterator[Part]:
        yield Typed(f'vecmig search {COLLECTION} "{QUESTION}" -k {ANSWERS}')
        with Reader(self._config.database_url, self._config.schema) as reader:
            hits = reader.search(COLLECTION, QUESTION, ANSWERS)
        yield Answered(hits)
        if self._before:
            yield Said(compared(self._before, hits))
        self._before = hits

    def _live_tag(self) -> str:
        with Reader(self._config.database_url, self._config.schema) as reader:
            return reader.live_tag(COLLECTION)

    def _relative(self, paths: Sequence[Path]) -> tuple[str, ...]:
        return tuple(str(path.relative_to(self.home)) for path in paths)


def compared(before: Sequence[Hit], after: Sequence[Hit]) -> str:
    """Say in one sentence how two answers to one query differ, and what that is worth."""
    old, new = ([hit.record["title"] for hit in hits] for hits in (before, after))
    if old == new:
        return "The same query, the same answers: here the new tag makes no difference."
    entered = len(set(new) - set(old))
    first = f"first was {old[0]}, now {new[0]}" if old[0] != new[0] else f"{new[0]} is still first"
    return (
        f"{entered} of {len(new)} answers are new; {first}. Picked to show a difference: one query does not tell "
        "which tag is better."
    )


def _ask_for(collections: Path, old: str, new: str) -> None:
    """Edit collections.yaml as a user would: the collection shall have another tag."""
    text = collections.read_text(encoding="utf-8")
    collections.write_text(text.replace(f"tag: {old}", f"tag: {new}", 1), encoding="utf-8")


def _load(connection: Connection, records: Sequence[Record]) -> None:
    connection.execute(_TABLE)
    with connection.cursor().copy(_COPY) as copy:
        for record in records:
            copy.write_row(record)


def _count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM public.documents").fetchone()
    assert row is not None
    return int(row[0])


def _clock(connection: Connection) -> datetime:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def _written_since(connection: Connection, moment: datetime) -> tuple[int, int]:
    """Count the vectors of all tags, and those among them that were written after ``moment``."""
    row = connection.execute(_WRITTEN_SINCE, [moment]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
