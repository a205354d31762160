"""Record where a database is, without running anything."""

from __future__ import annotations

from collections.abc import Sequence

from vecmig.config import Config
from vecmig.errors import ScriptError
from vecmig.events import Listener, ignore
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.locks import runner_locks
from vecmig.runner.plan import collections_of
from vecmig.runner.project import Project
from vecmig.script import Script, ScriptDirectory


def stamp(config: Config, target: str, *, listener: Listener = ignore) -> tuple[str, ...]:
    """Record that the database is at ``target`` without running anything; return the revisions recorded or removed.

    Branches that ``target`` is not on stay as they are recorded. It writes down what is already true: it refuses when
    a collection's live tag is not the one that its newest recorded revision would have made live. That serves scripts
    that were renamed, merged or squashed, and a script whose change after it was applied is meant.

    Raises:
        ScriptError: the database does not agree.
    """
    project = Project(config, listener)
    ensure(project.database)
    goals = [script.id for script in project.scripts.find(target)]
    rows = project.revisions()
    kept = _beside(project.scripts, target, goals, [row.id for row in rows.values() if row.applied])
    ids = project.scripts.map.applied(goals)
    newest_last = tuple(reversed(project.scripts.history()))
    scripts = tuple(script for script in newest_last if script.id in ids)
    applied = {row.collection for row in rows.values() if row.applied and row.collection}
    collections = sorted(applied.union(collections_of(scripts)))
    with (
        runner_locks(project.database, collections, what="stamp") as locks,
        project.holding(locks).context.transaction() as ledger,
    ):
        changed = _record(ledger, scripts) + _remove(ledger, ids | kept)
        expected = {
            script.collection: script.new_tag for script in newest_last if script.collection and script.id in ids | kept
        }
        routes = ledger.routes.all()
        for collection in expected.keys() | routes.keys():
            live = routes[collection].live if collection in routes else None
            if live != expected.get(collection):
                raise ScriptError(
                    f"The database is not there: {collection} reads {live or 'no tag'}, and the stamp would say "
                    f"{expected.get(collection) or 'no tag'}.",
                    state="Nothing was changed.",
                    hint="stamp records what is already true. To move the database, run vecmig upgrade or downgrade.",
                )
        ledger.record_event("stamp", data={"target": target, "changed": list(changed)})
        return changed


def _beside(scripts: ScriptDirectory, target: str, goals: Sequence[str], applied: Sequence[str]) -> frozenset[str]:
    """Name the applied revisions of those branches that a stamp says nothing about."""
    graph = scripts.map.graph
    label, at, _ = target.partition("@")
    named = [*goals, *(script.id for script in (scripts.find(label) if at and label else ()))]
    about = {id_ for name in named for id_ in graph.lineage(name, dependencies=True)}
    current = scripts.map.current_heads([id_ for id_ in applied if id_ in scripts.map])
    return scripts.map.applied(head for head in current if named and head not in about)


def _record(ledger: Ledger, scripts: tuple[Script, ...]) -> tuple[str, ...]:
    rows = ledger.revisions.all()
    changed = []
    for script in scripts:
        row = rows.get(script.id)
        if row is None or not row.applied or row.checksum != script.checksum:
            ledger.revisions.stamp(script.id, script.collection, script.old_tag, script.new_tag, script.checksum)
            changed.append(script.id)
    return tuple(changed)


def _remove(ledger: Ledger, kept: frozenset[str]) -> tuple[str, ...]:
    gone = tuple(row.id for row in ledger.revisions.all().values() if row.applied and row.id not in kept)
    for revision in gone:
        ledger.revisions.unstamp(revision)
        # an upgrade that comes back to it runs them again, as after a downgrade
        ledger.statements.forget_all(revision)
    return gone
