"""Build an index within what the settings allow, for an operation and for whatever restores one that was dropped."""

from __future__ import annotations

from vecmig.freshness.coverage import count_vectors
from vecmig.freshness.stamps import Space
from vecmig.homes.index_build import Build, Limits
from vecmig.homes.index_build import build_index as build
from vecmig.operations.context import Context


def build_index(context: Context, space: Space) -> Build | None:
    """Build a tag's index within what is allowed, again if its session is lost; None where a valid one is there."""
    limits = Limits(context.config.maintenance_work_mem_mb, context.config.index_workers)

    def attempt() -> Build | None:
        with context.database.session() as connection:
            vectors, _ = count_vectors(connection, space)
        return build(context.database, space, rows=vectors, limits=limits, listener=context.listener)

    return context.reconnecting(attempt)
