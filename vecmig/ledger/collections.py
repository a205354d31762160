"""The collections as they were recorded last, and which relations their sources are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import sql
from sqlalchemy import case, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.errors import DatabaseError, NotRecorded
from vecmig.ledger.part import Part, Tables
from vecmig.ledger.recorded import Recorded
from vecmig.ledger.tables import COLLECTION
from vecmig.model.collection import Collection
from vecmig.postgres.named_sql import statement
from vecmig.source.source import Source

#: What a collection that is recorded again has otherwise.
_FOLLOWED = (
    *("source_schema", "source_table", "key_types"),
    *("text_expression", "where_expression", "change_tracking", "live_columns"),
)


class Collections(Part):
    """The table ``collection``. What identifies a source stands in PostgreSQL's catalogs, which SQL reads."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        schema = sql.Identifier(tables.schema)
        self._sql = {"schema": schema, "identity": statement("ledger/collections", "identity")}

    def get(self, name: str) -> Collection:
        """Return one collection as it was recorded last.

        Raises:
            NotRecorded: the database does not know it.
        """
        recorded = self._all()
        if name not in recorded:
            raise NotRecorded(
                f"This database has no collection {name}.",
                hint=f"Its collections are: {', '.join(sorted(recorded)) or 'none yet; run: vecmig upgrade head'}",
            )
        return recorded[name].collection

    def recorded(self, name: str) -> Recorded | None:
        """Return what is known of the source of one collection; None where it was never recorded."""
        return self._all().get(name)

    def _all(self) -> dict[str, Recorded]:
        if not self._tables.installed:
            return {}
        rows = self._tables.connection.execute(statement("ledger/collections", "collections", **self._sql))
        return {row[0]: Recorded.from_row(row, self._tables.schema) for row in rows.fetchall()}

    def edited(self, source: Source) -> bool:
        """Return whether a recorded collection is configured otherwise now, in a way that can be followed.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        recorded = self.unchanged(source)
        return recorded is not None and recorded.edited(source)

    def differs(self, source: Source) -> bool:
        """Return whether a recorded collection is configured or called otherwise now, in a way that can be followed.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        recorded = self.unchanged(source)
        return recorded is not None and recorded.differs(source)

    def require_form(self, source: Source) -> None:
        """Refuse a collection whose vectors are recorded in another form than it is configured with.

        Raises:
            DatabaseError: they are.
        """
        recorded = self.recorded(source.collection.name)
        if recorded is not None and (changed := recorded.form_changes(source)):
            raise _otherwise(source, changed)

    def record(self, source: Source) -> None:
        """Write down a collection as it is configured now, and which relation its source is, whatever was before."""
        collection = source.collection
        entry = insert(COLLECTION).values(
            name=collection.name,
            source_schema=source.schema,
            source_table=source.table,
            key_columns=[column.stored for column in source.key],
            key_types=[column.type for column in source.key],
            text_expression=collection.text,
            where_expression=collection.where,
            storage=collection.storage,
            metric=collection.metric,
            change_tracking=collection.change_tracking,
            live_columns=collection.live_columns,
            vectors_schema=self._placed(source.vectors_schema),
        )
        followed: dict[str, Any] = {name: entry.excluded[name] for name in _FOLLOWED}
        # what a view of an earlier vecmig showed counts until something is said
        followed["kept_columns"] = case((entry.excluded.live_columns.is_(None), COLLECTION.c.kept_columns))
        self._tables.write_one(entry.on_conflict_do_update(index_elements=[COLLECTION.c.name], set_=followed))
        self._tables.connection.execute(
            statement("ledger/collections", "record_identity", **self._sql),
            {
                "name": collection.name,
                "source": source.relation.as_string(self._tables.connection),
                "key_names": [column.name for column in source.key],
                "home": source.home,
            },
        )

    def record_place(self, source: Source) -> None:
        """Write down where the vectors of a collection lie now."""
        place = self._placed(source.vectors_schema)
        one = COLLECTION.c.name == source.collection.name
        self._tables.write_one(update(COLLECTION).where(one).values(vectors_schema=place))

    def _placed(self, schema: str) -> str:
        """Return a schema as it is written down: vecmig's own may be called otherwise one day."""
        return "" if schema == self._tables.schema else schema

    def unchanged(self, source: Source) -> Recorded | None:
        """Return what is recorded of a collection, if it is as the vectors rest on it.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric.
        """
        recorded = self.recorded(source.collection.name)
        if recorded is not None and (changed := recorded.changes(source)):
            raise _otherwise(source, changed)
        return recorded


def _otherwise(source: Source, changed: Iterable[str]) -> DatabaseError:
    name = source.collection.name
    return DatabaseError(
        f"Collection {name} is recorded otherwise than collections.yaml has it: {'; '.join(changed)}.",
        state="Nothing was changed.",
        hint="Its vectors rest on these. Take the change back, or give the collection a new name.",
    )
