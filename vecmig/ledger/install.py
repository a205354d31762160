"""Install vecmig's own tables, or bring them up to date, by numbered SQL files."""

from __future__ import annotations

import math
from contextlib import suppress

from psycopg import errors as pg
from psycopg import sql

from vecmig.ledger import schema as own
from vecmig.ledger.access import close_own, own_relations
from vecmig.ledger.schema import installed_version
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.named_sql import script, statement
from vecmig.postgres.sessions import Connection, Database


def lock_schema(connection: Connection, schema: str) -> None:
    """Let no other session install or update vecmig's schema until the transaction ends."""
    connection.execute(statement("ledger/schema", "lock"), {"schema": schema})


def ensure(database: Database) -> int:
    """Install or update vecmig's schema; return the version it had before. Safe to run from many hosts at once."""

    def change(connection: Connection) -> int:
        lock_schema(connection, database.schema)
        return install(connection, database.schema)

    # an application that edits a tracked source is at work on vecmig's own tables too
    wait = math.inf if database.lock_wait is None else database.lock_wait
    return with_lock_retries(database, change, wait=wait, on_wait=database.tell_wait)


def install(connection: Connection, schema: str) -> int:
    """Do the work of ``ensure`` in the caller's transaction."""
    before = installed_version(connection, schema)
    name = sql.Identifier(schema)
    if before == own.VERSION:
        _renew_outbox(connection, name)
        return before
    known = own_relations(connection, schema)
    created = (
        before == 0 and connection.execute(statement("ledger/schema", "find"), {"schema": schema}).fetchone() is None
    )
    if before == 0:
        if created:
            # the right to create schemas is asked for only where one is created
            connection.execute(statement("ledger/schema", "create_schema", schema=name))
        connection.execute(statement("ledger/schema", "create", schema=name))
    files = [script(f"ledger/{file}", schema=name) for file in own.FILES[before:]]
    connection.execute(sql.SQL("\n").join(files))
    made = {"first": before + 1, "last": len(own.FILES)}
    connection.execute(statement("ledger/schema", "record", schema=name), made)
    if before == 0:
        # no trigger rests on it, which --sql could not see of tables that are not there yet
        connection.execute(statement("ledger/schema", "renew_outbox", schema=name))
    else:
        _renew_outbox(connection, name)
    close_own(connection, schema, known, created=created)
    return before


def _renew_outbox(connection: Connection, schema: sql.Identifier) -> None:
    """Take away the outbox's limit on the length of a key, once no trigger of an earlier vecmig rests on it.

    Where an application is at work on the outbox, the next command tries again.
    """
    outbox = sql.SQL("{}.change").format(schema).as_string(connection)
    row = connection.execute(statement("ledger/schema", "old_outbox"), {"outbox": outbox}).fetchone()
    if row is not None and row[0]:
        with suppress(pg.LockNotAvailable), connection.transaction():
            connection.execute(statement("ledger/schema", "renew_outbox", schema=schema))
