"""What the ledger knows of a collection's source, and whether what is there now is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vecmig.errors import DatabaseError
from vecmig.model.adoption import AdoptedTag
from vecmig.model.collection import Collection, LiveColumns
from vecmig.model.index import Index
from vecmig.source.key_types import is_wider
from vecmig.source.source import Source


def columns_said(recorded: Any) -> LiveColumns:
    """Read what the ledger keeps of ``live_columns``."""
    return tuple(recorded) if isinstance(recorded, list) else recorded


@dataclass(frozen=True, slots=True)
class Recorded:
    """One collection as it was written down last."""

    #: With the names that source and key had then.
    collection: Collection
    #: What the vectors table calls the key columns.
    stored: tuple[str, ...]
    key_types: tuple[str, ...]
    #: The source and the numbers of its key columns. None where they were never written down, or in another database
    #: (of which this one is a copy): there, names count.
    oid: int | None
    key_numbers: tuple[int, ...]
    #: The numbers of all columns, by the names that they had.
    numbers: Mapping[str, int]
    #: The schema of what applications read: what it is called now, and then.
    home: str
    home_then: str
    #: The schema of the vectors table.
    vectors_schema: str
    #: The tags that have adopted vectors.
    adopted: tuple[AdoptedTag, ...] = ()
    #: The tags that derive from another one which was not retired, each with that.
    derived: tuple[tuple[str, str], ...] = ()
    #: How the vectors of each tag are indexed that was not retired.
    indexes: tuple[tuple[str, Index], ...] = ()

    @classmethod
    def from_row(cls, row: tuple[Any, ...], ledger: str) -> Recorded:
        """Read a row of ``collections`` in the ledger of a schema."""
        name, schema, table, names, stored, types, text, where, storage, metric, tracking, shown, *identity = row
        oid, key_numbers, numbers, home, home_then, place, adopted, derived, indexes = identity
        base = Collection(name, (schema, table), tuple(names), text, where, storage, metric, None, tracking)
        collection = replace(base, live_columns=columns_said(shown))
        return cls(
            collection,
            tuple(stored),
            tuple(types),
            oid,
            tuple(key_numbers or ()),
            numbers or {},
            home,
            home_then,
            home if place is None else place or ledger,
            tuple(
                AdoptedTag.from_mapping(tag, said, kind, follows=state != "retired")
                for tag, said, kind, state in adopted or ()
            ),
            tuple((tag, base) for tag, base in derived or ()),
            tuple((tag, Index.from_mapping(said)) for tag, said in indexes or ()),
        )

    def changes(self, source: Source) -> list[str]:
        """Name what the vectors rest on and is otherwise now, as ``field: then → now``."""
        then, found = list(self.collection.source), [source.schema, source.table]
        fields = ["source_schema", "source_table"]
        if self.oid is not None and self.oid == source.oid:
            then, found, fields = [], [], []
        changed = [f"{field}: {old} → {new}" for field, old, new in zip(fields, then, found, strict=True) if old != new]
        numbers = [column.number for column in source.key]
        names = [column.name for column in source.key]
        if (self.oid, list(self.key_numbers)) != (source.oid, numbers) and list(self.collection.key) != names:
            changed.append(f"key_columns: {list(self.collection.key)} → {names}")
        return changed + self.form_changes(source)

    def form_changes(self, source: Source) -> list[str]:
        """Name what the form of the vectors themselves rests on and is otherwise now."""
        then, now = self.collection, source.collection
        return [
            f"{field}: {getattr(then, field)} → {getattr(now, field)}"
            for field in ("storage", "metric")
            if getattr(then, field) != getattr(now, field)
        ]

    def edited(self, source: Source) -> bool:
        """Whether collections.yaml says otherwise how its records are read."""
        then, now = self.collection, source.collection
        fields = ("text", "where", "change_tracking", "live_columns")
        return any(getattr(then, field) != getattr(now, field) for field in fields)

    def widened(self, source: Source) -> bool:
        """Whether the key takes more values than the vectors table does."""
        return self.key_types != tuple(self._types(source))

    def _types(self, source: Source) -> list[str]:
        """Give the types of the key now; an earlier vecmig wrote them by the session's search_path, without schema."""
        now = [column.type for column in source.key]
        if [type_.rpartition(".")[2] for type_ in now] == list(self.key_types):
            return list(self.key_types)
        return now

    def require_key(self, source: Source) -> None:
        """Refuse a key whose values the vectors table does not take, be it altered.

        Raises:
            DatabaseError: it has another type than before, which does not take all that it had.
        """
        types = self._types(source)
        if len(types) != len(self.key_types) or not all(map(is_wider, self.key_types, types)):
            raise DatabaseError(
                f"The key of {source.collection.name} was {', '.join(self.key_types)} when its vectors were made, and "
                f"is {', '.join(types)} now.",
                state="Nothing was changed.",
                hint="Only a type that takes all values of the one before is followed. Change it back, or give the "
                "collection another name in collections.yaml: it is embedded beside this one.",
            )

    def differs(self, source: Source) -> bool:
        """Whether it is to be written down again: it was edited, or something has another name or number now."""
        names = (source.schema, source.table), tuple(column.name for column in source.key)
        return (
            self.edited(source)
            or self.widened(source)
            or self.oid != source.oid
            or (self.collection.source, self.collection.key) != names
            or self.home != self.home_then
        )
