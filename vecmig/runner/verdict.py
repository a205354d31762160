"""How a collection stands in one word, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from vecmig.runner.project_status import CollectionStatus, Status

Word = Literal["OK", "PENDING", "AT WORK", "ATTENTION", "BLOCKED"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a collection stands."""

    #: The words, the best first.
    WORDS: ClassVar[tuple[Word, ...]] = get_args(Word)

    word: Word
    #: Why, in a few words; empty where all is well.
    why: str = ""


def verdict_of(project: Status, collection: CollectionStatus) -> Verdict:
    """Return the verdict on a collection: what is worst, of all that holds."""
    pending = next(_pending(collection), "")
    if why := next(_blocked(project, collection, pending=bool(pending)), ""):
        return Verdict("BLOCKED", why)
    if why := next(_attention(collection), ""):
        return Verdict("ATTENTION", why)
    if not pending:
        return Verdict("OK")
    at_work = _at_work(collection)
    return Verdict("AT WORK", at_work) if at_work else Verdict("PENDING", pending)


def _blocked(project: Status, collection: CollectionStatus, *, pending: bool) -> Iterator[str]:
    """Say why nothing goes on before a person has done something."""
    if project.obstacle is not None:
        yield "a script or a recipe was edited"
    if collection.replaced:
        yield "source replaced"
    if collection.detached is not None:
        yield "view detached"
    if collection.missing_recipe:
        yield "recipe missing"
    if any(conflict.collection == collection.name for conflict in project.conflicts):
        yield "revisions conflict"
    if collection.control is not None and collection.control.paused and pending:
        yield "paused"
    if collection.gate is not None and collection.runner is None and collection.gate[1].waits_for is not None:
        yield f"gate refuses: {', '.join(check.name for check in collection.gate[1].refusing)}"


def _attention(collection: CollectionStatus) -> Iterator[str]:
    """Say what is not as it should be, although nothing waits for it."""
    if collection.problem is not None:
        yield collection.problem.message
    if collection.unfinished and collection.runner is None:
        yield "a downgrade was cut short"
    if collection.failure is not None and not collection.tried_again:
        yield f"last {collection.failure.what} failed"
    if collection.control is not None and collection.control.paused:
        yield "paused"
    if collection.half_retired:
        yield "half retired"


def _at_work(collection: CollectionStatus) -> str:
    """Say what is at work on it; empty where nothing is."""
    if collection.runner is not None:
        return f"{collection.runner.what or 'a run'} at work"
    # a sync is always there where it is a service
    runs = sorted(collection.runs, key=lambda run: run.what == "sync")
    return next((f"{run.what} at work" for run in runs if run.state != "paused"), "")


def _pending(collection: CollectionStatus) -> Iterator[str]:
    """Say what is to be done."""
    if collection.gate is not None:
        yield f"revision {collection.gate[0].id} is in progress"
    if collection.pending:
        yield f"revision {collection.pending[0]} is pending"
    if collection.unserved:
        yield "another tag is asked for"
    if not collection.complete:
        yield "records lack a fresh vector"
