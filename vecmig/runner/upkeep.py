"""Embed what is pending for the revision in progress outside a walk, judge its gate, and see what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vecmig.config import Config
from vecmig.errors import UsageError
from vecmig.events import Listener, ignore
from vecmig.freshness.coverage import Coverage, measure_coverage
from vecmig.gate import Report
from vecmig.homes.table import require_partition
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Rejected, RevisionRow
from vecmig.model.gate import Gate
from vecmig.operations.database import DatabaseMigration, Stopped
from vecmig.postgres.locks import runner_locks
from vecmig.runner.project import Project, declaration, with_engine
from vecmig.runner.walk import by_collection


def backfill(
    config: Config,
    collections: Sequence[str] = (),
    *,
    limit: int | None = None,
    max_cost: float | None = None,
    engine: str | None = None,
    workers: int | None = None,
    listener: Listener = ignore,
) -> dict[str, Coverage]:
    """Run the backfill of the revisions in progress; give the coverage of each collection's new tag.

    Args:
        config: the project.
        collections: which ones; empty for all that have a revision in progress.
        limit: stop each after about this many records.
        max_cost: US dollars that embedding for a revision may cost in all, in place of the recipe's ``budget_usd``.
        engine: who embeds in a backfill, ``local`` or ``ray``, in place of what the project says.
        workers: how many workers the engine ``ray`` has, in place of what the project says.
        listener: told of what happens.

    Raises:
        UsageError: no revision is in progress there.
    """
    project = Project(with_engine(config, engine, workers), listener, max_cost)
    wanted = _in_progress(project, collections)
    idle = [name for name in collections if name not in wanted]
    if idle or not wanted:
        raise UsageError(
            f"No revision{' of ' if idle else ''}{', '.join(idle)} is in progress.",
            hint="Begin one: vecmig upgrade --until expand",
        )
    with runner_locks(project.database, list(wanted), what="backfill") as locks:
        project = project.holding(locks)
        for row in wanted.values():
            script = project.scripts[row.id]
            m = DatabaseMigration(project.workspace, declaration(script), step="backfill", limit=limit)
            with suppress(Stopped):
                script.function("backfill")(m)
    return {name: _coverage(project, name, row.new_tag or "") for name, row in wanted.items()}


def rejected(config: Config, collection: str | None = None) -> list[Rejected]:
    """List the records that cannot be embedded as they are, with the reasons; of one collection, or of all."""
    project = Project(config)
    if collection is not None:
        project.collections.collection(collection)
    with project.database.session() as connection:
        return project.workspace.ledger(connection).rejected(collection)


def retry_rejected(config: Config, collection: str | None = None) -> int:
    """Let rejected records be tried again by the next run; give how many there are."""
    project = Project(config)
    if collection is not None:
        project.collections.collection(collection)
    with project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        count = ledger.retry_rejected(collection)
        if count:
            ledger.record_event("retry", collection=collection, data={"records": count})
        return count


def gate_reports(
    config: Config, collections: Sequence[str] = (), *, ask: bool = True, listener: Listener = ignore
) -> dict[str, tuple[str, Report]]:
    """Judge the gate of each revision in progress, as its cutover would; nothing is written but what asking costs.

    Args:
        config: the project.
        collections: which ones; empty for all that have a revision in progress.
        ask: whether to ask the embedder, for the canary and a close look; otherwise these checks are left open.
        listener: told of what is waited for.

    Returns:
        By collection: the revision's id and the report; empty where nothing is in progress.
    """
    project = Project(config, listener)
    wanted = _in_progress(project, collections)
    return {name: (row.id, _judge(project, name, row, ask=ask)) for name, row in wanted.items()}


def _in_progress(project: Project, collections: Sequence[str]) -> dict[str, RevisionRow]:
    rows = project.revisions()
    project.current(rows, in_progress=True)
    found = by_collection(rows)
    for name in collections:
        project.collections.collection(name)
    return {name: row for name, row in found.items() if not collections or name in collections}


def _judge(project: Project, name: str, row: RevisionRow, *, ask: bool) -> Report:
    assert row.new_tag is not None, "a revision with a collection has a new tag"
    workspace = project.workspace
    with workspace.database.session() as connection:
        source = find_source(project.workspace.ledger(connection), project.collections.collection(name))
        require_partition(connection, workspace.space(source, row.new_tag))
    gate = project.scripts[row.id].gate or Gate()
    return workspace.judge(gate, source, row.new_tag, row.old_tag, ask=ask)


def _coverage(project: Project, name: str, tag: str) -> Coverage:
    with project.database.session() as connection:
        source = find_source(project.workspace.ledger(connection), project.collections.collection(name))
        return measure_coverage(connection, project.workspace.space(source, tag))
