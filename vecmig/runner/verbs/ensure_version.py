"""Install vecmig's own tables, and bring what was made for collections to where this version has it."""

from __future__ import annotations

from vecmig.config import Config
from vecmig.errors import Blocked, ConfigError, DatabaseError
from vecmig.events import Listener, Warned, ignore
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.schema import VERSION
from vecmig.operations.placing import place
from vecmig.postgres.locks import runner_locks
from vecmig.runner.project import Project


def ensure_version(config: Config, *, listener: Listener = ignore) -> tuple[int, int]:
    """Install vecmig's own tables if they are missing or old; return their version before and after.

    What was made for collections is brought to where this version has it: the vectors into ``vectors_schema``, rights,
    triggers, live view and search function.
    """
    project = Project(config, listener)
    before = ensure(project.database)
    with project.database.session() as connection:
        names = sorted(project.context.ledger(connection).routes.all())
    if names:
        with (
            runner_locks(project.database, names, what="ensure_version") as locks,
            runner_locks(project.database, names, what="ensure_version", kind="sync"),
        ):
            project = project.holding(locks)
            for name in names:
                _place(project, name)
    return before, VERSION


def _place(project: Project, name: str) -> None:
    """Bring what was made for one collection up to date."""
    context = project.context
    try:
        with context.database.session() as connection:
            ledger = context.ledger(connection)
            source = find_source(ledger, ledger.collections.get(name), expressions=False, even_replaced=True)
    except Blocked:
        raise
    except (ConfigError, DatabaseError) as error:
        project.listener(Warned(f"{name} is left as it is: {error.message}"))
        return
    place(context, source)
