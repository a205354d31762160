"""Pause, resume and tune the runs of collections through the database: from any host, without a lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vecmig.config import Config
from vecmig.errors import UsageError
from vecmig.ledger import control as store
from vecmig.ledger.control import Control, Run, read_control, runs
from vecmig.ledger.install import ensure
from vecmig.ledger.schema import installed_version
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.text import one_line


@dataclass(frozen=True, slots=True)
class Controlled:
    """What operators want of one collection's runs now, and which runs heed it."""

    control: Control
    runs: tuple[Run, ...]
    #: Whether the command changed anything.
    changed: bool = False


def pause(config: Config, collections: Sequence[str] = (), *, reason: str | None = None) -> dict[str, Controlled]:
    """Let the runs of collections wait, those that begin later too, until ``resume``.

    Args:
        config: the project.
        collections: which ones; empty for all in collections.yaml.
        reason: why, for everybody who looks.

    Returns:
        How each collection's runs are controlled now.
    """
    reason = one_line(reason)

    def write(connection: Connection, schema: str, name: str) -> bool:
        before = read_control(connection, schema, name)
        store.pause(connection, schema, name, reason)
        return before != read_control(connection, schema, name)

    return _write(config, collections, "pause", write, {"reason": reason} if reason else {})


def resume(config: Config, collections: Sequence[str] = ()) -> dict[str, Controlled]:
    """Let the runs of collections go on; empty for all in collections.yaml."""
    return _write(config, collections, "resume", store.resume, {})


def tune(
    config: Config, settings: Mapping[str, float | None], collections: Sequence[str] = ()
) -> dict[str, Controlled]:
    """Set how fast the runs of collections go, now and later.

    Args:
        config: the project.
        settings: ``concurrency`` (most requests in flight) and ``max_rate`` (most records a second), either or both;
            None takes a setting back.
        collections: which ones; empty for all in collections.yaml.
    """

    def write(connection: Connection, schema: str, name: str) -> bool:
        before = read_control(connection, schema, name)
        store.tune(connection, schema, name, dict(settings))
        return before != read_control(connection, schema, name)

    return _write(config, collections, "tune", write, settings)


def controlled(config: Config, collections: Sequence[str] = ()) -> dict[str, Controlled]:
    """Say what operators want of the runs of collections, and which run. Nothing is written."""
    project = Project(config)
    return _read(project, _names(project, collections), {})


def _write(
    config: Config,
    collections: Sequence[str],
    kind: str,
    write: Callable[[Connection, str, str], bool],
    data: Mapping[str, Any],
) -> dict[str, Controlled]:
    project = Project(config)
    names = _names(project, collections)
    with project.database.session() as connection:
        if installed_version(connection, project.database.schema) == 0:
            raise UsageError(
                f"There is nothing to control: vecmig was never used in the database at {project.database.safe_url}.",
                hint="Run: vecmig upgrade",
            )
    ensure(project.database)
    changed = {}
    with project.context.transaction() as ledger:
        for name in names:
            changed[name] = write(ledger.connection, project.database.schema, name)
            if changed[name]:
                ledger.record_event(kind, collection=name, data=data)
    # on a connection of its own, so that what is told is what runs will find
    return _read(project, names, changed)


def _read(project: Project, names: Sequence[str], changed: Mapping[str, bool]) -> dict[str, Controlled]:
    schema = project.database.schema
    with project.database.session() as connection:
        at_work = runs(connection, schema)
        return {
            name: Controlled(
                read_control(connection, schema, name),
                tuple(run for run in at_work if run.collection == name),
                changed.get(name, False),
            )
            for name in names
        }


def _names(project: Project, collections: Sequence[str]) -> tuple[str, ...]:
    """Return the collections meant, each once.

    Raises:
        ConfigError: one is not in collections.yaml.
    """
    for name in collections:
        project.collections.collection(name)
    return tuple(dict.fromkeys(collections)) or tuple(project.collections.collections)
