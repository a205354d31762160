"""Go on with the other collections where one fails, and say in the end which did and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vecmig.errors import (
    WORST_FIRST,
    BudgetSpent,
    DatabaseUnreachable,
    EmbedderError,
    GateRefused,
    Interrupted,
    LockHeld,
    OutOfRoom,
    Pending,
    VecmigError,
)
from vecmig.events import Listener, Noted, Warned, ignore
from vecmig.runner.project import Project

#: What ends a run, whichever of its collections meets it first.
_ENDS: Final = (DatabaseUnreachable, Interrupted, LockHeld, OutOfRoom)
#: Of so many is said what became of them.
_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class Failed:
    """What did not come to its end, and why."""

    #: As messages name it: a collection, or a revision of one.
    what: str
    collection: str | None
    error: VecmigError

    @property
    def words(self) -> str:
        """What is said of it beside a worse one."""
        how = {GateRefused: "was refused too", Pending: "waits"}.get(type(self.error), "failed too")
        return f"{self.what} {how}: {self.error.message}"


@dataclass(frozen=True, slots=True)
class Apart:
    """Keeps the failure of each collection apart from the others, which go on."""

    #: Told of each failure, where there are others.
    listener: Listener = ignore
    #: Whether the run is of several collections: its errors name the one that they are about.
    several: bool = True
    #: What ends the run besides what ends every run.
    ends: tuple[type[VecmigError], ...] = ()
    failed: list[Failed] = field(default_factory=list)
    #: What was not begun because it rests on what failed, in sentences.
    left: list[str] = field(default_factory=list)
    #: The tags whose provider refused, or did not answer.
    silent: set[str | None] = field(default_factory=set)

    @property
    def collections(self) -> frozenset[str]:
        """The collections that failed."""
        return frozenset(one.collection for one in self.failed if one.collection is not None)

    @contextmanager
    def each(self, what: str, collection: str | None = None) -> Iterator[None]:
        """Do what is about one collection; where it fails, that is kept, and the others go on.

        Raises:
            VecmigError: what each of the others would meet, too.
        """
        try:
            yield
        except VecmigError as error:
            if isinstance(error, (*_ENDS, *self.ends)):
                error.state = _joined([error.state, *(one.words for one in self.failed[:_MOST])])
                raise
            self.failed.append(Failed(what, collection or what, error))
            if self.several:
                waits = isinstance(error, Pending)
                said = (
                    Noted(f"{what} waits: {error.message}") if waits else Warned(f"{what} is left out: {error.message}")
                )
                self.listener(said)

    @contextmanager
    def asking(self, project: Project, tag: str | None) -> Iterator[Project]:
        """Yield the project to embed under a tag with; a provider that another collection waited for is not waited for.

        Raises:
            EmbedderError: the provider refuses, or was waited for.
        """
        if tag in self.silent:
            project = replace(project, config=replace(project.config, provider_wait=0.0), opened=project.database)
        try:
            yield project
        except EmbedderError as error:
            if not isinstance(error, BudgetSpent):
                self.silent.add(tag)
            raise

    def raise_worst(self, done: Any = None, *, besides: Sequence[str] = ()) -> None:
        """Raise the worst failure, which tells of the others; return where there is none.

        Args:
            done: what the run came to otherwise.
            besides: the same in sentences.
        """
        if not self.failed:
            return
        worst, *others = sorted(self.failed, key=lambda one: WORST_FIRST.index(one.error.exit_code))
        error = worst.error
        if (
            self.several
            and worst.collection
            and not re.search(rf"(?<!\w){re.escape(worst.collection)}(?!\w)", error.message)
        ):
            error.message = f"{worst.what}: {error.message}"
            error.args = (error.message,)
        said = [one.words for one in others[:_MOST]]
        said += [f"{len(others) - _MOST} more failed."] if others[_MOST:] else []
        said += self.left[:_MOST]
        said += [*besides[:_MOST], *([f"{len(besides) - _MOST} more have gone forward."] if besides[_MOST:] else [])]
        error.state = _joined([error.state, *said])
        error.hint = _joined(dict.fromkeys([error.hint, *(one.error.hint for one in others)]))
        error.done = done
        raise error


def _joined(texts: Any) -> str:
    return "\n".join(filter(None, texts))
