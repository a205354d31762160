"""Let the ledger, the triggers and what applications read follow collections.yaml, and restore what was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vecmig.errors import ConfigError, DatabaseError
from vecmig.events import Warned
from vecmig.freshness.change_tracking import install_tracking, tracking_works
from vecmig.freshness.full_pass import note_full_pass
from vecmig.homes import open_home, rewritten_bytes, widen_key
from vecmig.ledger.access import mirror_access, mirror_grants, remember_grants
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.recorded import Recorded
from vecmig.model.collection import Collection
from vecmig.operations.context import Context
from vecmig.operations.indexing import build_index
from vecmig.operations.missing import detached, disagreements, lacks_reads
from vecmig.postgres.sessions import Connection
from vecmig.published.detaching import all_detached, forget, give_back, is_detached
from vecmig.published.live_view import columns_to_show, made_again, publish
from vecmig.source.key_types import rewrites
from vecmig.source.source import Source
from vecmig.text import data_size


def inspect(context: Context, collection: Collection) -> Source:
    """Look at a source. Where text or where works no more, searches get back first what they need neither for.

    Raises:
        ConfigError: one of them does not work, such as one that names a column which was dropped.
    """
    with context.database.session() as connection:
        try:
            return find_source(context.ledger(connection), collection)
        except ConfigError:
            with suppress(ConfigError, DatabaseError):
                _publish_again(context, context.ledger(connection), collection)
            raise


def follow(context: Context, source: Source, *, edits: bool = True) -> list[str]:
    """Let the ledger, the triggers and the live view follow collections.yaml; make again what somebody dropped.

    Args:
        context: the context.
        source: the collection.
        edits: whether to follow another text, where or change_tracking; otherwise nothing is done there.

    Returns:
        What was missing, in the words of ``disagreements``.

    Raises:
        DatabaseError: what the vectors rest on was changed: source, key, storage or metric.
    """
    context.tell(source.notes)
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        changed = ledger.collections.differs(source)
        route = ledger.routes.of(source.collection.name)
        known = route.version or route.candidate
        aside = all_detached(connection, context.database.schema).get(source.collection.name)
        if aside is not None:
            context.listener(Warned(f"{source.collection.name}: {aside.text}"))
        missing = disagreements(connection, ledger, source, route, aside=aside is not None) if known else []
        if not known or aside or not (changed or missing):
            return []
        recorded = ledger.collections.recorded(source.collection.name)
        indexed = _about_to_widen(context, connection, recorded, source) if recorded else []
        shown = columns_to_show(connection, source, ledger.schema)

    def change(connection: Connection) -> None:
        ledger = context.ledger(connection)
        recorded = ledger.collections.recorded(source.collection.name)
        if recorded is not None and recorded.edited(source) and not edits:
            return
        _bring_up_to_date(context, connection, ledger, source, shown)
        ledger.routes.announce(source.collection.name)
        made_good = {"made_good": missing} if missing else {}
        ledger.record_event("follow", collection=source.collection.name, data=made_good)

    context.locked(change)
    for tag in indexed:
        build_index(context, context.stamps(source, tag))
    return missing


def install(
    context: Context,
    connection: Connection,
    ledger: Ledger,
    source: Source,
    *,
    columns: bool = False,
    shown: Sequence[str] | None = None,
) -> None:
    """Bring the triggers and what applications read up to date."""
    if source.tracked:
        if not tracking_works(connection, source):
            reason = "triggers were gone or disabled for a while"
            note_full_pass(connection, ledger.schema, source.collection.name, reason)
        install_tracking(connection, source, ledger.schema)
    for home in detached(ledger, source, ledger.routes.of(source.collection.name)):
        home.create()
    # a sync may stand beside a cutover: the view must not go back to the tag that was live a moment ago
    route = ledger.routes.hold(source.collection.name)
    if route.live is not None:
        stamps = context.stamps(source, route.live)
        publish(connection, source, stamps, ledger=ledger.schema, columns=columns, shown=shown)


def attach(context: Context, source: Source) -> bool:
    """Put back a live view that stepped aside, by collections.yaml; return whether there was one."""
    name, schema = source.collection.name, context.database.schema

    def change(connection: Connection) -> bool:
        ledger = context.ledger(connection)
        route = ledger.routes.hold(name)
        aside = forget(connection, schema, name)
        if aside is None:
            return False
        _bring_up_to_date(context, connection, ledger, source)
        if route.live is None and aside.had_view:
            publish(connection, source, None, ledger=schema)
        if route.live is not None or aside.had_view:
            give_back(connection, schema, aside.belongings)
            mirror_grants(connection, source, source.live, schema)
            remember_grants(connection, source, schema)
        # no trigger fires where a column's type is altered
        note_full_pass(connection, schema, name, "columns may have been altered while the view was detached")
        ledger.routes.announce(name)
        ledger.record_event("view_attach", collection=name)
        return True

    return context.locked(change)


def _bring_up_to_date(
    context: Context, connection: Connection, ledger: Ledger, source: Source, shown: Sequence[str] | None = None
) -> None:
    recorded = ledger.collections.recorded(source.collection.name)
    columns = recorded is not None and recorded.edited(source)
    ledger.record_collection(source)
    if recorded is not None and recorded.widened(source):
        with made_again(connection, source, ledger.schema):
            widen_key(connection, source, recorded.key_types)
            install(context, connection, ledger, source, columns=columns)
        mirror_access(connection, source, ledger.schema)
    else:
        install(context, connection, ledger, source, columns=columns, shown=shown)


def _publish_again(context: Context, ledger: Ledger, collection: Collection) -> None:
    source = find_source(ledger, collection, expressions=False)
    recorded = ledger.collections.recorded(collection.name)
    aside = is_detached(ledger.connection, ledger.schema, collection.name)
    if recorded is None or recorded.edited(source) or aside:
        return

    def change(connection: Connection) -> None:
        ledger = context.ledger(connection)
        live = ledger.routes.hold(collection.name).live
        if live is not None and lacks_reads(connection, ledger, source, live, aside=False):
            publish(connection, source, context.stamps(source, live), ledger=ledger.schema)
            ledger.record_event("follow", collection=collection.name)

    context.locked(change)


def _about_to_widen(context: Context, connection: Connection, recorded: Recorded, source: Source) -> list[str]:
    """Say what a key that became wider takes; return the tags whose indexes are to be built again after it."""
    types = ", ".join(column.type for column in source.key)
    if not recorded.widened(source) or not rewrites(recorded.key_types, source.key):
        return []
    size = data_size(rewritten_bytes(connection, source))
    what = f"The key of {source.collection.name} is {types} now: {size} of vectors are rewritten, and "
    context.tell([f"{what}meanwhile neither read nor written; then their indexes are built again"])
    ledger = context.ledger(connection)
    rows = ledger.tags.of(source.collection.name)
    return [tag for tag, row in rows.items() if open_home(ledger, source, tag, kind=row.home).index().usable]
