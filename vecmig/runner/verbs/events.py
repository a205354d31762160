"""What happened: the history as the ledger has it. Reads only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from vecmig.config import Config
from vecmig.events import Listener, Waiting, ignore
from vecmig.ledger.history import History, Tail
from vecmig.ledger.part import Tables
from vecmig.ledger.rows import EventRow
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.runner.project import Project


def events(
    config: Config, *, since: datetime | timedelta | None = None, collection: str | None = None
) -> Iterator[EventRow]:
    """Yield what happened, oldest first; nothing before vecmig is installed.

    Args:
        config: the project.
        since: from when on, or how long ago by the database's clock; None for all.
        collection: of this one only, also one that is not in collections.yaml any more; None for all, and for what is
            of no collection.
    """
    project = Project(config)
    with project.database.session() as connection:
        yield from History(Tables(connection, project.database.schema)).read(since=since, collection=collection)


def follow_events(
    config: Config,
    *,
    since: datetime | timedelta | None = None,
    collection: str | None = None,
    every: float = 1.0,
    listener: Listener = ignore,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[EventRow]:
    """Yield what happened and, without an end, what happens; a database that goes away is waited for.

    Args:
        config: the project.
        since: as ``events`` has it.
        collection: as ``events`` has it.
        every: seconds between two looks.
        listener: told of a database that cannot be reached.
        sleep: waits between two looks; what it raises ends them.
    """
    project = Project(config, listener)
    tail, schema = Tail(since, collection), project.database.schema

    def wait(reason: str, seconds: float) -> None:
        listener(Waiting(reason.removesuffix("."), seconds, reason))

    with ReconnectingSession(project.database, wait=math.inf, on_wait=wait) as session:
        while True:
            yield from session.run(lambda connection: tail.read(History(Tables(connection, schema))))
            sleep(every)


def newest_event(config: Config, collection: str | None = None) -> EventRow | None:
    """Return what happened last, or last to a collection; None where nothing did.

    Raises:
        ConfigError: neither the history nor collections.yaml knows the collection.
    """
    project = Project(config)
    with project.database.session() as connection:
        found = History(Tables(connection, project.database.schema)).latest(1, collection)
    if not found and collection is not None:
        project.collections.collection(collection)
    return found[0] if found else None


def known_tags(config: Config) -> Mapping[str, tuple[str, ...]]:
    """Return the tags that each collection has or had in the database."""
    project = Project(config)
    with project.database.session() as connection:
        return History(Tables(connection, project.database.schema)).tags()
