"""Write down the SQL of an upgrade or downgrade instead of running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from vecmig.config import Config
from vecmig.ledger.install import install
from vecmig.operations.script import RecordingMigration
from vecmig.postgres.recorder import Recorder
from vecmig.postgres.sessions import Connection
from vecmig.postgres.settings import SEARCH_PATH
from vecmig.runner.apart import Apart
from vecmig.runner.plan import check_applied, check_upgrade
from vecmig.runner.project import Project
from vecmig.runner.steps import adoption_of, declaration
from vecmig.runner.verbs.upgrade import ensure_supported
from vecmig.script import STEPS, Script, Step

_PATH = f"SET search_path TO {SEARCH_PATH};"
_BACK = "SET search_path TO DEFAULT;"
_FORWARD: tuple[Step, ...] = tuple(step for step in STEPS if step != "downgrade")


def upgrade_sql(config: Config, target: str, write: Callable[[str], None], *, release: bool = False) -> None:
    """Write what ``upgrade`` would run from where the database is. The database is read, not changed."""
    project = Project(config)
    ensure_supported(project)
    rows = project.revisions()
    check_applied(project.scripts.scripts, rows)
    path = project.upgrade_path(target, rows, release=release)
    steps = path.steps
    check_upgrade(steps, rows, project.collections)
    for passed in path.passed:
        write(f"-- revision {passed.revision}: {passed.outcome}: {passed.words}")
    if steps:
        write(_PATH)
        with project.database.session() as connection:
            install(cast(Connection, Recorder(connection, write)), project.database.schema)
    apart, graph = Apart(several=len({script.collection for script in steps}) > 1), project.scripts.map.graph
    stopped: list[str] = []
    for script in steps:
        if script.collection in apart.collections or script.id in graph.descendants(stopped):
            continue
        stopped.append(script.id)
        with apart.each(f"Revision {script.id}", script.collection):
            # of one that fails midway, nothing
            statements: list[str] = []
            _record(project, script, _FORWARD, statements.append)
            for text in statements:
                write(text)
            stopped.pop()
    if steps:
        write(_BACK)
    apart.raise_worst()


def downgrade_sql(config: Config, target: str, write: Callable[[str], None]) -> None:
    """Write what ``downgrade`` would run."""
    project = Project(config)
    rows = project.revisions()
    heads = project.current(rows, in_progress=True)
    steps = [script for script in project.scripts.downgrade_path(target, heads) if script.id in rows]
    if steps:
        write(_PATH)
    for script in steps:
        _record(project, script, ("downgrade",), write)
    if steps:
        write(_BACK)


def _record(project: Project, script: Script, steps: tuple[Step, ...], write: Callable[[str], None]) -> None:
    write(f"-- revision {script.id}: {script.message}")
    adopt = adoption_of(project, script) if "upgrade" in steps and script.collection is not None else None
    for step in steps:
        m = RecordingMigration(project.context, declaration(script), step=step, write=write, adopt=adopt)
        script.function(step)(m)
