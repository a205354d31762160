"""Stand beside a run: heed what operators write into the database, throttle, and show how the run stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Self
from uuid import UUID

from vecmig.backfill.patient import share
from vecmig.backfill.terms import Terms
from vecmig.embedders import Limiter
from vecmig.errors import DatabaseUnreachable, VecmigError
from vecmig.events import Listener, Waiting
from vecmig.store.connect import Connection, Database
from vecmig.store.control import Control, Run, State, end_run, read_control, report
from vecmig.store.lasting import Lasting

#: Seconds between two looks.
_EVERY: Final = 1.0


class Supervisor:
    """A context with a thread that looks once a second; the first look is over when it is entered."""

    def __init__(
        self,
        database: Database,
        terms: Terms,
        limiter: Limiter,
        *,
        concurrency: int,
        collection: str,
        standing: Callable[[], Run] | None,
        listener: Listener,
    ) -> None:
        """Look at nothing yet.

        Args:
            database: where to look.
            terms: what to heed.
            limiter: what is tuned and held.
            concurrency: requests in flight that the recipe asks of this process.
            collection: whose pause and limits to heed.
            standing: gives how the run stands; None for what is no run, and shows itself nowhere.
            listener: told while the run stands still.
        """
        self._schema = database.schema
        self._session = Lasting(database)
        self._terms = terms
        self._limiter = limiter
        self._concurrency = concurrency
        self._standing = standing
        self._listener = listener
        self._collection = collection
        self._run = standing() if standing is not None else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vecmig-supervisor", daemon=True)
        #: What ended the run from here, to be raised where it runs.
        self.failure: VecmigError | None = None

    def __enter__(self) -> Self:
        try:
            self._session.run(self._look)
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
        """Take the run off the list."""
        if (run := self._run) is not None:
            with suppress(VecmigError):
                self._session.run(lambda connection: end_run(connection, self._schema, run.id))
        self._session.__exit__(None, None, None)

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                self._terms.still_alone()
                self._session.run(self._look)
            except DatabaseUnreachable:
                # whoever reads and writes finds out too, and decides how long to wait
                continue
            except VecmigError as error:
                self.failure = error
                self._limiter.close()
                return

    def _look(self, connection: Connection) -> None:
        control = read_control(connection, self._schema, self._collection)
        self._tune(control)
        self._limiter.hold("pause", control.paused_because)
        throttle = self._terms.throttle
        held = throttle.reason(connection) if throttle is not None and not control.paused else None
        self._limiter.hold("throttle", held)
        reason = self._limiter.reason
        # a try that failed is told by whoever repeats it
        if (waits_for := reason or self._limiter.silence) is not None:
            self._listener(Waiting(waits_for))
        if self._standing is not None and self._run is not None:
            self._run = self._reported(connection, self._run.id, self._standing(), control, reason)

    def _tune(self, control: Control) -> None:
        workers, rate = self._terms.workers, control.max_rate
        wanted = control.concurrency and share(control.concurrency, workers)
        self._limiter.tune(wanted or self._concurrency, None if rate is None else rate / workers)

    def _reported(
        self, connection: Connection, identity: UUID, standing: Run, control: Control, reason: str | None
    ) -> Run:
        state: State = standing.state
        waits_for = self._limiter.waits_for
        if control.paused:
            state = "paused"
        elif reason is not None:
            state = "throttled"
        elif waits_for is not None:
            state = "waiting"
        run = replace(
            standing,
            id=identity,
            state=state,
            reason=reason or standing.reason or waits_for,
            concurrency=self._limiter.concurrency,
        )
        report(connection, self._schema, run)
        return run
