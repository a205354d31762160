"""Roll revisions back, and say which downgrade rolls back which."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vecmig.config import Config
from vecmig.errors import ScriptError, UsageError, VecmigError
from vecmig.events import Listener, Warned, ignore
from vecmig.ledger.install import ensure
from vecmig.ledger.phases import RevisionRow
from vecmig.operations.leaving import Leaving
from vecmig.runner.at_work import at_work
from vecmig.runner.failures import failures_kept
from vecmig.runner.plan import check_downgrade, collections_of
from vecmig.runner.project import Project
from vecmig.runner.steps import RevisionResult, call, same_collections
from vecmig.script import Script, ScriptDirectory
from vecmig.text import one_line

#: A target that counts steps, from wherever the database is.
_COUNTS: Final = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class DowngradeCommand:
    """The downgrade that rolls a revision back."""

    command: str = "vecmig downgrade -1"
    #: The other revisions that it rolls back.
    besides: tuple[str, ...] = ()


def downgrade_of(project: Project, rows: Mapping[str, RevisionRow], revision: str) -> DowngradeCommand:
    """Return the downgrade that rolls back a revision and what stands above it, such as one in progress, no more."""
    try:
        heads = project.current(rows, in_progress=True)
        if revision in heads and not project.begun_anew(rows):
            target = f"{project.scripts.branches.name(revision, heads)}@-1" if len(heads) > 1 else "-1"
        else:
            target = _below(project.scripts, project.scripts[revision], heads)
        path = [script.id for script in project.scripts.downgrade_path(target, heads) if script.id in rows]
    except ScriptError:
        # a script is missing, so that nothing is rolled back before it is there again
        return DowngradeCommand()
    return DowngradeCommand(f"vecmig downgrade {shlex.quote(target)}", tuple(id_ for id_ in path if id_ != revision))


def refuse_counting(
    project: Project, rows: Mapping[str, RevisionRow], target: str, heads: Sequence[str], steps: Sequence[Script]
) -> None:
    """Refuse to count steps where the revision that was begun last is not the one on top.

    Raises:
        UsageError: there is one below the first of these steps; the message says how to roll back either.
    """
    if not steps or not _COUNTS.search(target):
        return
    top, graph = steps[0], project.scripts.map.graph
    begun = [id_ for id_ in project.begun_anew(rows) if id_ in graph.ancestors([top.id])]
    if begun:
        below = project.scripts[begun[0]]
        served = any(row.applied and row.collection == below.collection for row in rows.values())
        uninstall = f"To give {below.id} up: vecmig uninstall --collection {shlex.quote(below.collection or '')}"
        finish = f"To finish {below.id}: vecmig upgrade {below.id}"
        raise UsageError(
            f"Revision {below.id} of {below.collection} is in progress below {top.id} of {top.collection}, which is "
            f"what {target} would roll back.",
            state="Nothing was changed.",
            hint=f"{finish if served else uninstall}\n"
            f"To roll {top.id} back: vecmig downgrade {shlex.quote(_below(project.scripts, top, heads))}",
        )


def goal_of(scripts: ScriptDirectory, target: str, last: Script, heads: Sequence[str]) -> str:
    """Name where a downgrade leads so that it means the same after some of its steps.

    Args:
        scripts: the project's.
        target: as it was given.
        last: the last revision that it rolls back.
        heads: what it started from.
    """
    return _below(scripts, last, heads) if _COUNTS.search(target) else target


def _below(scripts: ScriptDirectory, script: Script, heads: Sequence[str]) -> str:
    """Name what a revision rests on so that a downgrade to it rolls back that revision, and no other branch."""
    graph = scripts.map.graph
    goal = next(iter(script.revision.down_revisions), "base")
    beside = graph.next[goal] if script.revision.down_revisions else graph.bases
    if not any(id_ in graph.ancestors(heads) for id_ in beside if id_ != script.id):
        return goal
    return f"{scripts.branches.name(script.id, beside)}@{goal}"


def downgrade(
    config: Config,
    target: str,
    *,
    discard: bool = False,
    hold: bool = True,
    reason: str | None = None,
    listener: Listener = ignore,
) -> tuple[RevisionResult, ...]:
    """Roll revisions back down to ``target``: reads return to the old tag, and every vector is kept.

    A revision that is not live yet is abandoned; its vectors are kept too, unless ``discard`` says otherwise. Either is
    on hold from then on, and upgrades pass it by, unless its collection is left without a live tag.

    Args:
        config: the project.
        target: a revision, in Alembic's grammar.
        discard: whether the vectors of a revision that never was live are deleted.
        hold: False where the next upgrade is to take them forward again.
        reason: why, for everybody who looks.
        listener: told of what happens.
    """
    project = Project(config, listener)
    leaving = Leaving(discard=discard, hold=hold, reason=one_line(reason))
    with project.database.keeping_sessions():
        steps = _steps_down(project, target)
        # a ledger of an earlier version has no room for a hold
        ensure(project.database)
        with at_work(project, collections_of(steps), "downgrade") as project:
            again = same_collections(steps, _steps_down(project, target))
            return _backward(project, again, target, leaving)


@dataclass(frozen=True, slots=True)
class StepDown:
    """One revision that a downgrade would leave."""

    revision: str
    collection: str | None
    old_tag: str | None
    new_tag: str | None
    #: Whether its tag is live: reads move then.
    live: bool


def downgrade_steps(config: Config, target: str) -> tuple[StepDown, ...]:
    """Return what ``downgrade`` would leave, newest first. Nothing is written."""
    project = Project(config)
    rows = project.revisions()
    return tuple(
        StepDown(script.id, script.collection, script.old_tag, script.new_tag, rows[script.id].applied)
        for script in _steps_down(project, target)
    )


def _steps_down(project: Project, target: str) -> tuple[Script, ...]:
    rows = project.revisions()
    heads = project.current(rows, in_progress=True)
    if not heads:
        raise UsageError("There is nothing to downgrade: no revision was applied here.", hint="Run: vecmig status")
    path = project.scripts.downgrade_path(target, heads)
    refuse_counting(project, rows, target, heads, path)
    # of what was rolled back before, or uninstalled, nothing is left to roll back
    steps = tuple(s for s in path if s.id in rows and (rows[s.id].applied or rows[s.id].in_progress))
    check_downgrade(steps, rows)
    return steps


def _backward(project: Project, steps: tuple[Script, ...], target: str, leaving: Leaving) -> tuple[RevisionResult, ...]:
    results: list[RevisionResult] = []
    heads = project.current(project.revisions(), in_progress=True)
    for script in steps:
        try:
            row = project.revisions()[script.id]
            if row.checksum != script.checksum:
                what = f"Revision {script.id} was changed since it was applied; its downgrade() runs as it is."
                project.listener(Warned(what))
            # where a downgrade was cut short, its reads have moved already
            was_live = row.applied or (
                row.live_at is not None and row.phase == "indexed" and not _goes_on(project, row)
            )
            with failures_kept(project, "downgrade", [script.collection] if script.collection else [], but=UsageError):
                call(project, script, "downgrade", leaving=leaving)
                _withdraw(project, script, leaving)
            results.append(_left(project, script, was_live=was_live))
        except VecmigError as error:
            if results:
                _tell_of_steps(error, results, script, goal_of(project.scripts, target, steps[-1], heads))
            raise
    _begin_again(project)
    rows = project.revisions()
    return tuple(replace(step, on_hold=rows[step.revision].hold is not None) for step in results)


def _goes_on(project: Project, row: RevisionRow) -> bool:
    """Return whether a revision's tag is the candidate of its collection."""
    with project.database.session() as connection:
        return project.context.ledger(connection).routes.of(row.collection or "").candidate == row.new_tag


