"""Create and drop the vectors table and its partitions. Every statement is safe to repeat."""

from __future__ import annotations

import re
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.coverage import Coverage, count_records, measure_coverage
from vecmig.freshness.stamps import Space
from vecmig.ledger.access import close_table, ensure_schema, ledger_comment, mirror_access
from vecmig.model.tag import NORM_TOLERANCE, Tag
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.relations import exists
from vecmig.source.source import Source

#: The constraint with which the database itself vouches for every vector of a partition.
CONSTRAINT: Final = "vecmig_vector"
#: The comment on a vectors table says which ledger knows of it.
_LEDGER: Final = re.compile(r'vecmig \(ledger in schema "((?:[^"]|"")*)"\)')


def create_vectors_table(connection: Connection, source: Source, schema: str) -> None:
    """Create the partitioned table of a collection, readable by whoever may read the source, and no further.

    One that is there already is brought up to date. ``schema`` is the ledger's: two ledgers never share a table.

    Raises:
        DatabaseError: a table of that name belongs to somebody else, or to another ledger.
    """
    if exists(connection, source.vectors):
        _require_ours(connection, source, schema)
        _update(connection, source)
    else:
        ensure_schema(connection, schema, source.vectors_schema)
        _create(connection, source)
    comment = sql.Literal(f"{ledger_comment(schema)}: the vectors of {source.collection.name}, one partition per tag")
    if _comment_is_old(connection, source):
        connection.execute(statement("homes/table", "comment_table", vectors=source.vectors, comment=comment))
    mirror_access(connection, source, schema)


def _create(connection: Connection, source: Source) -> None:
    columns = sql.SQL(", ").join(
        # in the source's collation, so that the index serves what is compared with it
        sql.SQL("{} {}{} NOT NULL").format(
            sql.Identifier(column.stored),
            sql.SQL(column.type),
            sql.SQL(f" COLLATE {column.collation}" if column.collation else ""),
        )
        for column in source.key
    )
    writer = statement("homes/table", "writer")
    parts = {"vectors": source.vectors, "key_columns": columns, "keys": source.stored_list(), "writer": writer}
    table_type = source.pgvector.type(source.collection.storage)
    # it has no storage of its own, and PostgreSQL refuses to be told that it lies where all lies by default
    connection.execute("SET default_tablespace TO ''")
    connection.execute(statement("homes/table", "create_table", type=table_type, **parts))
    connection.execute("SET default_tablespace TO DEFAULT")
    close_table(connection, source, source.vectors)


def _update(connection: Connection, source: Source) -> None:
    """Give a table that an earlier vecmig made the columns it lacks."""
    if not _has(connection, "has_chunks", source.vectors):
        connection.execute(statement("homes/table", "add_chunks", vectors=source.vectors))
    if not notes_writers(connection, source):
        connection.execute(
            statement("homes/table", "add_writers", vectors=source.vectors, writer=statement("homes/table", "writer"))
        )


def _comment(connection: Connection, source: Source) -> str | None:
    values = {"name": source.vectors.as_string(connection)}
    row = connection.execute(statement("homes/table", "comment"), values).fetchone()
    return row[0] if row else None


def _comment_is_old(connection: Connection, source: Source) -> bool:
    """Whether the table's comment is missing or names no ledger yet; what a team wrote itself stays."""
    comment = _comment(connection, source)
    return comment is None or comment.startswith("vecmig: ")


def _require_ours(connection: Connection, source: Source, schema: str) -> None:
    name = source.vectors.as_string(connection)
    if not _has(connection, "is_ours", source.vectors):
        raise DatabaseError(
            f"{name} is there already, and it is not vecmig's.",
            state="Nothing was changed.",
            hint="Rename it, or give the collection another name in collections.yaml.",
        )
    found = _LEDGER.match(_comment(connection, source) or "")
    ledger = schema if found is None else found[1].replace('""', '"')
    if ledger != schema:
        raise DatabaseError(
            f"The vectors in {name} belong to the ledger in schema {ledger}; this project's is in {schema}.",
            state="Nothing was changed.",
            hint=f"Set schema = {ledger} in vecmig.ini, or give the collection another name in collections.yaml.",
        )


def create_partition(connection: Connection, space: Space) -> None:
    """Create and attach the partition of one tag.

    It is attached rather than created in place: ATTACH takes only SHARE UPDATE EXCLUSIVE on the parent, so reads and
    writes of the other tags go on.
    """
    if is_attached(connection, space):
        return
    tag = sql.Literal(space.tag)
    parts = {"partition": space.relation, "vectors": space.source.vectors, "tag": tag}
    if _detach_pending(connection, space):
        # a retire that was cut short: its vectors are as good as they were
        connection.execute(
            statement("homes/retiring", "finalize", partition=space.relation, vectors=space.source.vectors)
        )
    if not exists(connection, space.relation):
        connection.execute(statement("homes/table", "create_partition", **parts))
        close_table(connection, space.source, space.relation)
        connection.execute(
            statement(
                "homes/table",
                "alter_partition",
                constraint=sql.Identifier(CONSTRAINT),
                tag_constraint=sql.Identifier("vecmig_tag"),
                condition=vector_condition(space),
                **parts,
            )
        )
        comment = sql.Literal(f"vecmig: {space.tag}")
        connection.execute(statement("homes/table", "comment_table", vectors=space.relation, comment=comment))
    connection.execute(statement("homes/table", "attach_partition", **parts))


