"""What going forward and going back share: the functions of a script, and what is checked before one runs."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vecmig.config import without_passwords
from vecmig.errors import DatabaseError, VecmigError
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.recipe_check import check_recipes
from vecmig.model.gate import Gate
from vecmig.operations.adopt import Adopt
from vecmig.operations.context import Declaration
from vecmig.operations.leaving import Leaving
from vecmig.operations.script import AskingMigration, ScriptMigration, Stopped
from vecmig.runner.plan import collections_of
from vecmig.runner.project import Project
from vecmig.script import Script, Step


@dataclass(frozen=True, slots=True)
class RevisionResult:
    """One revision that a run took forward or back, or passed by, and the phase it is in now."""

    revision: str
    message: str
    #: Of one that never began, where it is passed by: ``""``.
    phase: str
    #: What became of it, in words: its phase, or rolled back, abandoned, on hold, waits, passed by.
    outcome: str
    #: What reads of its collection use after a step back; why it was passed by; else empty.
    note: str = ""
    #: What moves reads back, where one was abandoned that they had not moved to.
    command: str = ""
    #: Whether this run passed it by.
    passed: bool = False
    #: Whether upgrades pass it by until it is released.
    on_hold: bool = False


def declaration(script: Script) -> Declaration:
    """Return what a script declares, apart from its functions."""
    gate = script.gate or Gate()
    return Declaration(script.id, script.collection, script.old_tag, script.new_tag, script.checksum, gate)


def call(
    project: Project, script: Script, step: Step, until: str | None = None, *, leaving: Leaving | None = None
) -> bool:
    """Run one function of a script; return whether it came to its end, or was to stop before."""
    adopt = adoption_of(project, script) if step == "upgrade" and script.collection is not None else None
    m = ScriptMigration(project.context, declaration(script), step=step, until=until, leaving=leaving, adopt=adopt)
    try:
        _run(script, step, m)
    except Stopped:
        return False
    return True


def adoption_of(project: Project, script: Script) -> Adopt | None:
    """Return what adopts vectors in a script; None where nothing does. It is asked, and does nothing."""
    m = AskingMigration(project.context, declaration(script), step="backfill")
    _run(script, "backfill", m)
    return next((operation for operation in m.operations if isinstance(operation, Adopt)), None)


def _run(script: Script, step: Step, m: ScriptMigration) -> None:
    try:
        script.function(step)(m)
    except Stopped:
        raise
    except Exception as error:
        raised = traceback.extract_tb(error.__traceback__)[-1]
        if raised.filename != str(script.path) or isinstance(error, VecmigError):
            raise
        raise VecmigError(
            f"{step}() of revision {script.id} failed in line {raised.lineno} of {script.path.name}: "
            f"{type(error).__name__}: {without_passwords(str(error))}.",
            state="What its steps have committed stays.",
            hint=f"Correct it (vecmig edit {script.id}), then run the same command again: it goes on from there.",
        ) from error


def same_collections(planned: tuple[Script, ...], now: tuple[Script, ...]) -> tuple[Script, ...]:
    """Return the steps as they are once the locks are held: another runner may have finished meanwhile."""
    if not set(collections_of(now)) <= set(collections_of(planned)):
        raise DatabaseError(
            "Somebody else moved the database while this run waited to begin.",
            state="Nothing was changed.",
            hint="Check vecmig status, then run the same command again.",
        )
    return now


def check_known_recipes(project: Project) -> None:
    """Refuse to go on when the recipe of any recorded tag was changed, whether the run would use it or not."""
    with project.database.session() as connection:
        check_recipes(project.context.ledger(connection).tags.all(), project.collections.recipes)


def by_collection(rows: Mapping[str, RevisionRow]) -> dict[str, RevisionRow]:
    """Return the revision that is in progress for each collection that has one."""
    going = [row for row in rows.values() if row.in_progress and row.hold is None]
    return {row.collection: row for row in going if row.collection is not None}


def revisions_in_progress(project: Project, collections: Sequence[str]) -> dict[str, RevisionRow]:
    """Return the revision in progress of each collection that is meant; all have one where none is named."""
    rows = project.revisions()
    project.current(rows, in_progress=True)
    in_progress = by_collection(rows)
    for name in collections:
        project.collections.collection(name)
    return {name: row for name, row in in_progress.items() if not collections or name in collections}
