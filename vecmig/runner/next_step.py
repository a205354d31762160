"""Say what to do next, of how a project stands. Pure.

What is named can be done now, helps, and undoes nothing that a person decided.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Final

from vecmig.check import By
from vecmig.errors import ConfigError
from vecmig.runner.project_status import CollectionStatus, NextStep, Status
from vecmig.text import counted

_SYNC: Final = "vecmig sync"


def next_step(status: Status) -> NextStep:
    """Return what to do next."""
    found = (step(status) for step in _STEPS)
    return next((one for one in found if one is not None), NextStep(words=_settled(status)))


def _settled(status: Status) -> str:
    held = [passed for passed in status.passed if passed.hold]
    names = [passed.revision for passed in held]
    going = [passed.revision for passed in held if not passed.without_script]
    release = f" (to go forward: vecmig release {' '.join(going)})" if going else ""
    return f"nothing to do; on hold: {', '.join(names)}{release}" if names else "nothing to do"


def obstacle(status: Status) -> NextStep | None:
    """Have a script or a recipe put right that was edited."""
    return NextStep(words=status.obstacle.hint) if status.obstacle is not None else None


def blocked(status: Status) -> NextStep | None:
    """Name the command without which nothing else helps."""
    commands = (c.blocked_by for c in status.collections)
    return next((NextStep(command) for command in commands if command), None)


def two_heads(status: Status) -> NextStep | None:
    """Have a person decide which of two revisions of a collection comes first."""
    return next((NextStep(words=f"{one.error.message} {one.error.hint}") for one in status.conflicts), None)


def missing_recipe(status: Status) -> NextStep | None:
    """Have the recipe written down again that a tag in use has lost."""
    missing = (c.missing_recipe for c in status.collections)
    return next((NextStep(words=words) for words in missing if words), None)


def mend(status: Status) -> NextStep | None:
    """Make good what reads or change tracking lack: beside a run that is at work, too."""
    broken = [c for c in status.collections if c.mendable and c.route.live is not None]
    return _sync(status, broken) if broken else None


def unusable(status: Status) -> NextStep | None:
    """Have a collection in use put right that no command can."""
    for collection in status.collections:
        problem, used = collection.problem, collection.route.live or collection.route.candidate
        if problem is not None and used and not collection.mendable:
            return NextStep(words=problem.hint or "correct what stands above")
    return None


def unfinished(status: Status) -> NextStep | None:
    """Take a downgrade to its end that was cut short."""
    commands = (c.unfinished for c in status.collections if c.runner is None)
    return next((NextStep(command) for command in commands if command), None)


def gate(status: Status) -> NextStep | None:
    """Do what the gate of a revision in progress waits for."""
    for collection in status.collections:
        blocker = collection.gate[1].waits_for if collection.gate and collection.runner is None else None
        remedy = blocker.remedy if blocker is not None else None
        if remedy is not None:
            if remedy.by is By.SYNC:
                return _sync(status, [collection])
            return NextStep(remedy.command, "" if remedy.command else remedy.text)
    return None


def upgrade(status: Status) -> NextStep | None:
    """Take the next revision forward."""
    going = [c for c in status.collections if c.gate is not None or c.pending]
    # a paused backfill would wait before it had embedded anything
    if resume := _resume([c for c in going if c.gate is not None or c.runner is not None]):
        return resume
    at_work = [c for c in going if c.runner is not None]
    idle = [c for c in going if c.runner is None]
    if not at_work:
        return NextStep(status.upgrade_command) if idle or status.pending else None
    if not idle or not idle[0].pending:
        return None
    # head would meet the run that is at work
    return NextStep(f"vecmig upgrade {idle[0].pending[-1]}")


def revision(status: Status) -> NextStep | None:
    """Write a revision for a tag that is asked for."""
    idle = any(c.unserved and c.runner is None for c in status.collections)
    return NextStep("vecmig revision") if idle else None


def correct(status: Status) -> NextStep | None:
    """Have a collection put right that cannot be used at all."""
    unusable = any(c.problem is not None and not c.tags for c in status.collections)
    return NextStep(words="correct what stands above") if unusable else None


def incomplete(status: Status) -> NextStep | None:
    """Bring up to date what has to be complete."""
    incomplete = [c for c in status.collections if not c.complete and c.runner is None]
    return _sync(status, incomplete) if incomplete else None


def forgotten_pause(status: Status) -> NextStep | None:
    """Resume what is paused although nothing is pending."""
    return _resume([c for c in status.collections if c.route.maintained])


def theirs(status: Status) -> NextStep | None:
    """Say who has to write vectors that no command makes."""
    words = []
    for collection in status.collections:
        tags = [tag for tag in collection.tags if tag.theirs and tag.tag in collection.route.maintained]
        for tag in tags:
            records = f"{counted(tag.theirs, 'record')} of {collection.name}"
            writers = [f"{role} ({application})" if application else role for role, application, _ in tag.text_writers]
            who = f"; {' and '.join(writers)} changed texts alone" if writers else ""
            words.append(f"the application has to write the vectors of {records}{who}")
    return NextStep(words=f"nothing to run: {', and '.join(words)}") if words else None


def at_work(status: Status) -> NextStep | None:
    """Name the runs that are at work: another one would be refused."""
    runners = [c.runner for c in status.collections if c.runner is not None]
    if not runners:
        return None
    who = ", ".join(dict.fromkeys(f"{runner.what or 'a run'} is at work on {runner.place}" for runner in runners))
    return NextStep(words=f"nothing to do: {who}")


def _sync(status: Status, incomplete: Sequence[CollectionStatus]) -> NextStep:
    """Bring collections up to date; beside a sync that is at work, another one would be refused."""
    idle = [c for c in incomplete if c.sync_at_work is None]
    if resume := _resume(incomplete):
        return resume
    if not any(c.sync_at_work for c in status.collections):
        return NextStep(_SYNC)
    if idle:
        return NextStep(" ".join([_SYNC, *(shlex.quote(c.name) for c in idle)]))
    who = ", ".join(dict.fromkeys(c.sync_at_work for c in incomplete if c.sync_at_work))
    # what is gone it makes again; collections.yaml it has read when it began
    if any(isinstance(c.problem, ConfigError) for c in incomplete):
        return NextStep(words=f"end the sync at {who}, then run: {_SYNC}")
    return NextStep(words=f"nothing to run: the sync at {who} is at work on it")


def _resume(collections: Sequence[CollectionStatus]) -> NextStep | None:
    """Let those go on that are paused; None where none is."""
    paused = [shlex.quote(c.name) for c in collections if c.control is not None and c.control.paused]
    return NextStep(f"vecmig resume {' '.join(paused)}") if paused else None


#: What may be the next step, the most urgent first.
_STEPS: Final[tuple[Callable[[Status], NextStep | None], ...]] = (
    obstacle,
    blocked,
    missing_recipe,
    unusable,
    mend,
    unfinished,
    two_heads,
    gate,
    upgrade,
    revision,
    correct,
    incomplete,
    forgotten_pause,
    at_work,
    theirs,
)
