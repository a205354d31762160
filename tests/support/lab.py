"""A project for tests of the library: its files in a directory, its database, and the verbs of the runner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import yaml

from vecmig import runner
from vecmig.config import Config, load_config
from vecmig.events import Event, Listener, ignore
from vecmig.freshness.coverage import Coverage, measure_coverage
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.sessions import Connection, Database
from vecmig.reader import Reader
from vecmig.runner.project import Project
from vecmig.source.source import Source

#: Tags of the model in ``support.embedding``.
SMALL = "toy@1/dim-64/chunk-none/norm-l2"
LARGE = "toy@1/dim-256/chunk-none/norm-l2"
TINY = "toy@1/dim-4/chunk-none/norm-l2"
CHUNKED = "toy@1/dim-4/chunk-10/norm-l2"

_SCRIPT = '''\
"""{message}

Revision ID: {id}
Revises: {down}
Create Date: 2026-11-22 10:00:00
"""

from vecmig import Gate, Migration, MinSamples, NoWorse

revision = {id!r}
down_revision = {down!r}
branch_labels = None
depends_on = None

collection = {collection!r}
old_tag = {old!r}
new_tag = {new!r}
gate = Gate(coverage={coverage}, freshness_budget={budget}, index_recall={recall}{more})


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


def create_documents(connection: psycopg.Connection[Any], count: int = 20, table: str = "public.documents") -> int:
    """Create ``(id bigint, title, body)`` with so many records."""
    connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, title text, body text)")
    connection.execute(
        f"INSERT INTO {table} SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, %s) AS n", [count]
    )
    return count


def let_keys_change_hands(connection: psycopg.Connection[Any]) -> None:
    """Have the primary key of documents checked at the end of a transaction only."""
    connection.execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey")
    connection.execute("ALTER TABLE documents ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED")


def recipe(tag: str, **changes: Any) -> dict[str, Any]:
    """Give a recipe for a tag of the toy model."""
    dims = int(tag.split("/dim-")[1].split("/", maxsplit=1)[0])
    made: dict[str, Any] = {"provider": "python", "dims": dims, "callable": f"support.embedding:embed{dims}"}
    chunk = tag.split("/chunk-")[1].split("/", maxsplit=1)[0]
    if chunk != "none":
        made["chunk"] = {"size": int(chunk), "unit": "characters", "overlap": 0}
    return made | {"max_batch": 8, "concurrency": 2} | changes


@dataclass
class Lab:
    """One collection in one database, and a chain of revisions r1, r2, … that takes it from tag to tag."""

    path: Path
    url: str
    name: str = "documents"
    source: str = "public.documents"
    key: Sequence[str] = ("id",)
    text: str = "title || E'\\n\\n' || body"
    options: Mapping[str, Any] = field(default_factory=dict)
    chain: Sequence[str] = (SMALL, LARGE)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coverage: float = 0.995
    budget: float = 0.005
    #: The toy model's vectors are random: how many of the nearest an index finds is a matter of chance.
    recall: float = 0
    lock_wait: float = 5.0
    events: list[Event] = field(default_factory=list)

    def write(self, **changes: Any) -> Lab:
        """Write the project's files, with changes if any are given, and return the changed project."""
        lab = replace(self, **changes)
        versions = lab.path / "migrations" / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        for script in versions.glob("*.py"):
            script.unlink()
        settings = {"database_url": lab.url, "collections": "migrations/collections.yaml", "lock_wait": lab.lock_wait}
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (lab.path / "vecmig.ini").write_text("\n".join(["[vecmig]", *lines]))
        collection = {"source": lab.source, "key": list(lab.key), "text": lab.text, "tag": lab.chain[-1]}
        tags = {tag: dict(lab.recipes.get(tag) or recipe(tag)) for tag in lab.chain}
        data = {"collections": {lab.name: collection | dict(lab.options)}, "tags": tags}
        (lab.path / "migrations" / "collections.yaml").write_text(yaml.safe_dump(data, allow_unicode=True))
        for number, new in enumerate(lab.chain, start=1):
            lab.script(number, lab.chain[number - 2] if number > 1 else None, new)
        return lab

    def script(self, number: int, old: str | None, new: str, **changes: Any) -> None:
        """Write revision ``r<number>``."""
        values = {
            "message": f"revision {number}",
            "id": f"r{number}",
            "down": f"r{number - 1}" if number > 1 else None,
            "collection": self.name,
            "old": old,
            "new": new,
            "coverage": self.coverage,
            "budget": self.budget,
            "recall": self.recall,
            "more": "",
        }
        text = _SCRIPT.format(**values | changes)
        (self.path / "migrations" / "versions" / f"r{number}.py").write_text(text)

    @property
    def config(self) -> Config:
        """The settings, read again."""
        return load_config(self.path / "vecmig.ini")

    def listen(self, event: Event) -> None:
        """Keep every event."""
        self.events.append(event)

    # The verbs ---------------------------------------------------------------------------------------------------

    def upgrade(self, target: str = "head", *, until: str | None = None, listener: Listener | None = None) -> list[str]:
        """Upgrade; give the phases reached."""
        walked = runner.upgrade(self.config, target, until=until, listener=listener or self.listen)
        return [step.phase for step in walked]

    def downgrade(
        self, target: str = "-1", *, discard: bool = False, hold: bool = False, listener: Listener = ignore
    ) -> list[str]:
        """Downgrade, so that an upgrade goes up again; give the revisions taken back."""
        walked = runner.downgrade(self.config, target, discard=discard, hold=hold, listener=listener)
        return [step.revision for step in walked]

    def backfill(self, *, limit: int | None = None) -> Coverage:
        """Backfill the revision in progress."""
        return runner.backfill(self.config, limit=limit, listener=self.listen)[self.name]

    def sync(self) -> dict[tuple[str, str], Coverage]:
        """Bring the maintained tags up to date."""
        return runner.sync(self.config, listener=self.listen)

    def checks(self) -> dict[str, bool | None]:
        """Judge the gate of the revision in progress, by check."""
        _, report = runner.gate_reports(self.config)[self.name]
        return {check.name: check.passed for check in report.checks}

    def reader(self, url: str | None = None) -> Reader:
        """A reader that knows the project's recipes: the toy model is a function, which no database may name."""
        return Reader(url or self.url, recipes=Project(self.config).collections.recipes)

    def status(self) -> runner.CollectionStatus:
        """How the collection stands."""
        (found,) = runner.status(self.config).collections
        return found

    @property
    def live(self) -> str | None:
        """The live tag, by the route."""
        return self.status().route.live

    @property
    def waiting(self) -> list[str]:
        """The keys in the outbox, of one column."""
        return [key for (key,) in self.sql("SELECT key ->> 0 FROM vecmig.change ORDER BY key")]

    @property
    def noted(self) -> list[str]:
        """Why a full pass is needed, the oldest reason first."""
        return [reason for (reason,) in self.sql("SELECT reason FROM vecmig.full_pass ORDER BY id")]

    # The database ------------------------------------------------------------------------------------------------

    @property
    def database(self) -> Database:
        """The database as vecmig sees it."""
        return Database(self.url)

    def stamps(self, tag: str) -> Stamps:
        """Where the vectors of a tag lie."""
        return Stamps(self.inspected(), "vecmig", tag)

    def inspected(self) -> Source:
        """The source as the catalogue has it."""
        with self.database.session() as connection:
            return find_source(Ledger(connection, "vecmig"), Project(self.config).collections.collection(self.name))

    @contextmanager
    def opened(self, tag: str) -> Iterator[tuple[Connection, Stamps]]:
        """A connection as vecmig's own, and the stamps of a tag."""
        stamps = self.stamps(tag)
        with self.database.session() as connection:
            yield connection, stamps

    def cover(self, tag: str) -> Coverage:
        """Measure a tag."""
        with self.opened(tag) as (connection, stamps):
            return measure_coverage(connection, stamps)

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser and give its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []
