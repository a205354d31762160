"""What an audit asks of a database: facts as they are, judged elsewhere. Everything here reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.named_sql import Fragment, statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

#: What changes rows, in the words of a statement or a function body; the table's name follows.
_WRITES: Final = r"\m(insert\s+into|update|copy|delete\s+from|merge\s+into)\s+(only\s+)?([\w\"]+\.)?\"?"


@dataclass(frozen=True, slots=True)
class Fault:
    """Records of one tag that do not fit, all in the same way."""

    #: orphaned, emptied, missing, incomplete or stale.
    kind: str
    #: Whether the outbox knows that they changed.
    known: bool
    records: int
    #: When the first of them changed, where the outbox knows it.
    since: datetime | None
    #: The first keys, at most three, each as the text of a JSON array.
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One relation that is, was or is called like a partition of a vectors table."""

    name: str
    #: Schema and name, quoted where that is needed.
    object: str
    #: attached, pending (on its way out) or detached.
    state: str
    #: ``FOR VALUES IN (…)``, ``DEFAULT``, or nothing.
    bound: str
    #: Rows updated in place since the statistics were reset.
    updated: int
    bytes: int
    #: Whether its row-level security is on.
    row_security: bool


@dataclass(frozen=True, slots=True)
class Names:
    """How SQL writes a collection's objects: with their schema, quoted only where that is needed."""

    source: str
    vectors: str
    live: str


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """One column of pgvector's types in a table that is not vecmig's."""

    schema: str
    table: str
    column: str
    #: Schema and table, and the column, quoted where that is needed.
    object: str
    quoted: str
    type: str
    #: The column ``<column>_tag`` beside it, if there is one.
    tag_column: str | None
    #: Whether this role sees all rows.
    readable: bool


@dataclass(frozen=True, slots=True)
class ColumnCount:
    """The vectors in such a column: all, those without a tag, and those whose tag the ledger does not know."""

    vectors: int
    untagged: int
    #: A few of the tags that the ledger does not know.
    unknown_tags: tuple[str, ...]
    unknown: int


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """One index of pgvector's."""

    schema: str
    table: str
    name: str
    #: Schema and name, quoted where that is needed.
    object: str
    method: str
    valid: bool
    opclass: str
    definition: str
    scans: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What one role was granted on one relation."""

    object: str
    #: Quoted where that is needed; None for PUBLIC.
    role: str | None
    privileges: tuple[str, ...]
    #: Whether the role may read all of the source.
    reads_source: bool


@dataclass(frozen=True, slots=True)
class Policies:
    """Row-level security of a vectors table."""

    enabled: bool
    as_source: bool
    #: Other permissive policies that show rows.
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Writer:
    """Who inserted vectors past vecmig: rows of one tag by one role and application."""

    role: str
    application: str
    tag: str
    rows: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class WritingSession:
    """Sessions that are writing to the vectors at this moment."""

    role: str
    application: str
    address: str | None
    sessions: int


@dataclass(frozen=True, slots=True)
class WritingStatements:
    """What pg_stat_statements has of statements that write to the vectors, by role."""

    role: str
    calls: int
    rows: int
    #: The beginning of one of them, as pg_stat_statements has it: without its values.
    query: str


def clock(connection: Connection) -> tuple[datetime, datetime | None]:
    """Give the time now, and since when the server counts; None where it was never told to start again."""
    row = connection.execute(statement("inventory/auditing", "clock")).fetchone()
    assert row is not None, "it gives one row"
    return row


def names(connection: Connection, source: Source) -> Names:
    """Give the names of a collection's objects as a person would write them."""
    values = {"schema": source.schema, "table": source.table, "home": source.home, "vectors": source.vectors_schema}
    values["collection"] = source.collection.name
    row = connection.execute(statement("inventory/auditing", "names"), values).fetchone()
    assert row is not None, "it gives one row"
    return Names(*row)


