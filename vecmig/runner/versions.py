"""Where a database stands among the revisions: current, stamp, ensure_version."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.config import Config
from vecmig.errors import Blocked, ConfigError, DatabaseError, ScriptError
from vecmig.events import Listener, Warned, ignore
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.schema import VERSION, ensure
from vecmig.operations.placing import place
from vecmig.postgres.locks import runner_locks
from vecmig.runner.plan import collections_of
from vecmig.runner.project import Project
from vecmig.script import Script


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a database is: the heads of what is applied, what is on its way, and whether all scripts are applied."""

    heads: tuple[Script, ...]
    #: Revisions that were started and are not live, with their phase.
    in_progress: tuple[tuple[Script, str], ...]
    at_head: bool


def current(config: Config) -> Standing:
    """Say where the database is. Nothing is written, not even vecmig's own tables."""
    project = Project(config)
    rows = project.revisions()
    heads = project.current(rows)
    shown = project.scripts.map.current_by_branch(heads)
    going = [
        (project.scripts[row.id], row.phase)
        for row in rows.values()
        if row.in_progress and row.id in project.scripts.map
    ]
    return Standing(
        heads=tuple(project.scripts[revision] for revision in shown),
        in_progress=tuple(going),
        at_head=set(heads) == set(project.scripts.map.real_heads) and not project.forgotten(rows),
    )


def ensure_version(config: Config, *, listener: Listener = ignore) -> tuple[int, int]:
    """Install vecmig's own tables if they are missing or old; give their version before and after.

    What was made for collections is brought to where this version has it: the vectors into ``vectors_schema``, rights,
    triggers, live view and search function.
    """
    project = Project(config, listener)
    before = ensure(project.database)
    with project.database.session() as connection:
        names = sorted(project.workspace.ledger(connection).routes())
    if names:
        with (
            runner_locks(project.database, names, what="ensure_version") as locks,
            runner_locks(project.database, names, what="ensure_version", kind="sync"),
        ):
            for name in names:
                _place(project.holding(locks), name)
    return before, VERSION


def _place(project: Project, name: str) -> None:
    """Bring what was made for one collection up to date."""
    workspace = project.workspace
    try:
        with workspace.database.session() as connection:
            ledger = workspace.ledger(connection)
            source = find_source(ledger, ledger.collection(name), expressions=False, even_replaced=True)
    except Blocked:
        raise
    except (ConfigError, DatabaseError) as error:
        project.listener(Warned(f"{name} is left as it is: {error.message}"))
        return
    place(workspace, source)


def stamp(config: Config, target: str, *, listener: Listener = ignore) -> tuple[str, ...]:
    """Record that the database is at ``target`` without running anything; give the revisions recorded or removed.

    It writes down what is already true: it refuses when a collection's live tag is not the one that its newest recorded
    revision would have made live. That serves scripts that were renamed, merged or squashed, and a script whose change
    after it was applied is meant.

    Raises:
        ScriptError: the database does not agree.
    """
    project = Project(config, listener)
    ensure(project.database)
    wanted = _wanted(project, target)
    applied = {row.collection for row in project.revisions().values() if row.applied and row.collection}
    collections = sorted(applied.union(collections_of(wanted)))
    with runner_locks(project.database, collections, what="stamp"), project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        changed = _record(ledger, wanted) + _remove(ledger, {script.id for script in wanted})
        _refuse_untrue(ledger, wanted)
        ledger.record_event("stamp", data={"target": target, "changed": list(changed)})
        return changed


def _wanted(project: Project, target: str) -> tuple[Script, ...]:
    heads = [script.id for script in project.scripts.find(target)] if target != "base" else []
    ids = project.scripts.map.applied(heads)
    return tuple(script for script in reversed(project.scripts.history()) if script.id in ids)


def _record(ledger: Ledger, wanted: tuple[Script, ...]) -> tuple[str, ...]:
    rows = ledger.revisions()
    changed = []
    for script in wanted:
        row = rows.get(script.id)
        if row is None or not row.applied or row.checksum != script.checksum:
            ledger.stamp_revision(script.id, script.collection, script.old_tag, script.new_tag, script.checksum)
            changed.append(script.id)
    return tuple(changed)


def _remove(ledger: Ledger, kept: set[str]) -> tuple[str, ...]:
    gone = tuple(row.id for row in ledger.revisions().values() if row.applied and row.id not in kept)
    for revision in gone:
        ledger.unstamp_revision(revision)
        # an upgrade that comes back to it runs them again, as after a downgrade
        ledger.forget_statements(revision)
    return gone


def _refuse_untrue(ledger: Ledger, wanted: tuple[Script, ...]) -> None:
    expected = {script.collection: script.new_tag for script in wanted if script.collection}
    routes = ledger.routes()
    for collection in expected.keys() | routes.keys():
        live = routes[collection].live if collection in routes else None
        if live != expected.get(collection):
            raise ScriptError(
                f"The database is not there: {collection} reads {live or 'no tag'}, and the stamp would say "
                f"{expected.get(collection) or 'no tag'}.",
                state="Nothing was changed.",
                hint="stamp records what is already true. To move the database, run vecmig upgrade or downgrade.",
            )
