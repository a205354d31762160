"""Vectors outside of vecmig's tables: columns of the application's own, where nothing says what made a vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from vecmig.inventory.auditing import ColumnCount, VectorColumn, count_column
from vecmig.postgres.sessions import Connection
from vecmig.runner.verbs.audit.finding import Finding
from vecmig.text import counted


def findings(
    connection: Connection,
    columns: Collection[VectorColumn],
    known: Collection[str],
    sources: Mapping[tuple[str, str], str],
    served: Collection[str],
) -> Iterator[Finding]:
    """Count what is in such columns.

    Args:
        connection: where.
        columns: the columns to look at; none of vecmig's own.
        known: the tags that the ledger knows.
        sources: the collection that reads a table, by its schema and name.
        served: the collections of which a tag is live.
    """
    for column in columns:
        collection = sources.get((column.schema, column.table))
        if not column.readable:
            yield _unread(column, collection)
            continue
        count = count_column(connection, column, sorted(known))
        figures: dict[str, object] = {
            "vectors": count.vectors,
            "untagged": count.untagged,
            "unknown": count.unknown,
            "type": column.type,
        }
        figures |= {"unknown_tags": list(count.unknown_tags)}
        fix = _fix(column, collection, served=collection in served)
        for kind, detail in _details(column, count):
            yield Finding(kind, "warning", collection, None, _thing(column), detail, fix, figures)


def _details(column: VectorColumn, count: ColumnCount) -> Iterator[tuple[str, str]]:
    if count.untagged:
        beside = "no column says which model made them"
        if column.tag_column:
            beside = f"{column.tag_column} is empty beside them"
        yield "untagged vectors", f"{counted(count.untagged, 'vector')} of type {column.type}, and {beside}."
    if count.unknown:
        tags = ", ".join(count.unknown_tags)
        yield "unknown tag", f"{counted(count.unknown, 'vector')} with tags that are not recorded: {tags}."


def _fix(column: VectorColumn, collection: str | None, *, served: bool) -> str:
    first = f"Let searches read {collection}_live instead"
    if not served:
        how = "vecmig upgrade head" if collection else "describe the table in collections.yaml, then: vecmig revision"
        first = (
            f"Have them adopted (vecmig discover), or the records embedded under a tag ({how}); let searches read that"
        )
    drop = f"ALTER TABLE {column.object} DROP COLUMN {column.quoted};"
    return f"{first}; once nothing names the column, as LangChain and LlamaIndex do with each document: {drop}"


def _unread(column: VectorColumn, collection: str | None) -> Finding:
    return Finding(
        "column not read",
        "unchecked",
        collection,
        None,
        _thing(column),
        f"It holds values of type {column.type}; this role may not read all rows of the table.",
        f"GRANT SELECT ON {column.object} TO the role that runs vecmig; with row-level security it needs BYPASSRLS.",
        {"type": column.type},
    )


def _thing(column: VectorColumn) -> str:
    return f"{column.object}.{column.quoted}"