# Records and vectors -----------------------------------------------------------------------------------------------


def faults(connection: Connection, stamps: Stamps) -> list[Fault]:
    """Compare a tag's vectors with the records, in one pass over both.

    Raises:
        DatabaseError: the text of a record cannot be made; nothing is compared.
    """
    source = stamps.source
    named = [sql.Identifier(column.stored) for column in source.key]
    pairs = list(zip(source.aliases, named, strict=True))
    found = sql.SQL(", ").join(sql.SQL("coalesce(s.{}, v.{}) AS {}").format(a, name, a) for a, name in pairs)
    query = stamps.statement(
        "inventory/auditing",
        "faults",
        rows=source.rows,
        key_json=source.key_json("f"),
        f_keys=source.alias_list("f"),
        found_keys=found,
        v_keys=source.stored_list("v"),
        same=source.match_stored("s", "v"),
        all_chunks=statement("inventory/auditing", "all_chunks" if stamps.chunks else "one_chunk"),
        rejected_key=source.match_json("f", "r"),
        changed_key=source.match_json("f", "c"),
    )
    try:
        with connection.transaction():
            rows = connection.execute(query, stamps.values).fetchall()
    except psycopg.DataError as error:
        raise DatabaseError(
            f"The records could not be compared: {error.diag.message_primary}.",
            hint="Correct the record, or text: and where: in collections.yaml, then: vecmig audit",
        ) from None
    return [Fault(kind, known, records, since, tuple(keys)) for kind, known, records, since, keys in rows]


def partitions(connection: Connection, source: Source) -> list[Part]:
    """Give everything that is part of the vectors table, and what is called as if it were."""
    values = {
        "vectors": source.vectors.as_string(None),
        "schema": source.vectors_schema,
        "prefix": f"{source.collection.name}_vectors_",
    }
    return [Part(*row) for row in connection.execute(statement("inventory/auditing", "partitions"), values)]


def tags_in(connection: Connection, relation: str) -> dict[str, int]:
    """Count the rows of a relation, named as SQL has it, by tag; the five tags with most of them."""
    return dict(connection.execute(statement("inventory/auditing", "tags_in", stamps=Fragment(relation))).fetchall())


def vector_columns(connection: Connection, pgvector: str) -> list[VectorColumn]:
    """Give the columns of pgvector's types in this database; vecmig's own are among them."""
    return [
        VectorColumn(*r)
        for r in connection.execute(statement("inventory/auditing", "vector_columns"), {"pgvector": pgvector})
    ]


def count_column(connection: Connection, column: VectorColumn, known: Sequence[str]) -> ColumnCount:
    """Count the vectors in a column in one pass over its table; the vectors themselves are not read."""
    parts = {"column": sql.Identifier(column.column), "relation": sql.Identifier(column.schema, column.table)}
    if column.tag_column is None:
        row = connection.execute(statement("inventory/auditing", "count_untagged", **parts), {}).fetchone()
    else:
        query = statement("inventory/auditing", "count_tagged", tag=sql.Identifier(column.tag_column), **parts)
        row = connection.execute(query, {"known": list(known)}).fetchone()
    assert row is not None, "it gives one row"
    return ColumnCount(row[0], row[1], tuple(row[2] or ()), row[3])


def indexes(connection: Connection) -> list[VectorIndex]:
    """Give pgvector's indexes in this database, but for those that are being built now."""
    return [VectorIndex(*row) for row in connection.execute(statement("inventory/auditing", "indexes"))]


# Who may, and who does ---------------------------------------------------------------------------------------------


def migrators(connection: Connection, schema: str) -> tuple[str, ...]:
    """Name the roles that ever worked as vecmig here, and this one."""
    rows = connection.execute(statement("inventory/auditing", "migrators", schema=sql.Identifier(schema)))
    return tuple(row[0] for row in rows)


