"""Take over the vectors that the source itself has, before anything is bought for an adopted tag."""

from __future__ import annotations

from vecmig.backfill.counters import Counters, Figures
from vecmig.embedders import Limiter
from vecmig.homes import AdoptedPage, home_over
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key


def take_over(session: ReconnectingSession, limiter: Limiter, counters: Counters, *, whole: bool) -> None:
    """Take over what the outbox tells of, and with ``whole`` each record that has no stamp yet.

    It heeds a pause, a throttle and the most records a second as a backfill does.

    Raises:
        Interrupted: by SIGINT; what was taken over stays.
    """
    stamps = counters.stamps
    if not stamps.follows:
        return
    try:
        if stamps.source.tracked:
            changed = session.run(lambda connection: home_over(connection, stamps).adopt_changed())
            counters.count(Figures(adopted=changed))
        if whole:
            session.run(lambda connection: home_over(connection, stamps).sweep_adopted())
        after: Key | None = None
        while whole:
            limiter.stand_by()

            def read(connection: Connection, last: Key | None = after) -> AdoptedPage:
                return home_over(connection, stamps).adopt(last)

            page = session.run(read)
            counters.count(Figures(adopted=page.written, unsound=page.unsound))
            limiter.pace(page.written)
            after = page.last
            whole = after is not None
    except KeyboardInterrupt:
        raise counters.interrupted() from None
