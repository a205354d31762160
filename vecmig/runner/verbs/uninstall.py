"""Remove everything that vecmig made, of one collection or all of it, and say beforehand what goes and what stays."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from vecmig.config import Config
from vecmig.errors import ConfigError, DatabaseError, NotRecorded, VecmigError
from vecmig.events import Listener, StepDone, StepStarted, ignore
from vecmig.freshness.stamps import Stamps
from vecmig.homes import drop_index
from vecmig.inventory import uninstalling
from vecmig.inventory.uninstalling import Piece, SchemaLeft, TagSize, refuse_in_the_way, refuse_not_ours
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.schema import is_installed
from vecmig.ledger.spend import spent
from vecmig.postgres.locks import runner_locks
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.source.relations import relation_of
from vecmig.text import data_size


@dataclass(frozen=True, slots=True)
class CollectionRemoval:
    """What goes of one collection."""

    name: str
    #: What its source is called now; empty where it is gone, or not known.
    source: str
    pieces: tuple[Piece, ...]
    tags: tuple[TagSize, ...]
    #: What embedding it has cost, by the ledger.
    usd: float

    @property
    def bytes(self) -> int:
        """What its vectors take on disk."""
        return sum(tag.bytes for tag in self.tags)


@dataclass(frozen=True, slots=True)
class Uninstallation:
    """What goes, and what stays."""

    #: The database's name.
    database: str
    collections: tuple[CollectionRemoval, ...]
    #: vecmig's own tables and routines; none where only a collection goes, or nothing is installed.
    ledger: tuple[Piece, ...]
    #: How long the history is that goes with them.
    events: int
    #: What becomes of the schemas in which the ledger or vectors lie.
    schemas: tuple[SchemaLeft, ...]
    #: What a team has set on the tables, which ends with them.
    along: tuple[str, ...]
    #: Functions of others whose text has a name that goes.
    mentions: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing that could go."""
        return not (self.collections or self.ledger)


def uninstallation(config: Config, collection: str | None = None) -> Uninstallation:
    """Say what ``uninstall`` would remove, and refuse what may not go. Nothing is written.

    Args:
        config: the project; neither scripts nor collections.yaml are read.
        collection: the one that goes; None for all of them, and vecmig's own tables.

    Raises:
        NotRecorded: nothing is, or ever was, known of the collection.
        DatabaseError: something of others depends on what would go, or this role may not drop it.
    """
    project = Project(config)
    with project.database.session() as connection:
        return _look(connection, project.database.schema, collection)


def uninstall(config: Config, collection: str | None = None, *, listener: Listener = ignore) -> Uninstallation:
    """Remove all that vecmig made, each collection in one short transaction, and its own tables last.

    It goes by the ledger and by definitions, so the sources may have been renamed, exchanged or dropped. The rows and
    columns of a source are never touched. Cut short, it goes on where it stopped.

    Args:
        config: the project; neither scripts nor collections.yaml are read.
        collection: the one that goes; None for all of them, and vecmig's own tables.
        listener: told of what happens.

    Returns:
        What went.

    Raises:
        NotRecorded: nothing is, or ever was, known of the collection.
        LockHeld: a run or a sync is at work.
        DatabaseError: something of others depends on what would go, this role may not drop it, or a lock could not be
            had.
    """
    project = Project(config, listener)
    with project.database.session() as connection:
        _, names = _present(connection, project.database.schema, collection)
    with (
        runner_locks(project.database, names, what="uninstall") as locks,
        runner_locks(project.database, names, what="uninstall", kind="sync"),
    ):
        project = project.holding(locks)
        # what was seen before the locks may have changed
        with project.database.session() as connection:
            planned = _look(connection, project.database.schema, collection)
        if more := {leaving.name for leaving in planned.collections}.difference(names):
            raise DatabaseError(
                f"Somebody has begun with {', '.join(sorted(more))} meanwhile.",
                state="Nothing was changed.",
                hint=f"Run: {_command(collection)}",
            )
        _remove(project, planned, collection)
    return planned


# What is there -------------------------------------------------------------------------------------------------------


def _look(connection: Connection, schema: str, collection: str | None) -> Uninstallation:
    installed, names = _present(connection, schema, collection)
    pieces = {name: uninstalling.find_pieces(connection, schema, name, installed=installed) for name in names}
    own_pieces = uninstalling.find_own_pieces(connection, schema) if installed and collection is None else ()
    everything = [*(piece for some in pieces.values() for piece in some), *own_pieces]
    refuse_not_ours(connection, everything)
    refuse_in_the_way(uninstalling.in_the_way(connection, everything), _command(collection))
    schemas = uninstalling.schemas_left(connection, schema, everything)
    return Uninstallation(
        database=connection.info.dbname,
        collections=tuple(
            _leaving(connection, schema, name, some, installed=installed) for name, some in pieces.items()
        ),
        ledger=own_pieces,
        events=uninstalling.count_events(connection, schema) if own_pieces else 0,
        # with one collection goes only what is empty then
        schemas=tuple(left for left in schemas if collection is None or (not left.why and left.name != schema)),
        along=uninstalling.goes_along(connection, everything),
        mentions=uninstalling.mentions(connection, everything),
    )


