"""What every run starts from: the scripts, the collections, the database, and who is at work."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vecmig.about import version
from vecmig.config import ENGINES, Config
from vecmig.errors import RecipeMissing, ScriptError, UsageError, VecmigError
from vecmig.events import Listener, Waiting, ignore
from vecmig.ledger.part import Tables
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.revisions import Revisions
from vecmig.operations.run_locks import NO_LOCKS, Locks
from vecmig.postgres.locks import RunnerLocks, watched
from vecmig.postgres.sessions import Database, database_at
from vecmig.runner.passing import UpgradePath, pass_by
from vecmig.script import ScriptDirectory

if TYPE_CHECKING:
    from vecmig.backfill import RunBudget
    from vecmig.config.collections import Collections
    from vecmig.model.recipe import Recipe
    from vecmig.operations.context import Context

_GIT_SECONDS: Final = 5


@dataclass(frozen=True)
class Project:
    """A configuration with all that follows from it, each part loaded when it is first needed."""

    config: Config
    listener: Listener = ignore
    #: What this run may cost in all.
    run_budget: RunBudget | None = None
    #: Those of the run.
    locks: Locks = NO_LOCKS
    #: The database, where an earlier project of this run has opened it.
    opened: Database | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        most = self.config.max_cost
        if most is not None and not 0 < most < math.inf:
            raise UsageError(f"--max-cost {most:g} is not an amount above 0, in US dollars.")

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """The script directory."""
        return ScriptDirectory(self.config)

    @cached_property
    def collections(self) -> Collections:
        """collections.yaml; what needs neither it nor a recipe starts without."""
        from vecmig.config.collections import load_collections

        path = self.config.collections_path
        try:
            return load_collections(path)
        except RecipeMissing:
            # what the database knows of a tag says what is missing, and lets everything else go on
            return load_collections(path, self._recorded_recipes())

    def _recorded_recipes(self) -> dict[str, Recipe]:
        from vecmig.ledger.ledger import Ledger

        with suppress(VecmigError), self.database.session() as connection:
            return {row.tag: row.recipe for row in Ledger(connection, self.database.schema).tags.all()}
        return {}

    @cached_property
    def database(self) -> Database:
        """The database of ``database_url``."""
        if self.opened is not None:
            return self.opened
        config = self.config
        place = config.database_engine or config.database_url
        options = {"vectors_schema": config.vectors_schema, "lock_timeout": config.lock_timeout}
        database = database_at(place, config.schema, **options)
        listener = self.told
        return watched(
            database,
            lock_wait=config.lock_wait,
            tell=lambda reason, cause: listener(Waiting(reason, cause=cause)),
        )

    @property
    def told(self) -> Listener:
        """Who is told of waits: where no listener follows a run, whoever the configuration names."""
        on_wait = self.config.on_wait
        if self.listener is not ignore or on_wait is None:
            return self.listener
        return lambda event: on_wait(event.words, event.what) if isinstance(event, Waiting) else None

    @cached_property
    def context(self) -> Context:
        """What operations work with. Only with them is it loaded: what merely reads the ledger starts without."""
        from vecmig.ledger.rows import Actor
        from vecmig.operations.context import Context

        return Context(
            config=self.config,
            database=self.database,
            load_collections=lambda: self.collections,
            actor=Actor(platform.node(), version(), _git_commit(self.config.script_location)),
            listener=self.told,
            locks=self.locks,
            run_budget=self.run_budget,
        )

    def holding(self, locks: RunnerLocks) -> Project:
        """Return the project as the holder of these locks works with it."""
        return replace(self, locks=locks, opened=self.database)

    def revisions(self) -> Mapping[str, RevisionRow]:
        """Read the ledger's revisions; none where vecmig was never installed."""
        with self.database.session() as connection:
            return Revisions(Tables(connection, self.database.schema)).all()

    def current(self, rows: Mapping[str, RevisionRow], *, in_progress: bool = False) -> tuple[str, ...]:
        """Return the heads of what the database has applied; with ``in_progress`` also of what it is on the way to.

        Raises:
            ScriptError: the database has applied a revision for which there is no script.
        """
        applied = [row.id for row in rows.values() if row.applied or (in_progress and row.in_progress)]
        for revision in applied:
            if revision not in self.scripts.map:
                raise self.scripts.gone(revision, rows[revision].collection) or ScriptError(
                    f"The database has revision {revision}, but no script in "
                    f"{', '.join(str(place) for place in self.config.version_locations)} defines it.",
                    hint="Bring the script back from version control, or pull the branch that has it.",
                )
        return self.scripts.map.current_heads(applied)

    def upgrade_path(
        self, target: str | tuple[str, ...], rows: Mapping[str, RevisionRow], *, release: bool = False
    ) -> UpgradePath:
        """Return what an upgrade runs, in that order, and what it passes by; ``release`` takes what is on hold too."""
        path = self.scripts.upgrade_path(target, self.current(rows), again=self.forgotten(rows))
        return pass_by(path, rows, self.scripts.map.graph, release=release)

    def forgotten(self, rows: Mapping[str, RevisionRow]) -> frozenset[str]:
        """Name the revisions below the heads that begin again, because their collection was uninstalled.

        A revision that was put in below one of the same collection that is applied stays passed by.
        """
        applied = {row.id for row in rows.values() if row.applied}
        below = self.scripts.map.applied(self.current(rows)) - applied
        graph = self.scripts.map.graph
        return frozenset(
            id_
            for id_ in below
            if (collection := self.scripts[id_].collection) is not None
            and not any(self.scripts[above].collection == collection for above in graph.descendants([id_]) & applied)
        )

    def begun_anew(self, rows: Mapping[str, RevisionRow]) -> tuple[str, ...]:
        """Name the revisions in progress that lie below heads which are live."""
        return tuple(sorted(id_ for id_ in self.forgotten(rows) if id_ in rows and rows[id_].in_progress))


def with_options(
    config: Config, *, engine: str | None, workers: int | None, max_cost: float | None, wait: bool
) -> Config:
    """Return the configuration with another engine, number of workers or limit on the cost, as the command line has it.

    Raises:
        UsageError: there is no such engine, or it has no workers.
    """
    chosen = engine or config.engine
    if chosen not in ENGINES:
        raise UsageError(f"--engine {chosen!r} is not an engine.", hint=f"It is one of: {', '.join(ENGINES)}")
    if workers is not None and (workers < 1 or chosen == "local"):
        raise UsageError(f"--workers {workers} asks for a fleet.", hint="Write --engine ray, and --workers from 1")
    return replace(config, engine=chosen, workers=workers or config.workers, max_cost=max_cost, wait_for_batches=wait)


def _git_commit(directory: Path) -> str | None:
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )  # a fixed command
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
