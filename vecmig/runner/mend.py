"""Make good, for an upgrade that goes over a project, what somebody dropped of collections that are in use."""

from __future__ import annotations

from collections.abc import Collection as AnyOf

from vecmig.inventory.exposure import exposures
from vecmig.ledger.install import ensure
from vecmig.ledger.rows import Route
from vecmig.operations.following import inspect
from vecmig.operations.missing import disagreements
from vecmig.published.detaching import is_detached
from vecmig.runner.apart import Apart
from vecmig.runner.project import Project
from vecmig.runner.verbs.sync import prepare


def mend(project: Project, apart: Apart, *, but: AnyOf[str] = ()) -> None:
    """Make triggers, live view and search function again where they are gone, and mend rights, as a sync does.

    Args:
        project: the project.
        apart: keeps what collections fail by, such as one whose text does not work any more.
        but: collections that were seen to already.
    """
    with project.database.session() as connection:
        routes = project.context.ledger(connection).routes.all()
    in_use = [name for name, route in routes.items() if route.live or route.candidate]
    for name in sorted(set(in_use) & set(project.collections.collections) - set(but)):
        with apart.each(name):
            _mend(project, name, routes[name])


def _mend(project: Project, name: str, route: Route) -> None:
    context = project.context
    source = inspect(context, project.collections.collection(name))
    with project.database.session() as connection:
        ledger = context.ledger(connection)
        missing = exposures(connection, source, ledger.schema) or disagreements(
            connection, ledger, source, route, aside=is_detached(connection, ledger.schema, name)
        )
    if missing:
        ensure(project.database)
        prepare(context, source)
