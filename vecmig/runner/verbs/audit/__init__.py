"""Look for everything that is not as it should be, from vectors of unknown origin to rights that have drifted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vecmig.config import Config
from vecmig.config.known_findings import KnownFinding
from vecmig.errors import Blocked, ConfigError, DatabaseError
from vecmig.freshness.coverage import has_vectors
from vecmig.inventory import auditing
from vecmig.inventory.auditing import VectorColumn, VectorIndex
from vecmig.ledger.identity import SourceReplaced, find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import TagRow
from vecmig.model.collection import Collection
from vecmig.postgres.pgvector import find_pgvector
from vecmig.postgres.sessions import Connection, translated
from vecmig.runner.project import Project
from vecmig.runner.verbs.audit import access, columns, indexes, layout, models, protection, records, writers
from vecmig.runner.verbs.audit.finding import SEVERITIES, Finding, Severity, Subject
from vecmig.runner.verbs.audit.known import Ignored, set_apart
from vecmig.source.relations import exists
from vecmig.source.source import Source

__all__ = ["SEVERITIES", "Audit", "Finding", "Ignored", "Severity", "audit"]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and what was found, the worst first in each collection."""

    database: str
    measured_at: datetime
    collections: tuple[str, ...]
    #: Tags with vectors, over all collections.
    tags: int
    #: Whether the models were asked for their canaries.
    asked: bool
    findings: tuple[Finding, ...]
    #: Findings that ``ignore:`` knows; they are not among ``findings``.
    ignored: tuple[Ignored, ...] = ()
    #: Those of ``findings`` whose entry in ``ignore:`` has come to its end.
    ended: tuple[Ignored, ...] = ()
    #: The entries of ``ignore:`` that match nothing.
    unmatched: tuple[KnownFinding, ...] = ()


def audit(config: Config, collections: Sequence[str] = (), *, ask: bool = True) -> Audit:
    """Look at collections in one snapshot, then ask the models of their tags. Nothing is written.

    Args:
        config: the project.
        collections: which ones, and then nothing else of the database; empty for all, and for tables that are none.
        ask: whether to ask each model in use for its canary.
    """
    project = Project(config)
    with project.database.session() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        looker = _Looker(project, connection, project.context.ledger(connection))
        seen = looker.look(collections)
    if ask:
        seen.findings += models.canaries(project, seen.in_use)
    order = {severity: at for at, severity in enumerate(SEVERITIES)}
    found = sorted(seen.findings, key=lambda f: (f.collection or "~", order[f.severity]))
    today = seen.measured_at.astimezone(UTC).date()
    apart = set_apart(found, project.collections.ignored, today, collections=collections, ask=ask)
    return Audit(
        database=project.database.safe_url,
        measured_at=seen.measured_at,
        collections=tuple(seen.names),
        tags=seen.tags,
        asked=ask,
        findings=apart.findings,
        ignored=apart.ignored,
        ended=apart.ended,
        unmatched=apart.unmatched,
    )


@dataclass(slots=True)
class _Found:
    measured_at: datetime
    names: list[str]
    findings: list[Finding]
    #: The tags whose models are to be asked.
    in_use: list[TagRow]
    tags: int = 0


