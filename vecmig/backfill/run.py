"""One run: passes over the source until nothing is pending, several requests in flight at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from vecmig.backfill.batch_engine import BatchEngine, BatchOptions
from vecmig.backfill.counters import Counters, Figures
from vecmig.backfill.engine import Engine, TagBackfill
from vecmig.backfill.local_engine import LocalEngine
from vecmig.backfill.ray_engine import RayEngine, RayOptions
from vecmig.backfill.run_options import RunOptions
from vecmig.backfill.taking_over import take_over
from vecmig.embedders import Embedder
from vecmig.errors import EmbedderError
from vecmig.events import Listener, Warned, ignore
from vecmig.freshness.changes import changed_since, forget_settled, snapshot
from vecmig.freshness.coverage import Coverage, measure_coverage, sweep
from vecmig.freshness.full_pass import noted_for, settle_full_pass
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import TRUSTED_FOR, compare_all, coverage_since, find_coverage
from vecmig.freshness.steadiness import refuse_unsteady_texts
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection, Database

#: Passes over the source in one run. Later passes take up what an application changed behind the first one.
_MOST_PASSES: Final = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did, and how complete the tag is now."""

    done: Figures
    coverage: Coverage
    seconds: float


def run_backfill(
    database: Database,
    stamps: Stamps,
    embedder: Embedder,
    *,
    limit: int | None = None,
    full: bool = False,
    options: RunOptions | None = None,
    ray: RayOptions | None = None,
    batch: BatchOptions | None = None,
    prepare: Callable[[], None] = lambda: None,
    listener: Listener = ignore,
) -> Result:
    """Embed every pending record of the stamps, and say how complete it is afterwards.

    Args:
        database: where the source and the vectors are.
        stamps: the tag to complete.
        embedder: what makes this tag's vectors.
        limit: stop after about this many records; None for all.
        full: compare every record, also where the outbox tells what changed since that was done last.
        options: what to heed beside the recipe.
        ray: the workers on Ray that do it; None for this process.
        batch: how texts are ordered through the provider's Batch API; None where they are asked for.
        prepare: called before the first record, if there is one, when an operator's pause and limits hold already.
        listener: told of the progress, from this thread; only Waiting may come from another one.

    Raises:
        UnsteadyExpression: a text is another one each time it is read; nothing was embedded.
        Pending: texts are on order, and not to be waited for.
        EmbedderError: the provider failed; what was written stays and the next run goes on from there.
        DatabaseUnreachable: the connection broke and did not come back; the same holds.
        LockHeld: another runner took over meanwhile.
        Interrupted: by SIGINT; what was in flight was written first.
    """
    started = time.monotonic()
    backfill = TagBackfill(database, stamps, embedder, options or RunOptions(), listener, prepare)
    here = LocalEngine(backfill)
    engine: Engine = here
    if batch is not None:
        engine = BatchEngine(backfill, batch)
    elif ray is not None:
        engine = RayEngine(backfill, ray)
    with engine, engine.session() as session:
        counters, told = engine.counters, None
        if engine is here and not full:
            told = session.run(lambda connection: coverage_since(connection, stamps, within=TRUSTED_FOR))
        counters.expect(told or session.run(lambda connection: measure_coverage(connection, stamps)), limit)
        session.run(lambda connection: refuse_unsteady_texts(connection, stamps))
        try:
            noted = take_over(session, embedder.limiter, counters, whole=told is None)
            if stamps.buys:
                one_pass = engine.whole_pass if told is None else here.outbox_pass
                _make_passes(one_pass, counters, session, stamps, limit)
        except EmbedderError as error:
            error.state = error.state or counters.kept
            raise
        counters.report()
        if told is None:
            after = session.run(lambda connection: _finish(connection, stamps, listener, noted))
        else:
            session.run(lambda connection: forget_settled(connection, stamps.source, stamps.schema))
            # what nothing was done about is as it was told
            after = told if counters.figures == Figures() else session.run(lambda it: find_coverage(it, stamps))
    return Result(counters.figures, after, time.monotonic() - started)


def _make_passes(
    one_pass: Callable[[int | None], None],
    counters: Counters,
    session: ReconnectingSession,
    stamps: Stamps,
    limit: int | None,
) -> None:
    for _ in range(_MOST_PASSES):
        since, handled = session.run(snapshot), counters.handled
        one_pass(None if limit is None else limit - handled)
        if limit is not None and counters.handled >= limit:
            return
        refused, before = counters.refused, counters.refused_before
        counters.refused, counters.refused_before = 0, refused
        if refused or counters.handled == handled:
            # records that an application keeps locked or keeps changing would be paid for in every pass
            again = 0 < refused < before
        else:
            again = session.run(partial(_may_have_changed, stamps=stamps, since=since))
        if not again:
            return


def _may_have_changed(connection: Connection, stamps: Stamps, since: str) -> bool:
    return not stamps.source.tracked or changed_since(connection, stamps.source, stamps.schema, since) > 0


def _finish(connection: Connection, stamps: Stamps, listener: Listener, noted: Sequence[int] | None) -> Coverage:
    """End a full pass, and forget changes that are dealt with under every tag."""
    coverage = finish_full_pass(connection, stamps, listener, noted)
    forget_settled(connection, stamps.source, stamps.schema)
    return coverage


def finish_full_pass(
    connection: Connection, stamps: Stamps, listener: Listener, noted: Sequence[int] | None
) -> Coverage:
    """Remove what no record stands behind any more, enter that the tag was compared, and say how complete it is.

    ``noted`` is as ``take_over`` gives it.
    """
    noted = noted_for(connection, stamps) if noted is None else noted
    coverage = compare_all(connection, stamps)
    if remove_unbacked(connection, stamps, listener, coverage):
        coverage = compare_all(connection, stamps)
    settle_full_pass(connection, stamps, noted, coverage)
    return coverage


def remove_unbacked(connection: Connection, stamps: Stamps, listener: Listener, coverage: Coverage) -> bool:
    """Remove the vectors that have no record any more; return whether there were such.

    The ``coverage``, measured just now, spares a look at each.
    """
    found, kept = sweep(connection, stamps, coverage)
    if kept:
        listener(
            Warned(
                f"{kept} records of {stamps.source.collection.name} have vectors under {stamps.tag} and no text any "
                "more, although they did not change; nothing was deleted. Is text: in collections.yaml right?"
            )
        )
    return found > 0