def drop_partition(connection: Connection, space: Space) -> None:
    """Detach and drop the partition of one tag, vectors and index included."""
    parts = {"partition": space.relation, "vectors": space.source.vectors}
    if is_attached(connection, space):
        connection.execute(statement("homes/table", "detach_partition", **parts))
    if exists(connection, space.relation):
        connection.execute(statement("homes/table", "drop_partition", **parts))


def vector_condition(space: Space) -> sql.Composed:
    """What every vector of a tag must fulfil: its dims, and a length that the metric and the tag can work with."""
    pgvector, storage = space.source.pgvector, space.source.collection.storage
    embedding = sql.Identifier("embedding")
    dims = sql.SQL("{}({}) = {}").format(pgvector.function("vector_dims"), embedding, sql.Literal(space.dims))
    norm = sql.SQL("{}({})").format(pgvector.function(_norm_function(storage)), embedding)
    if Tag.parse(space.tag).norm == "l2":
        return sql.SQL("{} AND abs({} - 1) <= {}").format(dims, norm, sql.Literal(NORM_TOLERANCE))
    if space.source.collection.metric == "cosine":
        return sql.SQL("{} AND {} > 0").format(dims, norm)
    return dims


def _norm_function(storage: str) -> str:
    return "vector_norm" if storage == "vector" else "l2_norm"


def constraint_holds(connection: Connection, space: Space) -> bool:
    """Whether a validated constraint of the partition says what ``vector_condition`` does, so that no vector breaks it.

    It goes by what PostgreSQL prints for it, which is alike from 15 to 18: a name guarantees nothing, and a comment is
    lost in a dump without comments.
    """
    values = {
        "partition": space.relation.as_string(connection),
        "definition": _printed_condition(space),
        "pgvector": space.source.pgvector.schema,
    }
    with connection.transaction(force_rollback=True):
        # what is on the path is printed without its schema
        connection.execute("SET LOCAL search_path = pg_catalog")
        row = connection.execute(statement("source/catalog", "constraint"), values).fetchone()
    return row is not None and bool(row[0])


def _printed_condition(space: Space) -> str:
    """Write ``vector_condition`` as PostgreSQL prints it, without pgvector's schema, for the extension may move."""
    collection = space.source.collection
    norm = f"{_norm_function(collection.storage)}(embedding)"
    dims = f"(vector_dims(embedding) = {space.dims})"
    if Tag.parse(space.tag).norm == "l2":
        bound = f"(abs(({norm} - (1)::double precision)) <= ({NORM_TOLERANCE})::double precision)"
        return f"CHECK (({dims} AND {bound}))"
    if collection.metric == "cosine":
        return f"CHECK (({dims} AND ({norm} > (0)::double precision)))"
    return f"CHECK ({dims})"


def constraint_sql(connection: Connection, space: Space) -> str:
    """Write the statement that gives a partition its constraint again; it reads every vector of it."""
    parts = {
        "partition": space.relation,
        "constraint": sql.Identifier(CONSTRAINT),
        "condition": vector_condition(space),
    }
    return statement("homes/table", "restore_constraint", **parts).as_string(connection) + ";"


def notes_writers(connection: Connection, source: Source) -> bool:
    """Whether the vectors table notes who inserts past vecmig; one of an earlier version does not yet."""
    return _has(connection, "has_writers", source.vectors)


def is_attached(connection: Connection, space: Space) -> bool:
    """Whether the partition of a tag is part of the vectors table."""
    relations = {"partition": space.relation, "vectors": space.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/table", "attached"), values).fetchone()
    return bool(row and row[0])


def _detach_pending(connection: Connection, space: Space) -> bool:
    relations = {"partition": space.relation, "vectors": space.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/retiring", "partition"), values).fetchone()
    return row is not None and row[0] == "pending"


def coverage_of(connection: Connection, space: Space) -> Coverage:
    """Measure a tag, or count its source where the tag has no partition and so nothing is covered."""
    if is_attached(connection, space):
        return measure_coverage(connection, space)
    records, eligible = count_records(connection, space.source)
    return Coverage(records, eligible, fresh=0, stale=0, rejected=0, unaccounted=eligible)


def require_partition(connection: Connection, space: Space) -> None:
    """Refuse to go on without the partition of a tag."""
    if not is_attached(connection, space):
        raise DatabaseError(
            f"The partition of {space.tag} is not there.",
            hint="Somebody dropped or detached it. Run: vecmig status",
        )


def _has(connection: Connection, name: str, relation: sql.Identifier) -> bool:
    row = connection.execute(statement("homes/table", name), {"name": relation.as_string(connection)}).fetchone()
    return bool(row and row[0])
