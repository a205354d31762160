"""Embed what is pending for the revisions in progress, outside an upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vecmig.config import Config
from vecmig.errors import UsageError
from vecmig.events import Listener, ignore
from vecmig.freshness.coverage import Coverage
from vecmig.freshness.standing import find_coverage
from vecmig.ledger.identity import find_source
from vecmig.operations.script import ScriptMigration, Stopped
from vecmig.runner.apart import Apart
from vecmig.runner.at_work import at_work
from vecmig.runner.failures import failures_kept
from vecmig.runner.project import Project, with_options
from vecmig.runner.steps import declaration, revisions_in_progress


def backfill(
    config: Config,
    collections: Sequence[str] = (),
    *,
    limit: int | None = None,
    max_cost: float | None = None,
    engine: str | None = None,
    workers: int | None = None,
    wait: bool = True,
    listener: Listener = ignore,
) -> dict[str, Coverage]:
    """Run the backfill of the revisions in progress; return the coverage of each collection's new tag.

    Args:
        config: the project.
        collections: which ones; empty for all that have a revision in progress.
        limit: stop each after about this many records.
        max_cost: US dollars that embedding for a revision may cost in all, in place of the recipe's ``budget_usd``.
        engine: who embeds in a backfill, ``local`` or ``ray``, in place of what the project says.
        workers: how many workers the engine ``ray`` has, in place of what the project says.
        wait: whether to wait for what is ordered through a provider's Batch API.
        listener: told of what happens.

    Raises:
        UsageError: no revision is in progress there.
        Pending: texts are on order, and are not waited for.
        VecmigError: the worst of what a collection failed by, once the others are filled; ``done`` has these.
    """
    project = Project(with_options(config, engine=engine, workers=workers, max_cost=max_cost, wait=wait), listener)
    revisions = revisions_in_progress(project, collections)
    idle = [name for name in collections if name not in revisions]
    if idle or not revisions:
        raise UsageError(
            f"No revision{' of ' if idle else ''}{', '.join(idle)} is in progress.",
            hint="Begin one: vecmig upgrade --until expand",
        )
    with (
        project.database.keeping_sessions(),
        at_work(project, list(revisions), "backfill") as project,
    ):
        apart = Apart(project.listener, several=len(revisions) > 1)
        coverages: dict[str, Coverage] = {}
        for name, row in revisions.items():
            with (
                apart.each(name),
                failures_kept(project, "backfill", [name]),
                apart.asking(project, row.new_tag) as asking,
            ):
                script = project.scripts[row.id]
                m = ScriptMigration(asking.context, declaration(script), step="backfill", limit=limit)
                with suppress(Stopped):
                    script.function("backfill")(m)
                with project.database.session() as connection:
                    source = find_source(project.context.ledger(connection), project.collections.collection(name))
                    coverages[name] = find_coverage(connection, project.context.stamps(source, row.new_tag or ""))
    apart.raise_worst(coverages)
    return coverages
