"""Which downgrade rolls a revision back, and where a downgrade leads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vecmig.errors import ScriptError, UsageError
from vecmig.ledger.ledger import RevisionRow
from vecmig.runner.project import Project
from vecmig.script import Script

#: A target that counts steps, from wherever the database is.
_COUNTS: Final = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True)
class WayDown:
    """The downgrade that rolls a revision back."""

    command: str = "vecmig downgrade -1"
    #: The other revisions that it rolls back.
    besides: tuple[str, ...] = ()


def way_down(project: Project, rows: Mapping[str, RevisionRow], revision: str) -> WayDown:
    """Return the downgrade that rolls a revision back, also where others stand above it, such as one in progress."""
    try:
        heads = project.current(rows, in_progress=True)
        if heads == (revision,) and not project.begun_anew(rows):
            return WayDown()
        goal = _below(project.scripts[revision])
        path = [script for script in project.scripts.downgrade_path(goal, heads) if script.id in rows]
    except ScriptError:
        # a script is missing, so that nothing is rolled back before it is there again
        return WayDown()
    return WayDown(f"vecmig downgrade {goal}", tuple(script.id for script in path if script.id != revision))


def refuse_counting(project: Project, rows: Mapping[str, RevisionRow], target: str, heads: Sequence[str]) -> None:
    """Refuse to count steps where the revision that was begun last is not the one on top.

    Raises:
        UsageError: there is one; the message says how to roll back either.
    """
    begun = project.begun_anew(rows)
    if begun and _COUNTS.search(target):
        ancestors = project.scripts.map.graph.ancestors
        below = project.scripts[begun[0]]
        top = project.scripts[next(head for head in heads if below.id in ancestors([head]))]
        raise UsageError(
            f"Revision {below.id} of {below.collection} is in progress below {top.id} of {top.collection}, which is "
            f"what {target} would roll back.",
            state="Nothing was changed.",
            hint=f"To give {below.id} up: vecmig uninstall --collection {shlex.quote(below.collection or '')}\n"
            f"To roll {top.id} back: vecmig downgrade {_below(top)}",
        )


def goal_of(target: str, last: Script) -> str:
    """Name where a downgrade leads so that it means the same after some of its steps.

    Args:
        target: as it was given.
        last: the last revision that it rolls back.
    """
    return _below(last) if _COUNTS.search(target) else target


def _below(script: Script) -> str:
    return next(iter(script.revision.down_revisions), "base")
