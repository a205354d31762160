"""Bring what was made for a collection to where this version has it, with the rights that it has there."""

from __future__ import annotations

import time
from dataclasses import replace

from vecmig.events import Noted, StepDone
from vecmig.freshness.change_tracking import find_tracking, install_tracking
from vecmig.homes import move_vectors
from vecmig.inventory.exposure import exposures
from vecmig.ledger.access import follow_vectors, mirror_access, remember_grants
from vecmig.operations.context import Context
from vecmig.postgres.sessions import Connection
from vecmig.published.live_view import publish
from vecmig.source.relations import exists
from vecmig.source.source import Source


def place(context: Context, source: Source) -> None:
    """Move the vectors of a collection to where they belong, if they lie elsewhere, and make again what names them.

    In one short transaction. It locks what applications write in their order: the source, then the vectors.
    """
    name, schema = source.collection.name, context.database.schema
    wanted = context.database.vectors_schema or schema
    began = time.monotonic()

    def change(connection: Connection) -> list[str]:
        exposed: list[str] = []
        ledger = context.ledger(connection)
        if source.tracked and (source.vectors_schema != wanted or _tracking_is_behind(connection, source, schema)):
            install_tracking(connection, replace(source, vectors_schema=wanted), schema)
        placed = source
        if source.vectors_schema != wanted:
            placed = move_vectors(connection, ledger, source, wanted)
            ledger.record_event("move", collection=name, data={"from": source.vectors_schema, "to": wanted})
        if exists(connection, placed.vectors):
            exposed = exposures(connection, placed, schema)
            mirror_access(connection, placed, schema)
            if placed != source:
                # after what default privileges had opened is closed
                follow_vectors(connection, placed)
        live = ledger.routes.hold(name).live
        if live is not None:
            publish(connection, placed, context.stamps(placed, live), ledger=schema)
        remember_grants(connection, placed, schema)
        ledger.routes.announce(name)
        return exposed

    mended = context.locked(change)
    if source.vectors_schema != wanted:
        summary = f"the vectors are in schema {wanted}; they were in {source.vectors_schema}"
        context.listener(StepDone("move", "", name, summary, time.monotonic() - began))
    if mended:
        context.listener(Noted(f"{name}: {'; '.join(mended)}: made good"))


def _tracking_is_behind(connection: Connection, source: Source, schema: str) -> bool:
    """Whether the triggers are to be made again: writers wait from then on until the transaction ends."""
    found = find_tracking(connection, source, schema)
    return not found.works or found.old or found.open