def _begin_again(project: Project) -> None:
    """Release the statements of which nothing is left that they rest on: where no tag is live, nothing is on hold."""
    rows, graph = project.revisions(), project.scripts.map.graph
    released = []
    for row in rows.values():
        if row.hold is None or row.collection is not None or row.id not in graph.revisions:
            continue
        below = [rows[id_] for id_ in graph.ancestors([row.id]) - {row.id} if id_ in rows]
        moving = [other for other in below if other.collection is not None]
        if not any(other.applied for other in moving or below):
            released.append(row.id)
    if released:
        with project.context.transaction() as ledger:
            ledger.revisions.release(released)


def _tell_of_steps(error: VecmigError, results: Sequence[RevisionResult], failed: Script, goal: str) -> None:
    """Add to the error of a step back which steps before it are done, and where to go on to."""
    done = "; then ".join(
        f"revision {step.revision} was {step.outcome}" + (f": {step.note}" if step.note else "") for step in results
    )
    state = f" At revision {failed.id}: {error.state}" if error.state else ""
    error.state = f"{done[:1].upper()}{done[1:]}.{state}"
    # a number of steps would be counted from here now
    error.hint = f"{error.hint}\nTo go on to where this was to lead: vecmig downgrade {shlex.quote(goal)}".strip()


def _withdraw(project: Project, script: Script, leaving: Leaving) -> None:
    """Enter a revision as rolled back, once its downgrade() has come to its end."""
    with project.context.transaction() as ledger:
        if script.collection is not None:
            route = ledger.routes.of(script.collection)
            used = script.new_tag in (route.live, route.candidate)
            if ledger.revisions.all()[script.id].applied if script.index_only else used:
                raise ScriptError(
                    f"downgrade() of revision {script.id} ended without rolling it back.",
                    hint=f"Its downgrade() must call m.rollback(): vecmig edit {script.id}",
                )
        else:
            if leaving.hold:
                ledger.revisions.hold(script.id, leaving.reason)
            ledger.record_event("downgrade", revision=script.id, data=leaving.figures)
        ledger.revisions.withdraw(script.id)
        ledger.statements.forget_all(script.id)


def _left(project: Project, script: Script, *, was_live: bool) -> RevisionResult:
    """Say what became of a revision that was left, and what reads use."""
    rows = project.revisions()
    row = rows[script.id]
    outcome = "rolled back" if was_live or script.collection is None else "abandoned"
    note = command = ""
    if script.collection is not None:
        with project.database.session() as connection:
            served = project.context.ledger(connection).live_revision(script.collection)
        live = served.new_tag if served else None
        note = f"reads of {script.collection} use {live or 'no tag'}"
        if served is not None and not was_live:
            command = downgrade_of(project, rows, served.id).command
            note = f"reads of {script.collection} have not moved: they use {live}"
    return RevisionResult(script.id, script.message, row.phase, outcome, note, command, on_hold=row.hold is not None)
