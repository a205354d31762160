"""The run itself: passes over the source until nothing is pending, several requests in flight at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from vecmig.backfill.filler import Filler
from vecmig.backfill.fleet import Crew, Fleet
from vecmig.backfill.tally import Tally
from vecmig.backfill.terms import Terms
from vecmig.embedders import Embedder
from vecmig.events import Listener, Warned, ignore
from vecmig.store.changes import changed_since, forget_settled, snapshot
from vecmig.store.connect import Connection, Database
from vecmig.store.full_pass import noted_for, settle_full_pass
from vecmig.store.lasting import Lasting
from vecmig.store.steadiness import refuse_unsteady_texts
from vecmig.store.vectors import Coverage, Space, measure_coverage, sweep

#: Passes over the source in one run. Later passes take up what an application changed behind the first one.
_MOST_PASSES: Final = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did, and how complete the tag is now."""

    written: int
    rejected: int
    coverage: Coverage
    seconds: float
    tokens: int


def backfill(
    database: Database,
    space: Space,
    embedder: Embedder,
    *,
    limit: int | None = None,
    terms: Terms | None = None,
    fleet: Fleet | None = None,
    prepare: Callable[[], None] = lambda: None,
    listener: Listener = ignore,
) -> Result:
    """Embed every pending record of a space, and say how complete it is afterwards.

    Args:
        database: where the source and the vectors are.
        space: the tag to complete.
        embedder: what makes this tag's vectors.
        limit: stop after about this many records; None for all.
        terms: what to heed beside the recipe.
        fleet: who does it, several processes on Ray; None for this process.
        prepare: called before the first record, if there is one, when an operator's pause and limits hold already.
        listener: told of the progress, from this thread; only Waiting may come from another one.

    Raises:
        UnsteadyExpression: a text is another one each time it is read; nothing was embedded.
        EmbedderError: the provider failed; what was written stays and the next run goes on from there.
        DatabaseUnreachable: the connection broke and did not come back; the same holds.
        LockHeld: another runner took over meanwhile.
        Interrupted: by SIGINT; what was in flight was written first.
    """
    started = time.monotonic()
    terms = terms or Terms()
    hands: _Hands
    if fleet is None:
        hands = Filler(database, space, embedder, terms, listener, prepare=prepare)
    else:
        hands = Crew(database, space, embedder, terms, listener, fleet=fleet, prepare=prepare)
    with hands, hands.session() as session:
        tally = hands.tally
        tally.expect(session.run(lambda connection: measure_coverage(connection, space)), limit)
        session.run(lambda connection: refuse_unsteady_texts(connection, space))
        for _ in range(_MOST_PASSES):
            since, handled = session.run(snapshot), tally.handled
            hands.whole_pass(None if limit is None else limit - handled)
            if limit is not None and tally.handled >= limit:
                break
            idle = tally.handled == handled
            if not session.run(lambda connection: _changed_behind(connection, tally, since, idle=idle)):  # noqa: B023
                break
        tally.report()
        after = session.run(lambda connection: _finish(connection, space, listener))
    return Result(tally.written, tally.rejected, after, time.monotonic() - started, tally.tokens)


class _Hands(AbstractContextManager["_Hands"], Protocol):
    """Whoever goes over the source: this process, or a fleet."""

    tally: Tally

    def session(self) -> Lasting:
        """Give a session that waits for a lost database as long as the terms say."""

    def whole_pass(self, limit: int | None = None) -> None:
        """Embed and write what is pending in the whole source, at most ``limit`` records."""


def _finish(connection: Connection, space: Space, listener: Listener) -> Coverage:
    """Measure, remove what no record stands behind any more, and forget changes that are dealt with under every tag."""
    noted = noted_for(connection, space)
    found = measure_coverage(connection, space)
    clear(connection, space, listener, found)
    forget_settled(connection, space.source, space.schema)
    settle_full_pass(connection, space, noted, found)
    return found


def finish_full_pass(connection: Connection, space: Space, listener: Listener) -> None:
    """Remove what no record stands behind any more; where a full pass was noted as needed, see whether it is done."""
    noted = noted_for(connection, space)
    found = measure_coverage(connection, space) if noted else None
    clear(connection, space, listener, found)
    if found is not None:
        settle_full_pass(connection, space, noted, found)


def clear(connection: Connection, space: Space, listener: Listener, found: Coverage | None = None) -> None:
    """Remove the vectors that no record stands behind any more; what was ``found`` just now spares a look at each."""
    kept = sweep(connection, space, found)
    if kept:
        listener(
            Warned(
                f"{kept} records of {space.source.collection.name} have vectors under {space.tag} and no text any "
                "more, although they did not change; nothing was deleted. Is text: in collections.yaml right?"
            )
        )


def _changed_behind(connection: Connection, tally: Tally, since: str, *, idle: bool) -> bool:
    """Whether another pass may find more: records were refused, or changed since; after an idle pass there is none."""
    space, refused, before = tally.space, tally.refused, tally.refused_before
    tally.refused, tally.refused_before = 0, refused
    if refused or idle:
        # records that an application keeps locked or keeps changing would be paid for in every pass
        return 0 < refused < before
    return not space.source.tracked or changed_since(connection, space.source, space.schema, since) > 0
