"""What every run starts from: the scripts, the collections, the database, and who is at work."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from vecmig.about import version
from vecmig.config import Collections, Config, load_collections
from vecmig.errors import ScriptError
from vecmig.events import Listener, ignore
from vecmig.migration.workspace import Declaration, Workspace
from vecmig.script import Script, ScriptDirectory
from vecmig.store.connect import Database
from vecmig.store.ledger import Actor, Ledger, RevisionRow

_GIT_SECONDS: Final = 5


@dataclass(frozen=True)
class Project:
    """A configuration with all that follows from it, each part loaded when it is first needed."""

    config: Config
    listener: Listener = ignore

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """The script directory."""
        return ScriptDirectory(self.config)

    @cached_property
    def collections(self) -> Collections:
        """collections.yaml."""
        return load_collections(self.config.collections_path)

    @cached_property
    def database(self) -> Database:
        """The database of ``database_url``."""
        return Database(self.config.database_url, self.config.schema)

    @cached_property
    def workspace(self) -> Workspace:
        """What migrations work with."""
        return Workspace(
            database=self.database,
            load_collections=lambda: self.collections,
            actor=_actor(self.config.script_location),
            listener=self.listener,
            lock_wait=self.config.lock_wait,
            memory_mb=self.config.maintenance_work_mem_mb,
            x=self.config.x,
        )

    def revisions(self) -> Mapping[str, RevisionRow]:
        """Read the ledger's revisions; none where vecmig was never installed."""
        with self.database.session() as connection:
            return Ledger(connection, self.database.schema).revisions()

    def current(self, rows: Mapping[str, RevisionRow], *, in_progress: bool = False) -> tuple[str, ...]:
        """Give the heads of what the database has applied; with ``in_progress`` also of what it is on the way to.

        Raises:
            ScriptError: the database has applied a revision for which there is no script.
        """
        applied = [row.id for row in rows.values() if row.applied or (in_progress and row.in_progress)]
        for revision in applied:
            if revision not in self.scripts.map:
                raise ScriptError(
                    f"The database has revision {revision}, but no script in "
                    f"{', '.join(str(place) for place in self.config.version_locations)} defines it.",
                    hint="Bring the script back from version control, or pull the branch that has it.",
                )
        return self.scripts.map.current_heads(applied)


def declaration(script: Script) -> Declaration:
    """Give what a script declares, apart from its functions."""
    return Declaration(script.id, script.collection, script.old_tag, script.new_tag, script.checksum)


def _actor(directory: Path) -> Actor:
    return Actor(host=platform.node(), version=version(), git_commit=_git_commit(directory))


def _git_commit(directory: Path) -> str | None:
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )  # a fixed command
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
