"""What completes a tag: this process or workers on Ray, and what either of them is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vecmig.backfill.counters import Counters
from vecmig.backfill.run_options import RunOptions
from vecmig.backfill.supervisor import RunSupervisor
from vecmig.embedders import Embedder
from vecmig.events import Listener
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection, Database


class Engine(AbstractContextManager["Engine"], Protocol):
    """A context that embeds what is pending under a tag, in as many passes as it is asked for."""

    counters: Counters

    def session(self) -> ReconnectingSession:
        """Return a session that waits for a lost database as long as the options say."""

    def whole_pass(self, limit: int | None = None) -> None:
        """Embed and write what is pending in the full source, at most ``limit`` records.

        Raises:
            EmbedderError, DatabaseUnreachable: what was written stays, and another pass goes on from there.
            Interrupted: by SIGINT; what was in flight was written first.
        """


@dataclass(frozen=True, slots=True)
class TagBackfill:
    """A tag to complete, by which embedder and under which options."""

    #: Where the source and the vectors are.
    database: Database
    stamps: Stamps
    embedder: Embedder
    options: RunOptions
    #: Told of the progress, and of what is waited for.
    listener: Listener
    #: Called once, before the first batch: a pause and limits hold already, and the run shows.
    prepare: Callable[[], None] = lambda: None

    def new_counters(self) -> Counters:
        """Return the counters of a run that has done nothing yet."""
        return Counters(self.stamps, self.options.what, self.listener)

    def session(self, counters: Counters, prepare: Callable[[Connection], None] | None = None) -> ReconnectingSession:
        """Return a session that waits for a lost database, as long as the options say and the run is wanted."""
        return ReconnectingSession(
            self.database,
            wait=self.options.reconnect_wait,
            on_wait=counters.wait,
            prepare=prepare,
            sleep=self.embedder.limiter.sleep,
        )

    def supervisor(self, counters: Counters) -> RunSupervisor | None:
        """Return what shows the run to operators and heeds them; None where the options want none."""
        if not self.options.supervised:
            return None
        return RunSupervisor(
            self.database,
            self.options,
            self.embedder.limiter,
            concurrency=self.embedder.recipe.service.concurrency,
            collection=self.stamps.source.collection.name,
            listener=self.listener,
            standing=counters.standing,
        )
