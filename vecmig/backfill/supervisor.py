"""Stand beside a run: heed what operators write into the database, throttle, and show how the run stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Final, Self
from uuid import UUID

from vecmig.backfill.run_options import RunOptions, share
from vecmig.embedders import Limiter
from vecmig.errors import DatabaseUnreachable, VecmigError
from vecmig.events import Listener, Waiting
from vecmig.ledger.control import Control, Run, State, end_run, read_control, report
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection, Database

#: Seconds between two looks.
_EVERY: Final = 1.0


@dataclass(eq=False)
class Supervisor:
    """A context with a thread that reads pause and limits once a second; the first read is over when it is entered."""

    database: Database
    options: RunOptions
    #: What is tuned and held.
    limiter: Limiter
    _: KW_ONLY
    #: Requests in flight that the recipe asks of this process.
    concurrency: int
    #: Whose pause and limits to heed.
    collection: str
    #: Told of what is waited for.
    listener: Listener
    #: What ended the run from here, to be raised where it runs.
    failure: VecmigError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Read nothing yet."""
        self._session = ReconnectingSession(self.database)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vecmig-supervisor", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._session.run(self._heed)
            self._thread.start()
        except BaseException:
            # an interruption may come when the run shows already
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._leave()

    def _leave(self) -> None:
        self._session.__exit__(None, None, None)

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                self.options.still_alone()
                self._session.run(self._heed)
            except DatabaseUnreachable:
                # whoever reads and writes finds out too, and decides how long to wait
                continue
            except VecmigError as error:
                self.failure = error
                self.limiter.close()
                return

    def _heed(self, connection: Connection) -> None:
        control = read_control(connection, self.database.schema, self.collection)
        workers, rate = self.options.workers, control.max_rate
        asked = control.concurrency and share(control.concurrency, workers)
        self.limiter.tune(asked or self.concurrency, None if rate is None else rate / workers)
        self.limiter.hold("pause", control.paused_because)
        throttle = self.options.throttle
        held = throttle.reason(connection) if throttle is not None and not control.paused else None
        self.limiter.hold("throttle", held)
        # a try that failed is told by whoever repeats it
        if (reason := self.limiter.reason) is not None:
            # how far a replica is behind changes all the time
            self.listener(Waiting(reason, cause="" if held is None else "throttle"))
        elif (silence := self.limiter.silence) is not None:
            self.listener(Waiting(silence, cause="silence"))
        self._show(connection, control)

    def _show(self, connection: Connection, control: Control) -> None:
        """Show operators how the run stands; where embedding is only asked for something, there is no run."""


@dataclass(eq=False)
class RunSupervisor(Supervisor):
    """The supervisor of a run, which shows how the run stands for as long as it lasts."""

    _: KW_ONLY
    #: Says how the run stands.
    standing: Callable[[], Run]

    def __post_init__(self) -> None:
        """Show nothing yet."""
        super().__post_init__()
        self._id: UUID = self.standing().id

    def _leave(self) -> None:
        """Take the run off the list."""
        with suppress(VecmigError):
            self._session.run(lambda connection: end_run(connection, self.database.schema, self._id))
        super()._leave()

    def _show(self, connection: Connection, control: Control) -> None:
        standing, held, waits_for = self.standing(), self.limiter.reason, self.limiter.waits_for
        state: State = standing.state
        if control.paused:
            state = "paused"
        elif held is not None:
            state = "throttled"
        elif waits_for is not None:
            state = "waiting"
        run = replace(
            standing,
            id=self._id,
            state=state,
            reason=held or standing.reason or waits_for,
            concurrency=self.limiter.concurrency,
        )
        report(connection, self.database.schema, run)
