"""The ledger: which revisions ran, which tags exist, which tag a collection's reads use, and who did what when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, cast, func, insert, select

from vecmig.errors import DatabaseError
from vecmig.ledger.batch_orders import forget_orders
from vecmig.ledger.collections import Collections
from vecmig.ledger.part import Tables
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.revisions import Revisions, Statements
from vecmig.ledger.routes import Routes
from vecmig.ledger.rows import Actor
from vecmig.ledger.tables import EVENT, TAG
from vecmig.ledger.tags import Rejections, Tags
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


class Ledger:
    """Vecmig's tables on one connection, part by part. Where they are not installed, there is nothing to read."""

    def __init__(
        self, connection: Connection, schema: str, actor: Actor | None = None, *, vectors_schema: str | None = None
    ) -> None:
        """Open it.

        Args:
            connection: the connection.
            schema: of vecmig's own tables.
            actor: who writes.
            vectors_schema: where the vectors of a new collection go; None for vecmig's own schema.
        """
        self.connection = connection
        self.schema = schema
        self.vectors_schema = vectors_schema or schema
        self._actor = actor or Actor(host="", version="")
        self._tables = Tables(connection, schema)
        self.revisions = Revisions(self._tables)
        self.statements = Statements(self._tables)
        self.collections = Collections(self._tables)
        self.tags = Tags(self._tables)
        self.rejections = Rejections(self._tables)
        self.routes = Routes(self._tables)

    @property
    def installed(self) -> bool:
        """Whether vecmig's tables are in this database."""
        return self._tables.installed

    def record_collection(self, source: Source) -> None:
        """Write down a collection as it is configured now, and which relation its source is.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        self.collections.unchanged(source)
        self.collections.record(source)
        self.routes.record(source.collection.name)

    def retire(self, collection: str, tag: str, figures: Mapping[str, Any]) -> None:
        """Enter that a tag's vectors go: from now on nothing reads, fills or goes back to it.

        Raises:
            DatabaseError: reads use the tag, or it is on its way to be used.
        """
        if not self.routes.leave(collection, tag):
            raise DatabaseError(
                f"Reads of {collection} have moved meanwhile, and {tag} is needed.",
                state="Nothing was changed.",
                hint="Run: vecmig status",
            )
        self.revisions.retire(collection, tag)
        self.tags.set_state(collection, tag, "retired")
        self.rejections.forget(collection, tag)
        forget_orders(self.connection, self.schema, collection, tag)
        self.record_event("retire", collection=collection, tag=tag, data=figures)
        self.routes.announce(collection)

    def live_revision(self, collection: str) -> RevisionRow | None:
        """Return the revision that led to the tag that reads use; None where no tag is live."""
        live = self.routes.of(collection).live
        rows = [row for row in self.revisions.all().values() if row.applied and row.collection == collection]
        led = [row for row in rows if live is not None and row.new_tag == live and not row.index_only]
        return max(led, key=lambda row: row.live_at or row.started_at) if led else None

    def retired_at(self, collection: str, tag: str) -> datetime | None:
        """Return when a tag was retired last, by the history."""
        one = EVENT.c.collection == collection, EVENT.c.tag == tag, EVENT.c.kind.in_(("retire", "retired"))
        rows = self._tables.read(select(func.max(EVENT.c.at)).where(*one))
        return rows[0][0] if rows else None

    def record_event(
        self,
        kind: str,
        *,
        revision: str | None = None,
        collection: str | None = None,
        tag: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Append to the history: who did what, with which figures."""
        self._tables.write_one(
            insert(EVENT)
            .inline()
            .values(
                kind=kind,
                revision=revision,
                collection=collection,
                tag=tag,
                host=self._actor.host,
                git_commit=self._actor.git_commit,
                version=self._actor.version,
                data=dict(data or {}),
            )
        )

    def index_rates(self, collection: str, dims: int) -> dict[str, float]:
        """Return the vectors per second of the last index build of each type, over vectors of so many dims."""
        kind, data = EVENT.c.data["type"].astext, EVENT.c.data
        vectors, seconds = cast(data["vectors"].astext, Double), cast(data["seconds"].astext, Double)
        query = (
            select(kind, vectors / seconds)
            .join(TAG, (TAG.c.collection == EVENT.c.collection) & (TAG.c.tag == EVENT.c.tag))
            .where(EVENT.c.kind == "index", EVENT.c.collection == collection, TAG.c.dims == dims)
            .where(kind.is_not(None), vectors > 0, seconds > 0)
            .order_by(EVENT.c.id)
        )
        # the last one of a type counts
        return dict(self._tables.read(query))

    def last_rate(self, collection: str, tag: str) -> float | None:
        """Return the records per second of a tag's last backfill that wrote any; None if there was none."""
        written, seconds = EVENT.c.data["written"].astext, cast(EVENT.c.data["seconds"].astext, Double)
        query = (
            select(cast(written, Double) / seconds)
            .where(EVENT.c.kind == "backfill", EVENT.c.collection == collection, EVENT.c.tag == tag)
            .where(cast(written, BigInteger) > 0, seconds > 0)
            .order_by(EVENT.c.id.desc())
            .limit(1)
        )
        rows = self._tables.read(query)
        return rows[0][0] if rows else None
