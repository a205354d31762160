"""Build and drop indexes within what the settings allow, for operations and for what restores one that was dropped."""

from __future__ import annotations

from vecmig.freshness.coverage import count_vectors
from vecmig.freshness.stamps import Stamps
from vecmig.homes import IndexBuild, IndexLimits, home_over
from vecmig.operations.context import Context


def build_index(context: Context, stamps: Stamps) -> IndexBuild | None:
    """Build a tag's index within what is allowed, again if its session is lost; None where a valid one is there."""
    limits = IndexLimits(context.config.maintenance_work_mem_mb, context.config.index_workers)

    def attempt() -> IndexBuild | None:
        with context.database.session() as connection:
            home = home_over(connection, stamps)
            if home.index().usable:
                return None
            vectors, _ = count_vectors(connection, stamps)
        return home.build_index(context.database, vectors=vectors, limits=limits, listener=context.listener)

    return context.reconnecting(attempt)


def drop_index(context: Context, stamps: Stamps) -> None:
    """Drop a tag's index without blocking reads or writes."""
    with context.database.session() as connection:
        home = home_over(connection, stamps)
    home.drop_index(
        context.database,
        wait=context.config.lock_wait,
        on_wait=context.wait_for_lock,
    )
