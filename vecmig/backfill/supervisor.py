"""Stand beside a run: heed what operators write into the database, throttle, and show how the run stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
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


class Supervisor:
    """A context with a thread that reads pause and limits once a second; the first read is over when it is entered."""

    def __init__(
        self,
        database: Database,
        options: RunOptions,
        limiter: Limiter,
        *,
        concurrency: int,
        collection: str,
        listener: Listener,
    ) -> None:
        """Read nothing yet.

        Args:
            database: where to read.
            options: what to heed.
            limiter: what is tuned and held.
            concurrency: requests in flight that the recipe asks of this process.
            collection: whose pause and limits to heed.
            listener: told of what is waited for.
        """
        self._schema = database.schema
        self._session = ReconnectingSession(database)
        self._options = options
        self._limiter = limiter
        self._concurrency = concurrency
        self._listener = listener
        self._collection = collection
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vecmig-supervisor", daemon=True)
        #: What ended the run from here, to be raised where it runs.
        self.failure: VecmigError | None = None

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
                self._options.still_alone()
                self._session.run(self._heed)
            except DatabaseUnreachable:
                # whoever reads and writes finds out too, and decides how long to wait
                continue
            except VecmigError as error:
                self.failure = error
                self._limiter.close()
                return

    def _heed(self, connection: Connection) -> None:
        control = read_control(connection, self._schema, self._collection)
        workers, rate = self._options.workers, control.max_rate
        asked = control.concurrency and share(control.concurrency, workers)
        self._limiter.tune(asked or self._concurrency, None if rate is None else rate / workers)
        self._limiter.hold("pause", control.paused_because)
        throttle = self._options.throttle
        held = throttle.reason(connection) if throttle is not None and not control.paused else None
        self._limiter.hold("throttle", held)
        # a try that failed is told by whoever repeats it
        if (waits_for := self._limiter.reason or self._limiter.silence) is not None:
            self._listener(Waiting(waits_for))
        self._show(connection, control)

    def _show(self, connection: Connection, control: Control) -> None:
        """Show operators how the run stands; where embedding is only asked for something, there is no run."""


class RunSupervisor(Supervisor):
    """The supervisor of a run, which shows how the run stands for as long as it lasts."""

    def __init__(
        self,
        database: Database,
        options: RunOptions,
        limiter: Limiter,
        *,
        concurrency: int,
        collection: str,
        listener: Listener,
        standing: Callable[[], Run],
    ) -> None:
        """Show nothing yet; ``standing`` says how the run stands, the rest is as for ``Supervisor``."""
        super().__init__(database, options, limiter, concurrency=concurrency, collection=collection, listener=listener)
        self._standing = standing
        self._id: UUID = standing().id

    def _leave(self) -> None:
        """Take the run off the list."""
        with suppress(VecmigError):
            self._session.run(lambda connection: end_run(connection, self._schema, self._id))
        super()._leave()

    def _show(self, connection: Connection, control: Control) -> None:
        standing, held, waits_for = self._standing(), self._limiter.reason, self._limiter.waits_for
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
            concurrency=self._limiter.concurrency,
        )
        report(connection, self._schema, run)
