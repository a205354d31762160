"""Which downgrade takes a revision back, and where a downgrade leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vecmig.errors import ScriptError
from vecmig.runner.project import Project
from vecmig.script import Script
from vecmig.store.ledger import RevisionRow

#: A target that counts steps, from wherever the database is.
_COUNTS: Final = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class WayDown:
    """The downgrade that takes a revision back."""

    command: str = "vecmig downgrade -1"
    #: The other revisions that it takes back.
    besides: tuple[str, ...] = ()


def way_down(project: Project, rows: Mapping[str, RevisionRow], revision: str) -> WayDown:
    """Give the downgrade that takes a revision back, also where others stand above it, such as one in progress."""
    try:
        heads = project.current(rows, in_progress=True)
        if heads == (revision,):
            return WayDown()
        goal = _below(project.scripts[revision])
        path = project.scripts.downgrade_path(goal, heads)
    except ScriptError:
        # a script is missing, so that nothing is taken back before it is there again
        return WayDown()
    return WayDown(f"vecmig downgrade {goal}", tuple(script.id for script in path if script.id != revision))


def goal_of(target: str, last: Script) -> str:
    """Name where a downgrade leads so that it means the same after some of its steps.

    Args:
        target: as it was given.
        last: the last revision that it takes back.
    """
    return _below(last) if _COUNTS.search(target) else target


def _below(script: Script) -> str:
    return next(iter(script.revision.down_revisions), "base")
