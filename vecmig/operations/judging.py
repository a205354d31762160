"""Judge the gate between two tags: by the vectors, by the embedder, and by what evals and shadow reads have shown."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from vecmig.config import load_suite, suite_path
from vecmig.freshness.coverage import has_vectors
from vecmig.freshness.stamps import Space
from vecmig.gate import CANARY_SIMILARITY, Found, Report, Spot, ask_canary, look
from vecmig.gate import measure as measure_gate
from vecmig.homes.table import is_attached
from vecmig.model.gate import Gate
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_ask
from vecmig.operations.evidence import Witness
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source


def judge(context: Context, gate: Gate, source: Source, new: str, old: str | None, *, ask: bool = True) -> Report:
    """Judge the gate between two tags of a collection, again if its session is lost; nothing is written.

    Args:
        context: the context.
        gate: the thresholds.
        source: the collection.
        new: the tag that is to be live.
        old: the tag that is live now.
        ask: whether to ask the embedder, for the canary and a close look; otherwise these checks are left open.
    """
    return context.reconnecting(partial(_judge, context, gate, source, new, old, ask=ask))


def _judge(context: Context, gate: Gate, source: Source, new: str, old: str | None, *, ask: bool) -> Report:
    name, space = source.collection.name, context.space(source, new)
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        canary = ledger.tag(name, new).canary
        similarity: float | None = None
        spot: Spot | None = None
        empty = is_attached(connection, space) and not has_vectors(connection, space)
        error = "" if canary or empty else "no canary was kept yet: vecmig sync"
        if ask and canary and not empty:
            with embedder_to_ask(context, name, new) as embedder:
                similarity, error = ask_canary(embedder, canary)
                if similarity is not None and similarity >= CANARY_SIMILARITY and is_attached(connection, space):
                    spot = look(connection, space, embedder)
        return measure(
            context,
            connection,
            gate,
            space,
            context.space(source, old) if old else None,
            canary=similarity,
            canary_error=error,
            spot=spot,
            empty=empty,
            followed=not ledger.edited(source),
        )


def measure(
    context: Context, connection: Connection, gate: Gate, space: Space, old: Space | None, **found: Unpack[Found]
) -> Report:
    """Judge the gate by the vectors, by what evals and shadow reads have shown, and by what is found elsewhere."""
    if old is None:
        return measure_gate(connection, gate, space, old, **found)
    witness = Witness(connection, gate, space, old, lambda name: load_suite(suite_path(context.config, name)))
    shadow = witness.shadow() if gate.shadow is not None else None
    return measure_gate(connection, gate, space, old, trials=witness.trials(), shadow=shadow, **found)
