"""Whether another ledger's project has made what a collection of this one would replace."""

from __future__ import annotations

from vecmig.errors import DatabaseError
from vecmig.freshness.change_tracking import trigger_names
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


def refuse_other_ledger(connection: Connection, source: Source, schema: str) -> None:
    """Refuse a collection whose triggers, live view or search function another ledger's project keeps.

    Their names come from the collection's alone, while each ledger has a vectors table in a schema of its own.

    Raises:
        DatabaseError: there is one; the message names its schema.
    """
    values = {
        "source": source.relation.as_string(connection),
        "triggers": trigger_names(source),
        "function": f"{source.collection.name}_track",
        "live": source.live.as_string(connection),
        "vectors": source.vectors.as_string(connection),
        "schema": schema,
    }
    row = connection.execute(statement("freshness/change_tracking", "other_ledger"), values).fetchone()
    if row is not None:
        name = source.collection.name
        raise DatabaseError(
            f"Triggers or live view of {name} belong to the ledger in schema {row[0]}; this project's is in {schema}.",
            state="Nothing was changed.",
            hint=f"Set schema = {row[0]} in vecmig.ini, or give the collection another name in collections.yaml.",
        )
