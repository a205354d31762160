"""Judge the gate between two tags: by the vectors, by the embedder, and by what evals and shadow reads have shown."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from vecmig.config.suites import Suite, load_suite, suite_path
from vecmig.freshness.coverage import has_vectors
from vecmig.gate import CANARY_SIMILARITY, Found, Recall, Report, Spot, ask_canary, look, measure_recall
from vecmig.gate import measure as measure_gate
from vecmig.homes import Home, open_home
from vecmig.ledger.rows import tag_among
from vecmig.model.gate import Gate
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_ask
from vecmig.operations.evidence import Witness
from vecmig.source.source import Source


def compared(context: Context, source: Source, new: str, old: str | None) -> tuple[Source, str | None]:
    """Return the source and the old tag by which a revision is judged.

    One that goes from a tag to the same one changes its index alone: it is judged by the index that collections.yaml
    asks for, and there is no other tag.
    """
    if new != old:
        return source, old
    wanted = source.collection.index_of(new)
    return context.stamps(source, new).indexed_as(wanted).source, None


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
    name = source.collection.name
    source, old = compared(context, source, new, old)
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        rows = ledger.tags.of(name)
        row = tag_among(rows.values(), name, new)
        home = open_home(ledger, source, new, kind=row.home)
        canary, adopted = row.canary, row.adopted is not None
        similarity: float | None = None
        spot: Spot | None = None
        recall: Recall | None = None
        there = home.exists()
        empty = there and not has_vectors(connection, home.stamps)
        error = "" if canary or empty or adopted else "no canary was kept yet: vecmig sync"
        if ask and (canary or adopted) and not empty:
            with embedder_to_ask(context, name, new) as embedder:
                if canary:
                    similarity, error = ask_canary(embedder, canary)
                same = canary is None or (similarity is not None and similarity >= CANARY_SIMILARITY)
                if same and there:
                    spot = look(home, embedder)
        if there and not empty and home.index().usable:
            recall = measure_recall(home, gate.index_recall, row.recall)
        return measure(
            context,
            gate,
            home,
            open_home(ledger, source, old, kind=rows[old].home if old in rows else None) if old else None,
            canary=similarity,
            canary_error=error,
            spot=spot,
            recall=recall,
            empty=empty,
            adopted=adopted,
            followed=not ledger.collections.edited(source),
        )


def measure(context: Context, gate: Gate, home: Home, old: Home | None, **found: Unpack[Found]) -> Report:
    """Judge the gate by the vectors, by what evals and shadow reads have shown, and by what is found elsewhere."""
    if old is None:
        return measure_gate(gate, home, old, **found)

    def suite(name: str) -> Suite:
        return load_suite(suite_path(context.config, name))

    witness = Witness(home.session, gate, home.stamps, old.stamps, suite)
    shadow = witness.shadow() if gate.shadow is not None else None
    return measure_gate(gate, home, old, trials=witness.trials(), shadow=shadow, **found)
