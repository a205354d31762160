"""Bring every tag that must stay complete up to date, once: live, standby and candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

from vecmig.backfill import Figures, Result, RunBudget, run_backfill
from vecmig.config import Config
from vecmig.errors import BudgetSpent, DatabaseError, DatabaseUnreachable, UsageError, VecmigError
from vecmig.events import Listener, Noted, StepDone, StepStarted, ignore
from vecmig.freshness.coverage import Coverage
from vecmig.homes import open_home
from vecmig.inventory.exposure import exposures
from vecmig.ledger.access import close_restored, mirror_access, remember_grants
from vecmig.ledger.control import What
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Route
from vecmig.operations.adopt import verify_adopted
from vecmig.operations.context import Context
from vecmig.operations.embedders import embedder_to_fill, prepare_tag, run_options
from vecmig.operations.following import follow, inspect
from vecmig.operations.indexing import build_index
from vecmig.operations.recipes import recipe_of
from vecmig.postgres.locks import Holder, runner_at_work
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.runner.apart import Apart
from vecmig.runner.at_work import at_work
from vecmig.runner.failures import failures_kept, succeeded
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
    full: bool = False,
    listener: Listener = ignore,
) -> dict[tuple[str, str], Coverage]:
    """Bring every tag that must stay complete up to date: live, standby and candidate.

    It may run beside an upgrade, a backfill or a downgrade, to which it leaves the candidate.

    Args:
        config: the project.
        collections: which ones; empty for all that have a tag.
        max_cost: US dollars that this run may cost, all tags together.
        full: compare every record with its vectors, also where the outbox tells what changed.
        listener: told of what happens.

    Returns:
        The coverage by collection and tag.

    Raises:
        VecmigError: the worst of what a collection failed by, once the others are up to date; ``done`` has these.
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
    with (
        project.database.keeping_sessions(),
        at_work(project, names, "sync", kind="sync") as project,
    ):
        apart = Apart(project.listener, len(names) > 1, (BudgetSpent,) if max_cost else ())
        for name in names:
            with apart.each(name), failures_kept(project, "sync", [name]):
                _sync_collection(project, name, apart, done, full=full)
                project.context.tidy(name)
        succeeded(project, "sync", set(names) - apart.collections)
    apart.raise_worst(done)
    return done


def _routes(project: Project) -> dict[str, Route]:
    with project.database.session() as connection:
        return project.context.ledger(connection).routes.all()


def _sync_collection(
    project: Project, name: str, apart: Apart, done: dict[tuple[str, str], Coverage], *, full: bool
) -> None:
    """Bring the tags of one collection up to date, and add them to ``done``."""
    context = project.context
    source = inspect(context, context.collections.collection(name))
    prepare(context, source)
    with context.database.session() as connection:
        route = context.ledger(connection).routes.of(name)
        runner = runner_at_work(connection, context.database.schema, name) if route.candidate else None
    derived = dict(source.derived)
    # a tag whose vectors another one derives from comes before that
    for tag in sorted(route.maintained, key=lambda tag: tag in derived):
        if runner is not None and tag == route.candidate:
            project.listener(left_to_runner(name, tag, runner))
            continue
        if tag == route.candidate and _is_ordered(context, name, tag):
            project.listener(Noted(f"{name}: {tag} is left to its backfill, which orders it through the Batch API"))
            continue
        with tolerating(project, name, tag), apart.asking(project, tag) as asking:
            done[name, tag] = _sync_tag(asking.context, source, tag, full=full).coverage
    build_indexes(project, source, [tag for tag in (route.live, route.standby) if (name, tag) in done])


def _is_ordered(context: Context, name: str, tag: str) -> bool:
    """Return whether a candidate's backfill orders it, and has not come to its end."""
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        _, what = account(ledger, name, tag)
        return what == "backfill" and recipe_of(context, ledger, name, tag).service.batch


