"""Let upgrades take revisions again that were rolled back or abandoned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vecmig.config import Config
from vecmig.errors import ScriptError, UsageError
from vecmig.ledger.phases import RevisionRow
from vecmig.runner.project import Project
from vecmig.runner.verbs.downgrade import downgrade_of


def release(config: Config, revisions: Sequence[str]) -> tuple[str, ...]:
    """Release revisions that are on hold; the next upgrade takes them forward. Return their ids.

    Args:
        config: the project.
        revisions: names of the revision grammar.

    Raises:
        UsageError: one is not on hold, or starts from the tag of one that stays on hold.
    """
    project = Project(config)
    rows = project.revisions()
    wanted = [id_ for name in revisions for id_ in _named(project, rows, name)]
    held = [id_ for id_, row in rows.items() if row.hold is not None]
    for id_ in wanted:
        if id_ not in held:
            raise UsageError(f"Revision {id_} is not on hold.", hint=_choices(held))
        if rows[id_].in_progress:
            raise UsageError(
                f"The downgrade of revision {id_} was cut short, and has not come to its end.",
                state="Nothing was changed.",
                hint=f"Run: {downgrade_of(project, rows, id_).command}",
            )
    if not wanted:
        raise UsageError("Name the revisions to release.", hint=_choices(held))
    _refuse_behind(
        project, {id_: replace(row, hold=None) if id_ in wanted else row for id_, row in rows.items()}, wanted
    )
    return release_held(project, wanted)


def release_held(project: Project, revisions: Iterable[str]) -> tuple[str, ...]:
    """Enter that revisions are on hold no more; return those that were."""
    with project.context.transaction() as ledger:
        rows = ledger.revisions.all()
        released = ledger.revisions.release(revisions)
        for id_ in released:
            row = rows[id_]
            ledger.record_event("release", revision=id_, collection=row.collection, tag=row.new_tag)
    return tuple(released)


def _named(project: Project, rows: Mapping[str, RevisionRow], name: str) -> list[str]:
    try:
        return [script.id for script in project.scripts.find(name)]
    except ScriptError:
        # its script may be gone meanwhile
        if name in rows:
            return [name]
        raise


def _choices(held: Sequence[str]) -> str:
    return f"On hold: {', '.join(held)}" if held else "No revision is on hold."


def _refuse_behind(project: Project, rows: Mapping[str, RevisionRow], wanted: Sequence[str]) -> None:
    """Refuse to release a revision that could not go forward, because it starts from the tag of another on hold."""
    for id_ in wanted:
        if id_ in project.scripts.map:
            behind = {one.revision: one.waits_for for one in project.upgrade_path(id_, rows).passed}
            if behind.get(id_):
                below = behind[id_]
                raise UsageError(
                    f"Revision {id_} waits for {below}, which is on hold too.",
                    state="Nothing was changed.",
                    hint=f"To release both: vecmig release {' '.join(dict.fromkeys([below, *wanted]))}",
                )
