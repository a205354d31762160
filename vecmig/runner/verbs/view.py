"""Let a live view step aside for a migration of its source, and put it back."""

from __future__ import annotations

from vecmig.config import Config
from vecmig.errors import DatabaseError, UsageError
from vecmig.events import Listener, ignore
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.operations.following import attach
from vecmig.published.detaching import Detached, all_detached, detach
from vecmig.published.live_view import reads_tag
from vecmig.runner.project import Project


def detach_view(config: Config, collection: str, *, listener: Listener = ignore) -> tuple[Detached, bool]:
    """Drop the live view of a collection and let its triggers note every update, so that neither binds a column.

    The grants of the view are kept in the ledger, and nothing puts it back before ``attach_view``.

    Returns:
        How it stands now, and whether this changed it.

    Raises:
        UsageError: the collection has no tag yet.
        DatabaseError: something of the team's hangs on the view.
    """
    project = _project(config, collection, listener)
    schema, actor = project.database.schema, project.context.actor
    changed = bool(project.context.locked(lambda connection: detach(connection, schema, collection, actor)))
    with project.database.session() as connection:
        detached = all_detached(connection, schema).get(collection)
    if detached is None:
        raise DatabaseError(f"The live view of {collection} was attached again just now.", hint="Run: vecmig status")
    return detached, changed


def attach_view(config: Config, collection: str, *, listener: Listener = ignore) -> bool:
    """Put a live view and its triggers back, as collections.yaml has them; return whether they were aside.

    Raises:
        UsageError: the collection has no tag yet.
        ConfigError: collections.yaml names a column that the source has no more.
    """
    project = _project(config, collection, listener)
    with project.database.session() as connection:
        source = find_source(project.context.ledger(connection), project.collections.collection(collection))
    changed = attach(project.context, source)
    with project.database.session() as connection:
        live = Ledger(connection, project.database.schema).routes.of(collection).live
        if live is not None and not reads_tag(connection, source, live, ledger=project.database.schema):
            raise DatabaseError(f"The live view of {collection} does not read {live}.", hint="Run: vecmig status")
    return changed


def _project(config: Config, collection: str, listener: Listener) -> Project:
    project = Project(config, listener)
    project.collections.collection(collection)
    with project.database.session() as connection:
        known = Ledger(connection, project.database.schema).routes.all()
    if collection not in known:
        raise UsageError(f"Collection {collection} has no tag yet.", hint="Run: vecmig upgrade head")
    ensure(project.database)
    return project
