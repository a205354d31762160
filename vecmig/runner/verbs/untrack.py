"""Take a collection's triggers off, whatever became of its source and of collections.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from vecmig.config import Config
from vecmig.events import Listener, ignore
from vecmig.freshness.change_tracking import remove_tracking
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project


@dataclass(frozen=True, slots=True)
class Untracked:
    """What was taken off."""

    collection: str
    #: The triggers, each with the table that it was on.
    triggers: tuple[tuple[str, str], ...]
    #: Whether the function that they called was there.
    function: bool


def untrack(config: Config, collection: str, *, listener: Listener = ignore) -> Untracked:
    """Drop the triggers and the trigger function of a collection; vectors, live view and outbox stay.

    It goes by what calls the trigger function, so the source may have been renamed, replaced or dropped, and the
    collection need not stand in collections.yaml.

    Args:
        config: the project.
        collection: a collection that the database knows.
        listener: told of what it waits for.

    Raises:
        NotRecorded: the database does not know the collection.
        DatabaseError: a lock could not be had, or this role may not drop a trigger.
    """
    project = Project(config, listener)
    context = project.context
    with project.database.session() as connection:
        context.ledger(connection).collections.get(collection)

    def change(connection: Connection) -> Untracked:
        triggers, function = remove_tracking(connection, project.database.schema, collection)
        data = {"triggers": [f"{name} on {table}" for name, table in triggers]}
        context.ledger(connection).record_event("untrack", collection=collection, data=data)
        return Untracked(collection, triggers, function)

    done: Untracked = context.locked(change)
    return done
