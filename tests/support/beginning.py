"""Where a project stands when a test begins: reached once a run, and copied for each test that begins there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from support.embedding import Model, fresh_model
from support.lab import Lab, create_documents
from support.postgres import Postgres
from vecmig.events import Event

#: The ledger knows a source by its oid in the database where this was written down, and a copy has all of them.
OWN = r"""
UPDATE vecmig.collection SET identity_of = regexp_replace(identity_of, '/\d+/', '/' || d.oid || '/')
FROM pg_database d WHERE d.datname = current_database()"""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A database that nobody changes, and what else its upgrade left behind."""

    database: str
    #: What ``Lab.write`` was told.
    changes: Mapping[str, Any]
    embedded: Counter[tuple[int, str]]
    events: list[Event]

    def take(self, lab: Lab, model: Model) -> Lab:
        """Bring a lab on a copy of the database, and its model, to where the upgrade has left them."""
        lab.sql(OWN)
        model.embedded.update(self.embedded)
        lab.events.extend(self.events)
        return lab.write(**self.changes)


def begin(
    postgres: Postgres,
    directories: pytest.TempPathFactory,
    target: str | None = None,
    *,
    until: str | None = None,
    records: int = 20,
    **changes: Any,
) -> Beginning:
    """Return where a lab with so many records stands when it is upgraded; the first time, go there.

    target: the revision to reach; those before it are live. None: the last one.
    until: how far it goes; None: until it is live.
    changes: what ``Lab.write`` is told.
    """

    def upgrade(url: str) -> tuple[Counter[tuple[int, str]], list[Event]]:
        with psycopg.connect(url, autocommit=True) as connection:
            create_documents(connection, records)
        with fresh_model() as model:
            lab = Lab(directories.mktemp("beginning"), url).write(**changes)
            revisions = [f"r{number + 1}" for number in range(len(lab.chain))]
            reached = revisions.index(target or revisions[-1])
            if until and reached:
                lab.upgrade(revisions[reached - 1])
            lab.upgrade(revisions[reached], until=until)
        return model.embedded, lab.events

    database, (embedded, events) = postgres.prepared(repr((target, until, records, changes)), upgrade)
    return Beginning(database, changes, embedded, events)
