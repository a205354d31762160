"""Run revisions forward and back: lock, validate everything, walk the phases, record."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vecmig.config import Config, without_passwords
from vecmig.errors import DatabaseError, ScriptError, UsageError, VecmigError
from vecmig.events import Listener, Warned, ignore
from vecmig.ledger.ledger import RevisionRow, check_recipes
from vecmig.ledger.schema import ensure
from vecmig.operations.database import UNTIL, DatabaseMigration, Stopped
from vecmig.postgres.locks import runner_locks
from vecmig.runner.mending import mend
from vecmig.runner.plan import check_applied, check_downgrade, check_priced, check_upgrade, collections_of
from vecmig.runner.project import Project, declaration, with_engine
from vecmig.runner.way_down import goal_of, refuse_counting
from vecmig.script import Script, Step


@dataclass(frozen=True, slots=True)
class Walked:
    """One revision that a run took forward or back, and the phase it is in now."""

    revision: str
    message: str
    phase: str
    #: What reads of its collection use after a step back; empty where the revision has no collection.
    reads: str = ""


def upgrade(
    config: Config,
    target: str = "head",
    *,
    until: str | None = None,
    max_cost: float | None = None,
    engine: str | None = None,
    workers: int | None = None,
    listener: Listener = ignore,
) -> tuple[Walked, ...]:
    """Take every revision up to ``target`` through upgrade, backfill and cutover; go on where an earlier run stopped.

    Args:
        config: the project.
        target: a revision, in Alembic's grammar.
        until: stop the first revision that is not live yet after expand, backfill, index or gate.
        max_cost: US dollars that embedding for a revision may cost in all, in place of the recipe's ``budget_usd``.
        engine: who embeds in a backfill, ``local`` or ``ray``, in place of what the project says.
        workers: how many workers the engine ``ray`` has, in place of what the project says.
        listener: told of what happens.

    Raises:
        VecmigError: of any kind; what was done stays done, and running again goes on from there.
    """
    if until is not None and until not in UNTIL:
        raise UsageError(f"--until {until!r} is not a phase.", hint=f"It is one of: {', '.join(UNTIL)}")
    project = Project(with_engine(config, engine, workers), listener, max_cost)
    ensure_supported(project)
    steps = _way_up(project, target)
    walked: tuple[Walked, ...] = ()
    if steps:
        ensure(project.database)
        with runner_locks(project.database, collections_of(steps), what="upgrade") as locks:
            holding = project.holding(locks)
            walked = _forward(holding, _same_collections(steps, _way_up(holding, target)), until)
    mend(project, but=collections_of(steps))
    return walked


def downgrade(config: Config, target: str, *, discard: bool = False, listener: Listener = ignore) -> tuple[Walked, ...]:
    """Take revisions back down to ``target``: reads return to the old tag, and every vector is kept.

    A revision that is not live yet is abandoned; its vectors are kept too, unless ``discard`` says otherwise.
    """
    project = Project(config, listener)
    steps = _way_down(project, target)
    with runner_locks(project.database, collections_of(steps), what="downgrade") as locks:
        project = project.holding(locks)
        again = _same_collections(steps, _way_down(project, target))
        return _backward(project, again, target, discard=discard)


def _way_up(project: Project, target: str) -> tuple[Script, ...]:
    rows = project.revisions()
    check_applied(project.scripts.scripts, rows)
    steps = project.way_up(target, rows)
    check_upgrade(steps, rows, project.collections)
    if project.max_cost is not None:
        check_priced(steps, project.collections)
    _check_recipes(project)
    return steps


def _way_down(project: Project, target: str) -> tuple[Script, ...]:
    rows = project.revisions()
    heads = project.current(rows, in_progress=True)
    if not heads:
        raise UsageError("There is nothing to downgrade: no revision was applied here.", hint="Run: vecmig status")
    refuse_counting(project, rows, target, heads)
    # of a collection that was uninstalled nothing is left to roll back
    steps = tuple(script for script in project.scripts.downgrade_path(target, heads) if script.id in rows)
    check_downgrade(steps, rows)
    return steps


def _same_collections(planned: tuple[Script, ...], now: tuple[Script, ...]) -> tuple[Script, ...]:
    """Return the steps as they are once the locks are held: another runner may have finished meanwhile."""
    if not set(collections_of(now)) <= set(collections_of(planned)):
        raise DatabaseError(
            "Somebody else moved the database while this run waited to begin.",
            state="Nothing was changed.",
            hint="Check vecmig status, then run the same command again.",
        )
    return now


def ensure_supported(project: Project) -> None:
    """Refuse a database without a usable pgvector before anything is created in it."""
    from vecmig.postgres.pgvector import require_pgvector

    with project.database.session() as connection:
        require_pgvector(connection)


def verify(config: Config) -> None:
    """Refuse scripts and recipes that were changed after the database got to know them; reads only.

    Raises:
        ScriptError, RecipeError: the first one that was.
    """
    project = Project(config)
    check_applied(project.scripts.scripts, project.revisions())
    _check_recipes(project)


def _check_recipes(project: Project) -> None:
    """Refuse to go on when the recipe of any recorded tag was changed, whether the run would use it or not."""
    with project.database.session() as connection:
        check_recipes(project.workspace.ledger(connection), project.collections.recipes)


def _forward(project: Project, steps: tuple[Script, ...], until: str | None) -> tuple[Walked, ...]:
    walked = []
    for script in steps:
        phase = _forward_one(project, script, until)
        walked.append(Walked(script.id, script.message, phase))
        if phase != "live":
            break
    return tuple(walked)


def _forward_one(project: Project, script: Script, until: str | None) -> str:
    # from the top also when it is resumed: what is done is not done again, and nothing behind it is left out
    _call(project, script, "upgrade", until)
    row = _started(project, script)
    if script.collection is not None and until == "expand":
        return row.phase
    _call(project, script, "backfill", until)
    if script.collection is not None and until == "backfill":
        return project.revisions()[script.id].phase
    if not _call(project, script, "cutover", until):
        return project.revisions()[script.id].phase
    _apply(project, script)
    return project.revisions()[script.id].phase


def _started(project: Project, script: Script) -> RevisionRow:
    if script.collection is None:
        _start_without_collection(project, script)
    row = project.revisions().get(script.id)
    if row is None or row.withdrawn_at is not None:
        raise ScriptError(
            f"upgrade() of revision {script.id} ended without making room for its new tag.",
            state="Nothing was changed for its collection.",
            hint=f"Its upgrade() must call m.expand(): vecmig edit {script.id}",
        )
    return row


def _start_without_collection(project: Project, script: Script) -> None:
    with project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        ledger.start_revision(script.id, None, None, None, script.checksum)


def _apply(project: Project, script: Script) -> None:
    """Enter a revision as live, once all of its functions have come to their end."""
    with project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        if script.collection is not None and ledger.route(script.collection).live != script.new_tag:
            raise ScriptError(
                f"cutover() of revision {script.id} ended, and its new tag is not live.",
                state=f"The revision is {ledger.revisions()[script.id].phase}.",
                hint=f"Its cutover() must call m.cutover(gate): vecmig edit {script.id}",
            )
        ledger.go_live(script.id, script.checksum)
        if script.collection is None:
            ledger.record_event("apply", revision=script.id)


def _backward(project: Project, steps: tuple[Script, ...], target: str, *, discard: bool) -> tuple[Walked, ...]:
    walked: list[Walked] = []
    for script in steps:
        try:
            walked.append(_back(project, script, discard=discard))
        except VecmigError as error:
            if walked:
                _tell_of_steps(error, walked, script, goal_of(target, steps[-1]))
            raise
    return tuple(walked)


def _tell_of_steps(error: VecmigError, walked: Sequence[Walked], failed: Script, goal: str) -> None:
    """Add to the error of a step back which steps before it are done, and where to go on to."""
    done = "; then ".join(
        f"revision {one.revision} was rolled back" + (f": {one.reads}" if one.reads else "") for one in walked
    )
    state = f" At revision {failed.id}: {error.state}" if error.state else ""
    error.state = f"{done[:1].upper()}{done[1:]}.{state}"
    # a number of steps would be counted from here now
    error.hint = f"{error.hint}\nTo go on to where this was to lead: vecmig downgrade {goal}".strip()


def _back(project: Project, script: Script, *, discard: bool) -> Walked:
    row = project.revisions()[script.id]
    if row.checksum != script.checksum:
        project.listener(
            Warned(f"Revision {script.id} was changed since it was applied; its downgrade() runs as it is.")
        )
    _call(project, script, "downgrade", None, discard=discard)
    reads = _withdrawn(project, script)
    return Walked(script.id, script.message, project.revisions()[script.id].phase, reads)


def _withdrawn(project: Project, script: Script) -> str:
    """Enter a revision as rolled back, once its downgrade() has come to its end; say what reads use."""
    reads = ""
    with project.database.transaction() as connection:
        ledger = project.workspace.ledger(connection)
        if script.collection is not None:
            route = ledger.route(script.collection)
            reads = f"reads of {script.collection} use {route.live or 'no tag'}"
            if script.new_tag in (route.live, route.candidate):
                raise ScriptError(
                    f"downgrade() of revision {script.id} ended without rolling it back.",
                    hint=f"Its downgrade() must call m.rollback(): vecmig edit {script.id}",
                )
        else:
            ledger.record_event("downgrade", revision=script.id)
        ledger.withdraw_revision(script.id)
        ledger.forget_statements(script.id)
    return reads


def _call(project: Project, script: Script, step: Step, until: str | None, *, discard: bool = False) -> bool:
    """Run one function of a script; give whether it came to its end, or was to stop before."""
    m = DatabaseMigration(project.workspace, declaration(script), step=step, until=until, discard=discard)
    try:
        script.function(step)(m)
    except Stopped:
        return False
    except Exception as error:
        line = _line_of(script, error)
        if line is None or isinstance(error, VecmigError):
            raise
        raise VecmigError(
            f"{step}() of revision {script.id} failed in line {line} of {script.path.name}: "
            f"{type(error).__name__}: {without_passwords(str(error))}.",
            state="What its steps have committed stays.",
            hint=f"Correct it (vecmig edit {script.id}), then run the same command again: it goes on from there.",
        ) from error
    return True


def _line_of(script: Script, error: Exception) -> int | None:
    """Return the line of the script that raised an error; None if it was raised elsewhere."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return raised.lineno if raised.filename == str(script.path) else None


def by_collection(rows: Mapping[str, RevisionRow]) -> dict[str, RevisionRow]:
    """Return the revision that is in progress for each collection that has one."""
    return {row.collection: row for row in rows.values() if row.in_progress and row.collection is not None}
