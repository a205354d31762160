"""The partition of one tag: created, attached, detached and dropped. Every statement is safe to repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Space
from vecmig.homes.values import Standing
from vecmig.ledger.access import close_table
from vecmig.model.tag import NORM_TOLERANCE, Tag
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.relations import exists

#: The constraint with which the database itself vouches for every vector of a partition.
CONSTRAINT: Final = "vecmig_vector"


def standing(connection: Connection, space: Space) -> Standing:
    """Look up where a tag's partition is, and what it takes on disk."""
    relations = {"partition": space.relation, "vectors": space.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/retiring", "partition"), values).fetchone()
    return Standing(*row) if row else Standing("gone", 0)


def create_partition(connection: Connection, space: Space) -> None:
    """Create and attach the partition of one tag.

    It is attached rather than created in place: ATTACH takes only SHARE UPDATE EXCLUSIVE on the parent, so reads and
    writes of the other tags go on.
    """
    if is_attached(connection, space):
        return
    tag = sql.Literal(space.tag)
    parts = {"partition": space.relation, "vectors": space.source.vectors, "tag": tag}
    if standing(connection, space).state == "pending":
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


def is_attached(connection: Connection, space: Space) -> bool:
    """Whether the partition of a tag is part of the vectors table."""
    relations = {"partition": space.relation, "vectors": space.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/table", "attached"), values).fetchone()
    return bool(row and row[0])


def require_partition(connection: Connection, space: Space) -> None:
    """Refuse to go on without the partition of a tag."""
    if not is_attached(connection, space):
        raise DatabaseError(
            f"The partition of {space.tag} is not there.",
            hint="Somebody dropped or detached it. Run: vecmig status",
        )


def detach(database: Database, space: Space, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
    """Take a tag's partition out of the vectors table while reads and writes go on; finish what was cut short.

    PostgreSQL waits for the transactions that have touched the vectors table. No session waits for that in turn.

    Args:
        database: where; it cannot be done in a transaction.
        space: the tag.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time, and the same without since when.
    """

    def step(connection: Connection) -> None:
        state = standing(connection, space).state
        if state in ("attached", "pending"):
            name = "detach" if state == "attached" else "finalize"
            parts = {"vectors": space.source.vectors, "partition": space.relation}
            connection.execute(statement("homes/retiring", name, **parts))

    with_lock_retries(database, step, wait=wait, on_wait=on_wait, in_transaction=False)


def drop_detached(connection: Connection, space: Space) -> int:
    """Drop a partition that is detached, in the caller's transaction; return the bytes that it took."""
    found = standing(connection, space)
    if found.state != "gone":
        connection.execute(statement("homes/retiring", "drop", partition=space.relation))
    return found.bytes
