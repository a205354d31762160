"""Let a collection go on with another table under its source's name, as a person says; its vectors are kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from vecmig.config import Config
from vecmig.errors import DatabaseError, UsageError
from vecmig.events import Listener, ignore
from vecmig.freshness.change_tracking import drop_tracking, tracking_works
from vecmig.freshness.full_pass import note_full_pass
from vecmig.freshness.other_ledgers import refuse_other_ledger
from vecmig.homes import drop_policies, drop_published, widen_key
from vecmig.ledger.access import mirror_access
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.recorded import Recorded
from vecmig.operations.context import Context
from vecmig.operations.following import install
from vecmig.postgres.sessions import Connection
from vecmig.published.live_view import NOT_IN_PLACE, made_again, refuse_foreign
from vecmig.runner.project import Project
from vecmig.source.checks import check_keys, check_privileges
from vecmig.source.relations import Relation, relation_of
from vecmig.source.source import Source


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a collection's source is now, and what it was."""

    collection: str
    source: str
    #: What the table before is called now; None where it is gone.
    before: str | None
    #: Whether it is another table than before.
    changed: bool


def adopt_source(config: Config, collection: str, *, listener: Listener = ignore) -> Adopted:
    """Take the table that has the source's name now for the one whose vectors are there.

    Triggers move to it, and so do the live view, the search function and the row-level security of the vectors. Every
    vector is kept, and the next sync compares all records with them.

    Args:
        config: the project.
        collection: whose source was replaced.
        listener: told of what happens.

    Raises:
        UsageError: it has no tag yet.
        ConfigError: the table lacks a column that the collection names.
        DatabaseError: its key does not fit the vectors, or this role may not do it.
    """
    project = Project(config, listener)
    ensure(project.database)
    context = project.context
    with project.database.session() as connection:
        ledger = context.ledger(connection)
        configured = project.collections.collection(collection)
        recorded = ledger.collections.recorded(collection)
        if recorded is None:
            raise UsageError(f"Collection {collection} has no tag yet.", hint="Run: vecmig upgrade head")
        source = find_source(ledger, configured, even_replaced=True)
        before = relation_of(connection, recorded.oid) if recorded.oid is not None else None
        name = f"{source.schema}.{source.table}"
        if recorded.oid in (None, source.oid):
            return Adopted(collection, name, name, changed=False)
        recorded.require_key(source)
        ledger.collections.require_form(source)
        refuse_foreign(connection, source)
        refuse_other_ledger(connection, source, ledger.schema)
        check_privileges(connection, source)
        check_keys(connection, source)
    context.locked(lambda connection: _adopt(context, connection, source, before))
    _verify(context, source)
    return Adopted(collection, name, str(before) if before else None, changed=True)


def _adopt(context: Context, connection: Connection, source: Source, before: Relation | None) -> None:
    ledger, name = context.ledger(connection), source.collection.name
    recorded = ledger.collections.recorded(name)
    assert recorded is not None, "it was there a moment ago"
    if before is not None:
        drop_tracking(connection, source, before)
    ledger.collections.record(source)
    drop_policies(connection, source)
    _publish_on(context, connection, ledger, recorded, source)
    mirror_access(connection, source, ledger.schema)
    note_full_pass(connection, ledger.schema, name, "another table was adopted as the source")
    ledger.routes.announce(name)
    data = {"from": str(before) if before else None, "to": f"{source.schema}.{source.table}"}
    ledger.record_event("adopt-source", collection=name, data=data)


def _publish_on(context: Context, connection: Connection, ledger: Ledger, recorded: Recorded, source: Source) -> None:
    """Have triggers, live view and search function on the new table."""
    if not recorded.widened(source):
        # where the columns allow it, what the team built on them stays
        with suppress(*NOT_IN_PLACE), connection.transaction():
            install(context, connection, ledger, source)
            return
    with made_again(connection, source, ledger.schema):
        if recorded.widened(source):
            widen_key(connection, source, recorded.key_types)
        else:
            drop_published(connection, source)
        install(context, connection, ledger, source)


def _verify(context: Context, source: Source) -> None:
    with context.database.session() as connection:
        recorded = find_source(context.ledger(connection), source.collection, expressions=False)
        if source.tracked and not tracking_works(connection, recorded):
            raise DatabaseError(
                f"The triggers on {source.schema}.{source.table} are not there.", hint="Run: vecmig sync"
            )
