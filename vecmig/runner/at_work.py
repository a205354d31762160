"""Show operators what a run does besides embedding, of which a supervisor tells: an index build, a gate, a cutover.

What a run tells is heard here on its way to the listener, and a thread writes it down once a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from vecmig.errors import VecmigError
from vecmig.events import Event, IndexProgress, Listener, StepDone, StepStarted, TransferProgress, Waiting
from vecmig.ledger.control import Run, end_run, report
from vecmig.postgres.locks import Kind, runner_locks
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Database
from vecmig.runner.project import Project

#: Seconds between two reports. What is over before the first one costs no statement.
_EVERY: Final = 1.0
#: The steps whose own supervisor tells how they stand.
_SUPERVISED: Final = frozenset({"backfill", "catch up", "sync"})


@contextmanager
def at_work(project: Project, collections: Sequence[str], what: str, *, kind: Kind = "runner") -> Iterator[Project]:
    """Hold the locks of a run, and show what it does; yield the project as their holder works with it.

    Raises:
        LockHeld: somebody else holds one.
    """
    with (
        runner_locks(project.database, collections, what=what, kind=kind) as locks,
        _Board(project.database, project.told) as board,
    ):
        yield replace(project.holding(locks), listener=board)


@dataclass(eq=False)
class _Board:
    """Hears what a run tells, and writes down how the step that it is at stands."""

    database: Database
    listener: Listener
    _run: Run | None = field(default=None, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="vecmig-at-work", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, event: Event) -> None:
        """Hear one event, from any thread."""
        run = self._run
        match event:
            case StepStarted() if event.step not in _SUPERVISED and event.collection is not None:
                self._run = Run(event.collection, event.tag, event.step)
            case StepStarted() | StepDone():
                self._run = None
            case IndexProgress():
                # a sync tells of no step when it builds an index again
                build = run or Run(event.collection, event.tag, "index")
                ends_at = None if event.eta is None else datetime.now(UTC) + timedelta(seconds=event.eta)
                self._run = replace(
                    build, state="running", reason=event.phase, done=event.done, total=event.total, ends_at=ends_at
                )
            case TransferProgress() if run is not None:
                self._run = replace(run, state="running", reason=None, done=event.done, total=event.total)
            case Waiting() if run is not None:
                self._run = replace(run, state="waiting", reason=event.words)
            case _:
                pass
        self.listener(event)

    def _watch(self) -> None:
        shown: Run | None = None
        session = ReconnectingSession(self.database)
        try:
            while not self._over.wait(_EVERY):
                shown = self._show(session, shown, self._run)
            self._show(session, shown, None)
        finally:
            session.__exit__(None, None, None)

    def _show(self, session: ReconnectingSession, shown: Run | None, run: Run | None) -> Run | None:
        """Write down a step in place of the one that is shown; return what is shown then."""
        schema = self.database.schema
        # where the database is away, or cannot be written to, the run itself finds out
        with suppress(VecmigError):
            if shown is not None and (run is None or run.id != shown.id):
                ended = shown.id
                session.run(lambda connection: end_run(connection, schema, ended))
                shown = None
            if run is not None:
                session.run(lambda connection: report(connection, schema, run))
                shown = run
        return shown
