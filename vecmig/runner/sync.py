"""Bring every tag that must stay complete up to date, once: live, standby and candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from vecmig.backfill import Result, RunBudget, run_backfill
from vecmig.config import Config
from vecmig.errors import DatabaseError, DatabaseUnreachable, UsageError, VecmigError
from vecmig.events import Listener, Noted, StepDone, StepStarted, ignore
from vecmig.freshness.coverage import Coverage
from vecmig.homes.table import require_partition
from vecmig.inventory.exposure import exposures
from vecmig.ledger.access import close_restored, mirror_access, remember_grants
from vecmig.ledger.control import What
from vecmig.ledger.ledger import Ledger, Route
from vecmig.ledger.schema import ensure
from vecmig.operations.workspace import Workspace
from vecmig.postgres.locks import runner_at_work, runner_locks
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.source.source import Source
from vecmig.text import counted


class _LeftToRunner(VecmigError):
    """A runner began to work on the collection: its candidate is its own."""


def sync(
    config: Config,
    collections: Sequence[str] = (),
    *,
    max_cost: float | None = None,
    listener: Listener = ignore,
) -> dict[tuple[str, str], Coverage]:
    """Bring every tag that must stay complete up to date: live, standby and candidate.

    It may run beside an upgrade, a backfill or a downgrade, to which it leaves the candidate.

    Args:
        config: the project.
        collections: which ones; empty for all that have a tag.
        max_cost: US dollars that this run may cost, all tags together.
        listener: told of what happens.

    Returns:
        The coverage by collection and tag.
    """
    project = project_for(config, listener, max_cost)
    routes = _routes(project)
    names = [name for name in (collections or project.collections.collections) if name in routes]
    for name in collections:
        if name not in routes:
            project.collections.collection(name)
            raise UsageError(f"Collection {name} has no tag yet.", hint="Run: vecmig upgrade head")
    if not names:
        return {}
    ensure(project.database)
    done: dict[tuple[str, str], Coverage] = {}
    with runner_locks(project.database, names, what="sync", kind="sync") as locks:
        project = project.holding(locks)
        for name in names:
            done |= _sync_collection(project, name)
    return done


def _routes(project: Project) -> dict[str, Route]:
    with project.database.session() as connection:
        return project.workspace.ledger(connection).routes()


def _sync_collection(project: Project, name: str) -> dict[tuple[str, str], Coverage]:
    workspace = project.workspace
    source = workspace.inspect(workspace.collections.collection(name))
    prepare(workspace, source)
    with workspace.database.session() as connection:
        route = workspace.ledger(connection).route(name)
        runner = runner_at_work(connection, workspace.database.schema, name) if route.candidate else None
    done: dict[tuple[str, str], Coverage] = {}
    for tag in route.maintained:
        if runner is not None and tag == route.candidate:
            project.listener(left_to_runner(tag, runner))
            continue
        with tolerating(project, name, tag):
            done[name, tag] = _sync_tag(workspace, source, tag).coverage
    build_indexes(project, source, [tag for tag in (route.live, route.standby) if (name, tag) in done])
    return done


def _sync_tag(workspace: Workspace, source: Source, tag: str) -> Result:
    name = source.collection.name
    workspace.listener(StepStarted("sync", "", name, tag))
    with workspace.database.session() as connection:
        require_partition(connection, workspace.space(source, tag))
        ledger = workspace.ledger(connection)
        revision, what = account(ledger, name, tag)
        candidate = tag == ledger.route(name).candidate
    with (
        workspace.worker(name, tag, what=what, revision=revision) as embedder,
        _alone(workspace, name, tag) if candidate else nullcontext(workspace.still_alone) as still_alone,
    ):
        space = workspace.space(source, tag)
        result = run_backfill(
            workspace.database,
            space,
            embedder,
            options=replace(workspace.terms("sync"), still_alone=still_alone),
            prepare=workspace.maintain(embedder, space),
            listener=workspace.listener,
        )
    record(workspace, name, tag, result.written, result.rejected, coverage=result.coverage.share)
    embedded, fresh = counted(result.written, "record"), result.coverage.fresh
    summary = f"{tag}: {embedded} embedded; {fresh:,} of {result.coverage.eligible:,} fresh"
    workspace.listener(StepDone("sync", "", name, summary, result.seconds))
    return result


@contextmanager
def _alone(workspace: Workspace, name: str, tag: str) -> Iterator[Callable[[], None]]:
    """Yield what makes sure, once a second, that no other sync and, of a candidate, no runner took over."""
    schema = workspace.database.schema
    with ReconnectingSession(workspace.database) as session:

        def still_alone() -> None:
            workspace.still_alone()
            runner = session.run(lambda connection: runner_at_work(connection, schema, name))
            if runner is not None:
                raise _LeftToRunner(left_to_runner(tag, runner).message)

        yield still_alone


@contextmanager
def tolerating(project: Project, name: str, tag: str) -> Iterator[None]:
    """Pass over a tag that a runner took over, or that went away, while this was at work on it."""
    try:
        yield
    except _LeftToRunner as error:
        project.listener(Noted(error.message))
    except DatabaseUnreachable:
        raise
    except DatabaseError:
        if tag in _routes(project).get(name, Route(name)).maintained:
            raise
        project.listener(gone(name, tag))


# What the service shares -------------------------------------------------------------------------------------------


def project_for(config: Config, listener: Listener, max_cost: float | None) -> Project:
    """Open the project for a run of which ``max_cost`` is the sum over all tags."""
    project = Project(config, listener, max_cost)
    return project if max_cost is None else replace(project, run_budget=RunBudget(max_cost))


def prepare(workspace: Workspace, source: Source, *, edits: bool = True) -> list[str]:
    """Let triggers, live view and grants follow collections.yaml, once for all tags; give what was missing.

    Args:
        workspace: the workspace.
        source: the collection.
        edits: whether to follow another text, where or change_tracking.
    """
    schema = workspace.database.schema
    with workspace.database.session() as connection:
        exposed = exposures(connection, source, schema)
    missing = workspace.follow(source, edits=edits)

    def mirror(connection: Connection) -> None:
        close_restored(connection, schema)
        mirror_access(connection, source, schema)
        remember_grants(connection, source, schema)

    workspace.locked(mirror)
    if found := exposed + missing:
        workspace.listener(Noted(f"{source.collection.name}: {'; '.join(found)}: made good"))
    return missing


def build_indexes(project: Project, source: Source, tags: Sequence[str | None]) -> None:
    """Build the indexes of tags that reads use or may go back to, where somebody dropped one or left it invalid."""
    for tag in filter(None, tags):
        with tolerating(project, source.collection.name, tag):
            project.workspace.build_index(project.workspace.space(source, tag))


def account(ledger: Ledger, name: str, tag: str) -> tuple[str, What]:
    """Return the revision that a tag's cost belongs to, and as what.

    Whoever embeds a candidate whose backfill never came to its end does that backfill, within its budget.
    """
    revision = ledger.revision_of(name, tag)
    row = ledger.revisions().get(revision)
    unfilled = row is not None and row.in_progress and row.phase == "expanded"
    return revision, "backfill" if unfilled else "sync"


def record(workspace: Workspace, name: str, tag: str, written: int, rejected: int, **more: float) -> None:
    """Enter what was done into the history."""
    figures = {"written": written, "rejected": rejected} | more
    with workspace.database.transaction() as connection:
        workspace.ledger(connection).record_event("sync", collection=name, tag=tag, data=figures)


def left_to_runner(tag: str, runner: str) -> Noted:
    """Say that a candidate is not taken care of here."""
    return Noted(f"{tag} is left to {runner}")


def gone(name: str, tag: str) -> Noted:
    """Say that a tag is not to be kept complete any more."""
    return Noted(f"{tag} is not live, standby or candidate of {name} any more, and was passed over")
