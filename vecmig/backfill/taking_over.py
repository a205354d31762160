"""Take over the vectors that the source itself has, before anything is bought for an adopted tag."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vecmig.backfill.counters import Counters, Figures
from vecmig.embedders import Limiter
from vecmig.freshness.full_pass import noted_for
from vecmig.homes import AdoptedPage, Home, home_over
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key


def take_over(
    session: ReconnectingSession, limiter: Limiter, counters: Counters, *, whole: bool
) -> Sequence[int] | None:
    """Take over what the outbox tells of, and with ``whole`` each record that has no stamp yet.

    Where changes may have come that nothing tells of, the source's vectors are compared with those of the tag as well.
    It heeds a pause, a throttle and the most records a second as a backfill does.

    Returns:
        The notes that a full pass is needed for which it answers as far as vectors go; None where it does for any.

    Raises:
        Interrupted: by SIGINT; what was taken over stays.
    """
    stamps = counters.stamps
    if not stamps.takes_over:
        return None
    noted = session.run(lambda connection: noted_for(connection, stamps)) if whole else []
    untold = not stamps.source.tracked or bool(noted)
    try:
        if stamps.source.tracked:
            changed = session.run(lambda connection: home_over(connection, stamps).adopt_changed())
            counters.count(Figures(adopted=changed))
        if whole:
            _in_pages(session, limiter, counters, lambda home, after: home.reconcile(after, untold=untold))
            _in_pages(session, limiter, counters, lambda home, after: home.adopt(after))
    except KeyboardInterrupt:
        raise counters.interrupted() from None
    return noted


def _in_pages(
    session: ReconnectingSession,
    limiter: Limiter,
    counters: Counters,
    page_of: Callable[[Home, Key | None], AdoptedPage],
) -> None:
    after: Key | None = None
    while True:
        limiter.stand_by()

        def read(connection: Connection, last: Key | None = after) -> AdoptedPage:
            return page_of(home_over(connection, counters.stamps), last)

        page = session.run(read)
        counters.count(Figures(adopted=page.written, unsound=page.unsound))
        limiter.pace(page.written)
        after = page.last
        if after is None:
            return