def _sync_tag(context: Context, source: Source, tag: str, *, full: bool) -> Result:
    name = source.collection.name
    context.listener(StepStarted("sync", "", name, tag))
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        home = open_home(ledger, source, tag)
        home.require()
        revision, what = account(ledger, name, tag)
        candidate = tag == ledger.routes.of(name).candidate
    with (
        embedder_to_fill(context, name, tag, what=what, revision=revision) as embedder,
        _alone(context, name, tag) if candidate else nullcontext(context.locks.ensure) as still_alone,
    ):
        result = run_backfill(
            context.database,
            home.stamps,
            embedder,
            full=full,
            options=replace(run_options(context, "sync"), still_alone=still_alone),
            prepare=prepare_tag(context, embedder, home.stamps),
            listener=context.listener,
        )
        verify_adopted(context, home.stamps, embedder, taken_over=result.done.adopted)
    record(context, name, tag, result.done, coverage=result.coverage.share)
    adopted = f"{counted(result.done.adopted, 'vector')} taken over, " if home.stamps.takes_over else ""
    embedded, fresh = counted(result.done.written, "record"), result.coverage.fresh
    summary = f"{name}, {tag}: {adopted}{embedded} embedded; {fresh:,} of {result.coverage.eligible:,} fresh"
    context.listener(StepDone("sync", "", name, summary, result.seconds))
    return result


@contextmanager
def _alone(context: Context, name: str, tag: str) -> Iterator[Callable[[], None]]:
    """Yield what makes sure, once a second, that no other sync and, of a candidate, no runner took over."""
    schema = context.database.schema
    with ReconnectingSession(context.database) as session:

        def still_alone() -> None:
            context.locks.ensure()
            runner = session.run(lambda connection: runner_at_work(connection, schema, name))
            if runner is not None:
                raise _LeftToRunner(left_to_runner(name, tag, runner).message)

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
    run_budget = None if max_cost is None else RunBudget(max_cost)
    return Project(replace(config, max_cost=max_cost), listener, run_budget)


def prepare(context: Context, source: Source, *, edits: bool = True) -> list[str]:
    """Let triggers, live view and grants follow collections.yaml, once for all tags; return what was missing.

    Args:
        context: the context.
        source: the collection.
        edits: whether to follow another text, where or change_tracking.
    """
    schema = context.database.schema
    with context.database.session() as connection:
        exposed = exposures(connection, source, schema)
    missing = follow(context, source, edits=edits)

    def mirror(connection: Connection) -> None:
        close_restored(connection, schema)
        mirror_access(connection, source, schema)
        remember_grants(connection, source, schema)
        if exposed:
            ledger = context.ledger(connection)
            ledger.record_event("follow", collection=source.collection.name, data={"made_good": exposed})

    context.locked(mirror)
    if lacking := exposed + missing:
        context.listener(Noted(f"{source.collection.name}: {'; '.join(lacking)}: made good"))
    return missing


def build_indexes(project: Project, source: Source, tags: Sequence[str | None]) -> None:
    """Build the indexes of tags that reads use or may go back to, where somebody dropped one or left it invalid."""
    name = source.collection.name
    for tag in filter(None, tags):
        with tolerating(project, name, tag):
            built = build_index(project.context, project.context.stamps(source, tag))
            if built is not None:
                with project.context.transaction() as ledger:
                    home = open_home(ledger, source, tag)
                    figures = {"bytes": home.index().bytes, "type": home.stamps.index_type} | asdict(built)
                    ledger.record_event("index", collection=name, tag=tag, data=figures)


def account(ledger: Ledger, name: str, tag: str) -> tuple[str, What]:
    """Return the revision that a tag's cost belongs to, and as what.

    Whoever embeds a candidate whose backfill never came to its end does that backfill, within its budget.
    """
    revision = ledger.revisions.leading_to(name, tag)
    row = ledger.revisions.all().get(revision)
    unfilled = row is not None and row.in_progress and row.phase == "expanded"
    return revision, "backfill" if unfilled else "sync"


def record(context: Context, name: str, tag: str, done: Figures, **more: float) -> None:
    """Enter what was done into the history; a sync that found nothing to do, as most do, leaves no event."""
    if not (done.written or done.rejected or done.adopted):
        return
    figures = {"written": done.written, "rejected": done.rejected} | more
    if done.adopted:
        figures |= {"adopted": done.adopted}
    with context.transaction() as ledger:
        ledger.record_event("sync", collection=name, tag=tag, data=figures)


def left_to_runner(name: str, tag: str, runner: Holder) -> Noted:
    """Say that a candidate is not taken care of here."""
    return Noted(f"{name}: {tag} is left to {runner}")


def gone(name: str, tag: str) -> Noted:
    """Say that a tag is not to be kept complete any more."""
    return Noted(f"{tag} is not live, standby or candidate of {name} any more, and was passed over")
