"""Say what an upgrade passes by, and from which tag the next revision starts where the newest one is on hold."""

from __future__ import annotations

from vecmig.config import Config
from vecmig.ledger.ledger import Ledger
from vecmig.runner.passing import Passed
from vecmig.runner.project import Project


def passed_by(config: Config, target: str = "head") -> tuple[Passed, ...]:
    """Return what ``upgrade target`` would pass by. Reads only."""
    project = Project(config)
    return project.upgrade_path(target, project.revisions()).passed


def live_where_held(config: Config) -> dict[str, str]:
    """Return the live tag of each collection of which upgrades pass a revision by, by its name. Reads only."""
    project = Project(config)
    passed = project.upgrade_path(project.scripts.map.real_heads, project.revisions()).passed
    names = {one.collection for one in passed if one.stays}
    if not names:
        return {}
    with project.database.session() as connection:
        routes = Ledger(connection, project.database.schema).routes.all()
    return {name: route.live for name, route in routes.items() if name in names and route.live is not None}
