"""Say where a database stands among the revisions."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.config import Config
from vecmig.runner.project import Project
from vecmig.script import Script


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a database is: the heads of what is applied, what is on its way, and whether nothing is left to apply."""

    heads: tuple[Script, ...]
    #: Revisions that were started and are not live, with their phase.
    in_progress: tuple[tuple[Script, str], ...]
    at_head: bool
    #: The ids of the scripts that no other follows or depends on.
    script_heads: tuple[str, ...]


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
        at_head=not project.upgrade_path(project.scripts.map.real_heads, rows).steps,
        script_heads=project.scripts.map.real_heads,
    )
