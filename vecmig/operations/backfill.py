"""Embed every record that lacks a fresh vector under a new tag."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.backfill import Result, run_backfill
from vecmig.freshness.coverage import count_records
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import find_coverage
from vecmig.homes import open_home
from vecmig.operations.context import Context
from vecmig.operations.embedders import batch_options, embedder_to_fill, prepare_tag, ray_options, run_options
from vecmig.operations.operation import Operation
from vecmig.operations.rollback_gate import lacking
from vecmig.text import count, counted


@dataclass(frozen=True)
class Backfill(Operation):
    """Complete the new tag. Running it again is resuming."""

    #: Stop after about this many records; the revision stays where it is.
    limit: int | None = None

    def done(self) -> bool:
        """Return whether no eligible record is stale or missing."""
        source = self.source()
        with self.context.database.session() as connection:
            home = open_home(self.context.ledger(connection), source, self.new_tag)
            return home.exists() and lacking(find_coverage(connection, home.stamps)) == 0

    def run(self) -> None:
        """Embed what is pending; each batch commits with its stamps."""
        with self.reported("backfill", self.new_tag) as summarise:
            result = fill_tag(self.context, self.stamps(self.followed_source()), self.revision.revision, self.limit)
            with self.context.transaction() as ledger:
                figures = {
                    "written": result.done.written,
                    "rejected": result.done.rejected,
                    "seconds": round(result.seconds, 3),
                }
                self.record(ledger, "backfill", figures | {"coverage": result.coverage.share})
                if self.limit is None:
                    self.advance(ledger, "backfilled")
            summarise(summary(result))

    def undo(self) -> None:
        """Leave the vectors, which were paid for: going forward again embeds only what changed since."""

    def sql(self) -> list[str]:
        """Return a comment that says how much there is to embed, which is no SQL."""
        source = self.source()
        with self.context.database.session() as connection:
            _, eligible = count_records(connection, source)
        return [f"-- backfill: up to {eligible} records are embedded under {self.new_tag}: vecmig backfill"]


def fill_tag(
    context: Context, stamps: Stamps, revision: str, limit: int | None = None, *, here: bool = False
) -> Result:
    """Embed what is pending under the tag of a revision.

    Args:
        context: the context.
        stamps: the tag.
        revision: whose cost it is.
        limit: stop after about this many records.
        here: whether this process does it at once, whichever engine is chosen, and whatever the recipe would order.
    """
    name, base = stamps.source.collection.name, stamps.base
    if base is not None:
        with context.database.session() as connection:
            kept = base.tag in context.ledger(connection).routes.of(name).maintained
            lacks = kept and lacking(find_coverage(connection, base)) > 0
        if lacks:
            # it is bought once, for both
            fill_tag(context, base, revision, here=here)
    with embedder_to_fill(context, name, stamps.tag, what="backfill", revision=revision) as embedder:
        with context.database.session() as connection:
            ledger = context.ledger(connection)
            home = open_home(ledger, stamps.source, stamps.tag)
            home.require()
            leading = ledger.revisions.row_leading_to(name, stamps.tag)
        # before it is live for the first time, each record is compared, whatever the outbox tells
        first = leading is None or leading.live_at is None
        batch = None if here else batch_options(context, name, stamps.tag, revision=revision)
        return run_backfill(
            context.database,
            home.stamps,
            embedder,
            limit=limit,
            full=first and not here,
            options=run_options(context, "backfill"),
            ray=None if here or batch else ray_options(context, name, stamps.tag, revision=revision),
            batch=batch,
            prepare=prepare_tag(context, embedder, stamps),
            listener=context.listener,
        )


def summary(result: Result) -> str:
    """Return what a backfill did, in words."""
    done, coverage = result.done, result.coverage
    rate = done.written / result.seconds if result.seconds else 0
    parts = [f"{counted(done.written, 'record')} embedded" + (f" ({rate:,.0f}/s)" if done.written else "")]
    if done.adopted:
        derived = f"{counted(done.adopted, 'record')} derived ({done.adopted / result.seconds:,.0f}/s)"
        parts = [derived, *(parts if done.written else [])]
    if done.rejected:
        parts.append(f"{count(done.rejected)} rejected")
    return f"{', '.join(parts)}; {count(coverage.fresh)} of {count(coverage.eligible)} fresh"