def grants(connection: Connection, source: Source, relations: Iterable[str], roles: Sequence[str]) -> list[Grant]:
    """Give what roles beside the owner and ``roles`` were granted on relations of a collection, named with schema."""
    values = {"source": source.relation.as_string(None), "relations": list(relations), "migrators": list(roles)}
    rows = connection.execute(statement("inventory/auditing", "privileges"), values)
    return [Grant(name, role, tuple(privileges), reads) for name, role, privileges, reads in rows]


def shut_out(connection: Connection, source: Source, relation: sql.Identifier) -> list[str | None]:
    """Name the roles that may read all of the source, but not a relation of its collection.

    They are quoted where that is needed; None is PUBLIC.
    """
    values = {"source": source.relation.as_string(None), "relation": relation.as_string(None)}
    return [row[0] for row in connection.execute(statement("inventory/auditing", "shut_out"), values)]


def policies(connection: Connection, source: Source) -> Policies:
    """Look at the row-level security of the vectors table."""
    row = connection.execute(
        statement("inventory/auditing", "policies"), {"vectors": source.vectors.as_string(None)}
    ).fetchone()
    return Policies(row[0], row[1], tuple(row[2])) if row else Policies(False, False, ())


def with_owners_rights(connection: Connection, source: Source) -> tuple[bool, list[str]]:
    """Tell whether the live view runs with its owner's rights, and which search functions do."""
    values = {"live": source.live.as_string(None), "schema": source.home, "search": f"{source.collection.name}_search"}
    row = connection.execute(statement("inventory/auditing", "rights_of_owner"), values).fetchone()
    return (row[0], list(row[1])) if row else (False, [])


def trigger_faults(connection: Connection, source: Source, schema: str, names: Sequence[str]) -> dict[str, str]:
    """Give those of the triggers that are gone, disabled, or call another function than vecmig's, and which."""
    function = f"{source.collection.name}_track"
    values = {"source": source.relation.as_string(None), "names": list(names), "ledger": schema, "function": function}
    return dict(connection.execute(statement("inventory/auditing", "triggers"), values).fetchall())


def writers(connection: Connection, source: Source) -> list[Writer]:
    """Give who inserted vectors past vecmig, by what the table itself has noted of them; one pass over the vectors."""
    return [
        Writer(*row)
        for row in connection.execute(statement("inventory/auditing", "writers", vectors=source.vectors), {})
    ]


def sessions(connection: Connection, source: Source, relations: Iterable[str]) -> list[WritingSession]:
    """Give the sessions in whose open transaction vectors are written past vecmig."""
    values = {"source": source.relation.as_string(None), "relations": list(relations)}
    return [WritingSession(*row) for row in connection.execute(statement("inventory/auditing", "sessions"), values)]


def functions(connection: Connection, source: Source, schema: str) -> list[tuple[str, tuple[str, ...]]]:
    """Give the functions whose text writes to the vectors table, each with the tables on which triggers call it."""
    values = {"ledger": schema, "pattern": _writing(source)}
    return [
        (name, tuple(tables))
        for name, tables in connection.execute(statement("inventory/auditing", "functions"), values)
    ]


def statements(connection: Connection, source: Source, roles: Sequence[str]) -> list[WritingStatements] | None:
    """Give what pg_stat_statements has of writes to the vectors by other roles than ``roles``; None without it."""
    found = connection.execute(statement("inventory/auditing", "statements_view"), {}).fetchone()
    if found is None:
        return None
    query = statement("inventory/auditing", "statements", view=Fragment(found[0]))
    try:
        with connection.transaction():
            rows = connection.execute(query, {"pattern": _writing(source), "migrators": list(roles)}).fetchall()
    except psycopg.Error:
        # installed, but not loaded when the server began, or not for this role to read
        return None
    return [WritingStatements(*row) for row in rows]


def _writing(source: Source) -> str:
    return _WRITES + re.escape(f"{source.collection.name}_vectors") + r"(_[0-9a-f]{8})?\M"