@dataclass(frozen=True, slots=True)
class _Looker:
    """Goes over the collections on one connection."""

    project: Project
    connection: Connection
    ledger: Ledger

    def look(self, collections: Sequence[str]) -> _Found:
        now, counted_since = auditing.clock(self.connection)
        known = self._collections(collections)
        seen = _Found(now, sorted(known), [], [])
        all_indexes = auditing.indexes(self.connection) if find_pgvector(self.connection) else []
        sources = {}
        for name in seen.names:
            try:
                with translated(self.project.database.safe_url, self.connection), self.connection.transaction():
                    sources[name] = source = find_source(self.ledger, known[name])
                    if not self._is_there(source):
                        seen.findings += self._without_table(source)
                        continue
                    subject = self._subject(source, now)
                    findings = list(self._findings(subject, all_indexes, counted_since))
                    in_use, tags = self._in_use(subject), len(subject.kept)
            except Blocked:
                raise
            except (ConfigError, DatabaseError) as error:
                seen.findings.append(_unreadable(known[name], error))
                continue
            seen.findings += findings
            seen.in_use += in_use
            seen.tags += tags
        seen.findings += self._around(sources, all_indexes, everything=not collections)
        if not collections and self.ledger.installed:
            schema = self.ledger.schema
            roles = auditing.migrators(self.connection, schema)
            seen.findings += protection.own_findings(self.connection, schema, roles)
        rows = self.ledger.revisions.all()
        seen.findings += models.without_script(
            self.project, {i: r for i, r in rows.items() if not collections or r.collection in collections}
        )
        return seen

    def _collections(self, names: Sequence[str]) -> dict[str, Collection]:
        """Return the collections that are configured or recorded, or those that are wanted of them."""
        configured = dict(self.project.collections.collections)
        recorded = {name: self.ledger.collections.get(name) for name in self.ledger.routes.all()}
        known = recorded | configured
        for name in names:
            if name not in known:
                self.project.collections.collection(name)
        return {name: known[name] for name in names} if names else known

    def _is_there(self, source: Source) -> bool:
        return exists(self.connection, source.vectors) and self.ledger.installed

    def _without_table(self, source: Source) -> Iterator[Finding]:
        """Tell of a collection without a vectors table, unless it never had one."""
        name = source.collection.name
        kept = [tag for tag, row in self.ledger.tags.of(name).items() if row.state != "retired"]
        if kept:
            detail = f"The ledger has {len(kept)} tags of it, and the table of their vectors is gone."
            fix = "Restore it from a backup; without one, give the collection a new name and embed it again."
            yield Finding("vectors table gone", "error", name, None, f"{name}_vectors", detail, fix, {"tags": kept})

    def _subject(self, source: Source, now: datetime) -> Subject:
        name = source.collection.name
        return Subject(
            project=self.project,
            connection=self.connection,
            ledger=self.ledger,
            source=source,
            route=self.ledger.routes.of(name),
            tags=self.ledger.tags.of(name),
            parts=tuple(auditing.partitions(self.connection, source)),
            names=auditing.names(self.connection, source),
            migrators=auditing.migrators(self.connection, self.project.database.schema),
            now=now,
        )

    def _findings(
        self, subject: Subject, all_indexes: Sequence[VectorIndex], counted_since: datetime | None
    ) -> Iterator[Finding]:
        if subject.name not in self.project.collections.collections:
            yield subject.finding(
                "unconfigured collection",
                "warning",
                subject.name,
                f"The database has {len(subject.kept)} tags of it, and collections.yaml does not name it: nothing "
                "keeps them up.",
                "Bring it back to collections.yaml; if it is given up, drop its view, function, triggers and vectors.",
                tags=list(subject.kept),
            )
        changed = list(layout.followed(subject))
        yield from changed
        if any(finding.blocks for finding in changed):
            return
        if not changed:
            yield from records.findings(subject)
        for part in (layout, access, protection, writers, models):
            yield from part.findings(subject)
        yield from indexes.findings(subject, all_indexes, counted_since)

    @staticmethod
    def _in_use(subject: Subject) -> list[TagRow]:
        """Return the tags whose models answer or fill; no tag has a canary before its first vector."""

        def was_filled(tag: str) -> bool:
            return subject.attached(tag) and has_vectors(subject.connection, subject.stamps(tag))

        rows = [subject.tags[tag] for tag in dict.fromkeys(subject.route.maintained) if tag in subject.tags]
        return [row for row in rows if row.canary or (row.tag in subject.served and was_filled(row.tag))]

    def _around(
        self, sources: Mapping[str, Source], all_indexes: Sequence[VectorIndex], *, everything: bool
    ) -> Iterator[Finding]:
        """Look at vectors in tables that are not vecmig's."""
        pgvector = find_pgvector(self.connection)
        if pgvector is None:
            return
        is_own = self._own_tables()
        by_table = {(source.schema, source.table): name for name, source in sources.items()}
        looked = [
            column
            for column in auditing.vector_columns(self.connection, pgvector.schema)
            if not is_own(column.schema, column.table) and (everything or (column.schema, column.table) in by_table)
        ]
        # what a tag follows has its stamp, as long as it does
        looked = [column for column in looked if not any(_follows(source, column) for source in sources.values())]
        known = {row.tag for row in self.ledger.tags.all()}
        served = {name for name, route in self.ledger.routes.all().items() if route.live is not None}
        yield from columns.findings(self.connection, looked, known, by_table, served)
        yield from indexes.foreign_findings(
            [
                index
                for index in all_indexes
                if not is_own(index.schema, index.table) and (everything or (index.schema, index.table) in by_table)
            ]
        )

    def _own_tables(self) -> _Own:
        routes = self.ledger.routes.all()
        recorded = {name: self.ledger.collections.recorded(name) for name in routes}
        return _Own(
            {(known.vectors_schema, f"{name}_vectors") for name, known in recorded.items() if known is not None}
        )


def _follows(source: Source, column: VectorColumn) -> bool:
    """Whether a tag of a collection takes over what is written into a column."""
    if source.followed is None or (source.schema, source.table) != (column.schema, column.table):
        return False
    return re.search(rf"\b{re.escape(column.column)}\b", source.followed.vector) is not None


@dataclass(frozen=True, slots=True)
class _Own:
    """Tells vecmig's tables by their names."""

    vectors: Iterable[tuple[str, str]]

    def __call__(self, schema: str, table: str) -> bool:
        return any(
            schema == vectors_schema and (table == name or table.startswith(f"{name}_"))
            for vectors_schema, name in self.vectors
        )


def _unreadable(collection: Collection, error: ConfigError | DatabaseError) -> Finding:
    return Finding(
        "source replaced" if isinstance(error, SourceReplaced) else "unreadable source",
        "error",
        collection.name,
        None,
        ".".join(collection.source),
        error.message,
        error.hint or "Correct collections.yaml, then: vecmig audit",
    )
