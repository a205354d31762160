"""What an audit finds, and what it looks at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from vecmig.freshness.stamps import Stamps
from vecmig.inventory.auditing import Names, Part
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Route, TagRow
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.source.source import Source

#: error: answers are or may be wrong, or vectors are open to those who may not see their records. warning: it costs, or
#: is on its way to be an error. unchecked: what could not be looked at.
Severity = Literal["error", "warning", "unchecked"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "unchecked")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    kind: str
    severity: Severity
    #: None where it belongs to none.
    collection: str | None
    tag: str | None
    #: What it is about: a relation, a tag, a role, a revision.
    object: str
    #: What was found, in one sentence.
    detail: str
    #: A command, SQL, or what to do first.
    fix: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the rest of the collection would be measured against the wrong thing while it stands.
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """One collection that ever had a tag, as it stands in one snapshot."""

    project: Project
    connection: Connection
    ledger: Ledger
    source: Source
    route: Route
    tags: Mapping[str, TagRow]
    parts: tuple[Part, ...]
    names: Names
    #: The roles that ever worked as vecmig here.
    migrators: tuple[str, ...]
    now: datetime

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.source.collection.name

    @property
    def argument(self) -> str:
        """The collection's name as a shell takes it."""
        return shlex.quote(self.name)

    @property
    def vectors(self) -> str:
        """The vectors table as SQL writes it."""
        return self.names.vectors

    @property
    def live_view(self) -> str:
        """The live view as SQL writes it."""
        return self.names.live

    @property
    def table(self) -> str:
        """The source as SQL writes it."""
        return self.names.source

    @property
    def relations(self) -> tuple[str, ...]:
        """The vectors table, and all that is or is called like a partition of it."""
        return (self.vectors, *(part.object for part in self.parts))

    @property
    def kept(self) -> dict[str, TagRow]:
        """The tags that were not retired."""
        return {tag: row for tag, row in self.tags.items() if row.state != "retired"}

    @property
    def served(self) -> tuple[str, ...]:
        """The tags that must be complete now: live and standby. A candidate is only on its way."""
        return tuple(tag for tag in (self.route.live, self.route.standby) if tag is not None)

    def stamps(self, tag: str) -> Stamps:
        """Return the stamps of a tag."""
        return self.project.context.stamps(self.source, tag)

    def part(self, tag: str) -> Part | None:
        """Return the partition of a tag, wherever it is."""
        return next((part for part in self.parts if part.name == self.source.partition_name(tag)), None)

    def attached(self, tag: str) -> bool:
        """Whether a tag's vectors are where searches look for them."""
        part = self.part(tag)
        return part is not None and part.state == "attached"

    def finding(
        self,
        kind: str,
        severity: Severity,
        thing: str,
        detail: str,
        fix: str,
        *,
        tag: str | None = None,
        **figures: Any,
    ) -> Finding:
        """Make a finding of this collection."""
        return Finding(kind, severity, self.name, tag, thing, detail, fix, figures)
