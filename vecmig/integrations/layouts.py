"""How a framework keeps a document in a row: which column is its id, and where its metadata stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vecmig.errors import UsageError
from vecmig.reader import Hit

#: Under this name the metadata of a document says where it comes from.
OWN: Final = "vecmig"


@dataclass(frozen=True, slots=True)
class Equality:
    """One condition on metadata: its value is one of these."""

    name: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row has what a framework calls id and metadata."""

    #: None where it is the collection's key.
    id_column: str | None = None
    #: A column of json or jsonb.
    metadata_column: str | None = None
    #: Columns of their own that are metadata, too.
    metadata_columns: tuple[str, ...] = ()

    def id_of(self, hit: Hit) -> str:
        """Return the id that the framework gave: its column, or the key; one of several columns as ``acme:3``.

        A colon or a percent sign in one of several is escaped as in a URL.
        """
        own = None if self.id_column is None else hit.record.get(self.id_column)
        if own is not None:
            return str(own)
        if len(hit.key) == 1:
            return str(hit.key[0])
        return ":".join(str(part).replace("%", "%25").replace(":", "%3A") for part in hit.key)

    def metadata_of(self, hit: Hit) -> dict[str, Any]:
        """Return the metadata as the framework would have given it, and under ``vecmig`` tag, chunk and distance."""
        found = None if self.metadata_column is None else hit.record.get(self.metadata_column)
        if found is not None and not isinstance(found, dict):
            raise UsageError(
                f"metadata_column is {self.metadata_column}, and record {self.id_of(hit)} has no JSON object there.",
                hint="Name a column of json or jsonb, or the columns that are metadata as metadata_columns.",
            )
        columns = {name: hit.record.get(name) for name in self.metadata_columns}
        return {**(found or {}), **columns, OWN: {"tag": hit.tag, "chunk": hit.chunk, "distance": hit.distance}}

    def condition(self, equalities: Iterable[Equality]) -> tuple[str | None, list[Any]]:
        """Return a condition over the source's columns, and the values of its placeholders; None where all pass.

        Values in JSON are compared as JSON: 5 is not "5". A name in there is sent as a value, too, so none can be SQL.

        Raises:
            UsageError: the layout has no such metadata, or nothing can be equal to a value.
        """
        parts: list[str] = []
        params: list[Any] = []
        for equality in equalities:
            values = [_comparable(equality.name, value) for value in equality.values]
            if not values:
                raise unknown_filter({equality.name: values})
            if equality.name in self.metadata_columns:
                left, placeholder = _quoted(equality.name), "%s"
            elif self.metadata_column is not None:
                left, placeholder = f"({_quoted(self.metadata_column)}::jsonb -> %s::text)", "%s::jsonb"
                params.append(equality.name)
                values = [json.dumps(value) for value in values]
            else:
                raise UsageError(
                    f"The filter asks for {equality.name}, which is no metadata of this retriever.",
                    hint="Name its column in metadata_columns, or the column of JSON that has it as metadata_column.",
                )
            parts.append(f"{left} IN ({', '.join([placeholder] * len(values))})")
            params += values
        return " AND ".join(parts) or None, params


#: Columns that only one layout has, and that layout.
_KNOWN: Final = (
    ({"collection_id", "document", "cmetadata"}, Layout(None, "cmetadata")),
    ({"langchain_id", "langchain_metadata"}, Layout("langchain_id", "langchain_metadata")),
    ({"node_id", "metadata_", "text"}, Layout("node_id", "metadata_")),
)


def layout_of(
    columns: Sequence[str],
    *,
    id_column: str | None = None,
    metadata_column: str | None = None,
    metadata_columns: Sequence[str] = (),
) -> Layout:
    """Return the layout of a table with these columns: what is named, and else what is known of the framework's own.

    Raises:
        UsageError: the table has no column of a name that is given.
    """
    for name in (id_column, metadata_column, *metadata_columns):
        if name is not None and name not in columns:
            raise UsageError(f"The source has no column {name}.", hint=f"Its columns are: {', '.join(columns)}")
    known = next((layout for marks, layout in _KNOWN if marks <= set(columns)), Layout())
    return Layout(id_column or known.id_column, metadata_column or known.metadata_column, tuple(metadata_columns))


def unknown_filter(what: object) -> UsageError:
    """Return the error for a filter that is more than equality."""
    return UsageError(
        f"The filter {what!r} asks for more than equality.",
        hint="Write it as SQL over the source's columns: where= with %s for each value, and the values as params=.",
    )


def _comparable(name: str, value: Any) -> Any:
    if value is None or isinstance(value, list | tuple | set | dict):
        raise unknown_filter({name: value})
    return value


def _quoted(name: str) -> str:
    """Write a column's name in a condition, where a percent sign stands twice."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'