def _present(connection: Connection, schema: str, collection: str | None) -> tuple[bool, tuple[str, ...]]:
    """Say whether vecmig's own tables are there, and name the collections that are to go."""
    installed = is_installed(connection, schema)
    names = uninstalling.present_collections(connection, schema, installed=installed)
    if collection is None:
        return installed, names
    if collection in names:
        return installed, (collection,)
    if installed and uninstalling.uninstalled_at(connection, schema, collection) is not None:
        return installed, ()
    raise NotRecorded(
        f"This database has no collection {collection}.",
        hint=f"Its collections are: {', '.join(names) or 'none'}",
    )


def _leaving(
    connection: Connection, schema: str, name: str, pieces: tuple[Piece, ...], *, installed: bool
) -> CollectionRemoval:
    source, usd = "", 0.0
    if installed:
        source = _source(connection, Ledger(connection, schema), name)
        revisions = uninstalling.revisions_of(connection, schema, name)
        usd = sum(entry.usd for entry in spent(connection, schema) if entry.revision in revisions)
    tags = uninstalling.measure_tags(connection, schema, name, pieces, installed=installed)
    return CollectionRemoval(name, source, pieces, tags, usd)


def _source(connection: Connection, ledger: Ledger, name: str) -> str:
    recorded = ledger.collections.recorded(name)
    if recorded is None:
        return ""
    if recorded.oid is None:
        return ".".join(recorded.collection.source)
    return str(relation_of(connection, recorded.oid) or "")


def _command(collection: str | None) -> str:
    return "vecmig uninstall" + (f" --collection {shlex.quote(collection)}" if collection else "")


# The steps ----------------------------------------------------------------------------------------------------------


def _remove(project: Project, planned: Uninstallation, collection: str | None) -> None:
    gone: list[str] = []
    try:
        for leaving in planned.collections:
            _step(project, leaving.name, partial(_drop_collection, project, leaving))
            gone.append(leaving.name)
        _step(project, "", partial(_drop_rest, project, planned))
    except VecmigError as error:
        if gone:
            state = f" What came next: {error.state}" if error.state else ""
            error.state = f"{', '.join(gone)}: all is gone already.{state}"
        raise
    _verify(project, collection)


def _step(project: Project, collection: str, work: Callable[[], str]) -> None:
    project.listener(StepStarted("uninstall", "", collection, collection or "vecmig's own"))
    began = time.monotonic()
    summary = work()
    if summary:
        project.listener(StepDone("uninstall", "", collection, summary, time.monotonic() - began))


def _drop_collection(project: Project, leaving: CollectionRemoval) -> str:
    schema, name = project.database.schema, leaving.name

    def change(connection: Connection) -> None:
        installed = is_installed(connection, schema)
        pieces = uninstalling.find_pieces(connection, schema, name, installed=installed)
        refuse_in_the_way(uninstalling.in_the_way(connection, pieces), _command(name))
        if installed:
            ledger = project.context.ledger(connection)
            # readers look again, and find nothing
            ledger.routes.announce(name)
            ledger.record_event("uninstall", collection=name, data=_figures(leaving))
            _drop_column_indexes(ledger, name)
        uninstalling.drop_pieces(connection, schema, name, pieces)
        if installed:
            uninstalling.forget_collection(connection, schema, name)

    project.context.locked(change)
    return f"{name}: {sum(tag.vectors for tag in leaving.tags):,} vectors are gone, {data_size(leaving.bytes)} freed"


def _drop_column_indexes(ledger: Ledger, name: str) -> None:
    """Drop the indexes that vecmig has built on columns of the source; the vectors in these are the team's."""
    with suppress(ConfigError, DatabaseError):
        source = find_source(ledger, ledger.collections.get(name), expressions=False, even_replaced=True)
        for adopted in source.adopted:
            if adopted.column is not None:
                drop_index(ledger.connection, Stamps(source, ledger.schema, adopted.tag))


def _figures(leaving: CollectionRemoval) -> dict[str, object]:
    tags = [
        {"tag": tag.tag, "vectors": tag.vectors, "records": tag.records, "bytes": tag.bytes} for tag in leaving.tags
    ]
    return {"pieces": [f"{piece.kind} {piece.shown}" for piece in leaving.pieces], "tags": tags, "usd": leaving.usd}


def _drop_rest(project: Project, planned: Uninstallation) -> str:
    """Drop the ledger, and the schemas that are empty by then, in one transaction."""
    schemas = [left.name for left in planned.schemas if not left.why]

    def change(connection: Connection) -> None:
        if planned.ledger:
            uninstalling.drop_ledger(connection, project.database.schema)
        for name in schemas:
            uninstalling.drop_schema(connection, name)

    if not (planned.ledger or schemas):
        return ""
    project.context.locked(change)
    gone = [*(["vecmig's own tables"] if planned.ledger else []), *(f"the schema {name}" for name in schemas)]
    return f"{', '.join(gone)}: gone"


def _verify(project: Project, collection: str | None) -> None:
    """Look again, on a connection of its own, for what was to go.

    Raises:
        DatabaseError: something is there.
    """
    schema = project.database.schema
    with project.database.session() as connection:
        installed = is_installed(connection, schema)
        names = uninstalling.present_collections(connection, schema, installed=installed)
    left = [name for name in names if collection in (None, name)]
    if left or (installed and collection is None):
        raise DatabaseError(
            f"All was dropped, and there is again: {', '.join(left) or f'the ledger in schema {schema}'}.",
            hint=f"Somebody made it just now. Run: {_command(collection)}",
        )
