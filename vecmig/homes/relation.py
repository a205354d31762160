"""The partition of one tag: created, attached, detached and dropped. Every statement is safe to repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from psycopg import sql

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps, norm_function
from vecmig.homes.values import HomeState
from vecmig.ledger.access import close_table
from vecmig.model.tag import NORM_TOLERANCE, Tag
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection, Database
from vecmig.source.relations import exists

#: The constraint with which the database itself vouches for every vector of a partition.
CONSTRAINT: Final = "vecmig_vector"


def home_state(connection: Connection, stamps: Stamps) -> HomeState:
    """Look up where a tag's partition is, and what it takes on disk."""
    relations = {"partition": stamps.relation, "vectors": stamps.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/retiring", "partition"), values).fetchone()
    return HomeState(*row) if row else HomeState("gone", 0)


def create_partition(connection: Connection, stamps: Stamps, *, kept: bool) -> None:
    """Create and attach the partition of one tag; ``kept``: whether each of its stamps has its vector beside it.

    It is attached rather than created in place: ATTACH takes only SHARE UPDATE EXCLUSIVE on the parent, so reads and
    writes of the other tags go on.
    """
    place = home_state(connection, stamps).place
    if place == "attached":
        return
    tag = sql.Literal(stamps.tag)
    parts = {"partition": stamps.relation, "vectors": stamps.source.vectors, "tag": tag}
    if place == "pending":
        # a retire that was cut short: its vectors are as good as they were
        connection.execute(
            statement("homes/retiring", "finalize", partition=stamps.relation, vectors=stamps.source.vectors)
        )
    if place == "gone":
        if not kept:
            _shorten_key(connection, stamps)
        connection.execute(statement("homes/table", "create_partition", **parts))
        _add_key(connection, stamps, kept=kept)
        close_table(connection, stamps.source, stamps.relation)
        connection.execute(
            statement(
                "homes/table",
                "alter_partition",
                required=sql.SQL("SET" if kept else "DROP"),
                constraint=sql.Identifier(CONSTRAINT),
                tag_constraint=sql.Identifier("vecmig_tag"),
                condition=stamps.sound(sql.Identifier("embedding")),
                **parts,
            )
        )
        comment = sql.Literal(f"vecmig: {stamps.tag}")
        connection.execute(statement("homes/table", "comment_table", vectors=stamps.relation, comment=comment))
    connection.execute(statement("homes/table", "attach_partition", **parts))


def _shorten_key(connection: Connection, stamps: Stamps) -> None:
    """Let the partitions of a vectors table have keys of their own, if it has no partitions yet."""
    vectors = stamps.source.vectors
    row = connection.execute(
        statement("homes/table", "free_key"), {"vectors": vectors.as_string(connection)}
    ).fetchone()
    if row is not None:
        connection.execute(statement("homes/table", "drop_key", vectors=vectors, key=sql.Identifier(row[0])))


def _add_key(connection: Connection, stamps: Stamps, *, kept: bool) -> None:
    """Give a new partition the key by which a chunk of a record has one stamp, where it has none of its parent."""
    parts = {"partition": stamps.relation, "keys": stamps.source.stored_list()}
    values = {"vectors": stamps.source.vectors.as_string(connection)}
    row = connection.execute(statement("homes/table", "lacks_key"), values).fetchone()
    lacks_key = bool(row and row[0])
    if not kept:
        kind = sql.SQL("PRIMARY KEY" if lacks_key else "UNIQUE")
        connection.execute(statement("homes/table", "add_short_key", kind=kind, **parts))
    elif lacks_key:
        connection.execute(statement("homes/table", "add_key", **parts))


def drop_partition(connection: Connection, stamps: Stamps) -> None:
    """Detach and drop the partition of one tag, vectors and index included."""
    parts = {"partition": stamps.relation, "vectors": stamps.source.vectors}
    if is_attached(connection, stamps):
        connection.execute(statement("homes/table", "detach_partition", **parts))
    if exists(connection, stamps.relation):
        connection.execute(statement("homes/table", "drop_partition", **parts))


def constraint_holds(connection: Connection, stamps: Stamps) -> bool:
    """Whether a validated constraint of the partition says what ``Stamps.sound`` does, so that no vector breaks it.

    It goes by what PostgreSQL prints for it, which is alike from 15 to 18: a name guarantees nothing, and a comment is
    lost in a dump without comments.
    """
    values = {
        "partition": stamps.relation.as_string(connection),
        "definition": _printed_condition(stamps),
        "pgvector": stamps.source.pgvector.schema,
    }
    # on the path of a session of vecmig's is nothing but PostgreSQL's own: all else is printed with its schema
    row = connection.execute(statement("source/catalog", "constraint"), values).fetchone()
    return row is not None and bool(row[0])


def _printed_condition(stamps: Stamps) -> str:
    """Write ``Stamps.sound`` as PostgreSQL prints it, without pgvector's schema, for the extension may move."""
    collection = stamps.source.collection
    norm = f"{norm_function(collection.storage)}(embedding)"
    dims = f"(vector_dims(embedding) = {stamps.dims})"
    if Tag.parse(stamps.tag).norm == "l2":
        bound = f"(abs(({norm} - (1)::double precision)) <= ({NORM_TOLERANCE})::double precision)"
        return f"CHECK (({dims} AND {bound}))"
    if collection.metric == "cosine":
        return f"CHECK (({dims} AND ({norm} > (0)::double precision)))"
    return f"CHECK ({dims})"


def constraint_sql(connection: Connection, stamps: Stamps) -> str:
    """Write the statement that gives a partition its constraint again; it reads every vector of it."""
    parts = {
        "partition": stamps.relation,
        "constraint": sql.Identifier(CONSTRAINT),
        "condition": stamps.sound(sql.Identifier("embedding")),
    }
    return statement("homes/table", "restore_constraint", **parts).as_string(connection) + ";"


def is_attached(connection: Connection, stamps: Stamps) -> bool:
    """Whether the partition of a tag is part of the vectors table."""
    relations = {"partition": stamps.relation, "vectors": stamps.source.vectors}
    values = {name: relation.as_string(connection) for name, relation in relations.items()}
    row = connection.execute(statement("homes/table", "attached"), values).fetchone()
    return bool(row and row[0])


def require_partition(connection: Connection, stamps: Stamps) -> None:
    """Refuse to go on without the partition of a tag."""
    if not is_attached(connection, stamps):
        raise DatabaseError(
            f"The partition of {stamps.tag} is not there.",
            hint="Somebody dropped or detached it. Run: vecmig status",
        )


def detach(database: Database, stamps: Stamps, *, wait: float, on_wait: Callable[[str, str], None]) -> None:
    """Take a tag's partition out of the vectors table while reads and writes go on; finish what was cut short.

    PostgreSQL waits for the transactions that have touched the vectors table. No session waits for that in turn.

    Args:
        database: where; it cannot be done in a transaction.
        stamps: the tag.
        wait: seconds after which to give up.
        on_wait: told who is in the way, each time, and the same without since when.
    """

    def step(connection: Connection) -> None:
        place = home_state(connection, stamps).place
        if place in ("attached", "pending"):
            name = "detach" if place == "attached" else "finalize"
            parts = {"vectors": stamps.source.vectors, "partition": stamps.relation}
            connection.execute(statement("homes/retiring", name, **parts))

    with_lock_retries(database, step, wait=wait, on_wait=on_wait, in_transaction=False)


def drop_detached(connection: Connection, stamps: Stamps) -> int:
    """Drop a partition that is detached, in the caller's transaction; return the bytes that it took."""
    found = home_state(connection, stamps)
    if found.place != "gone":
        connection.execute(statement("homes/retiring", "drop", partition=stamps.relation))
    return found.bytes
