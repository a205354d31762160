"""For teams that migrate their tables with Alembic.

Its autogenerate leaves alone what is vecmig's, and a migration lets a live view step aside while it changes what the
view shows.

Alembic finds this module by its entry point, and imports it before every command, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from alembic import context
from alembic.operations import MigrateOperation, Operations, ops

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.runtime.migration import MigrationContext
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult

    from vecmig.ledger.belongings import Belongings

__all__ = ["ViewAttachOp", "ViewDetachOp", "detached", "include_name", "include_object", "setup"]

#: What is vecmig's, by the context of the command that asked.
_known: WeakKeyDictionary[MigrationContext, Belongings] = WeakKeyDictionary()


def setup(plugin: Plugin) -> None:
    """Register with Alembic; it calls this by itself, from version 1.18 on."""
    from alembic.util import DispatchPriority

    for function, priority in ((_pass_by, DispatchPriority.FIRST), (_leave_alone, DispatchPriority.LAST)):
        plugin.add_autogenerate_comparator(
            function, "autogenerate", "vecmig", qualifier="postgresql", priority=priority
        )


def include_object(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: A002, ARG001  # as Alembic calls it
    """Return whether autogenerate is to look at an object: not at one that is vecmig's.

    For ``context.configure(include_object=…)`` in ``env.py``, where the plugin is not wanted or Alembic is older.
    """
    table = object if type_ == "table" else getattr(object, "table", None)
    return table is None or not _owns(context.get_context(), table.schema, table.name)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Return whether autogenerate is to look something up by its name: not if it is vecmig's.

    For ``context.configure(include_name=…)`` in ``env.py``: what is left out here is not read from the database.
    """
    return _is_teams(context.get_context(), name, type_, parent_names)


def _is_teams(
    migration: MigrationContext, name: str | None, type_: str, parent_names: Mapping[str, str | None]
) -> bool:
    if type_ == "schema":
        return name not in _belongings(migration).schemas
    table = name if type_ == "table" else parent_names.get("table_name")
    return table is None or not _owns(migration, parent_names.get("schema_name"), table)


def _owns(migration: MigrationContext, schema: str | None, name: str) -> bool:
    """Tell whether a relation is vecmig's; Alembic's name for the schema that is searched first is None."""
    relations = _belongings(migration).relations
    default = getattr(migration.dialect, "default_schema_name", None)
    return (schema, name) in relations or (schema is None and (default, name) in relations)


def _belongings(migration: MigrationContext) -> Belongings:
    if migration not in _known:
        from vecmig.ledger.belongings import Belongings, own_relations

        connection = migration.connection
        if connection is None or migration.dialect.name != "postgresql":
            _known[migration] = Belongings()
        else:
            _known[migration] = own_relations(lambda query: connection.exec_driver_sql(query).fetchall())
    return _known[migration]


def _pass_by(autogen_context: AutogenContext, _: ops.UpgradeOps) -> PriorityDispatchResult:
    """Have Alembic read none of vecmig's tables: a role that may not use their schema could not."""
    from alembic.util import PriorityDispatchResult

    # Alembic has no other door for it; without this one _leave_alone still does what counts
    filters = getattr(autogen_context, "_name_filters", [])
    filters.append(partial(_is_teams, autogen_context.migration_context))
    return PriorityDispatchResult.CONTINUE


def _leave_alone(autogen_context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """Take out of what autogenerate proposes all that is about vecmig's tables and views."""
    from alembic.util import PriorityDispatchResult

    migration = autogen_context.migration_context
    upgrade_ops.ops[:] = [
        operation
        for operation in upgrade_ops.ops
        if not isinstance(operation, ops.CreateTableOp | ops.DropTableOp | ops.ModifyTableOps)
        or not _owns(migration, operation.schema, operation.table_name)
    ]
    return PriorityDispatchResult.CONTINUE


# Operations --------------------------------------------------------------------------------------------------------


@contextmanager
def detached(op: Any, *collections: str, schema: str = "vecmig") -> Iterator[None]:
    """Let the live views of collections step aside while a migration changes columns that they show or that text reads.

    Args:
        op: Alembic's, as a migration imports it.
        collections: whose sources the migration changes.
        schema: where vecmig's own tables are.
    """
    for collection in collections:
        op.vecmig_view_detach(collection, schema=schema)
    yield
    for collection in collections:
        op.vecmig_view_attach(collection, schema=schema)


@Operations.register_operation("vecmig_view_detach")
class ViewDetachOp(MigrateOperation):
    """Drop a live view, and let the triggers on its source note every update, so that neither binds a column."""

    def __init__(self, collection: str, schema: str = "vecmig") -> None:
        self.collection = collection
        self.schema = schema

    @classmethod
    def vecmig_view_detach(cls, operations: Operations, collection: str, *, schema: str = "vecmig") -> None:
        """Run it: ``op.vecmig_view_detach("articles")``."""
        operations.invoke(cls(collection, schema))

    def reverse(self) -> ViewAttachOp:
        """Return what undoes it."""
        return ViewAttachOp(self.collection, self.schema)

    def to_diff_tuple(self) -> tuple[str, str]:
        """Return how a comparison shows it."""
        return ("vecmig_view_detach", self.collection)


@Operations.register_operation("vecmig_view_attach")
class ViewAttachOp(MigrateOperation):
    """Put the live view back with its grants, and the triggers as they were."""

    def __init__(self, collection: str, schema: str = "vecmig") -> None:
        self.collection = collection
        self.schema = schema

    @classmethod
    def vecmig_view_attach(cls, operations: Operations, collection: str, *, schema: str = "vecmig") -> None:
        """Run it: ``op.vecmig_view_attach("articles")``."""
        operations.invoke(cls(collection, schema))

    def reverse(self) -> ViewDetachOp:
        """Return what undoes it."""
        return ViewDetachOp(self.collection, self.schema)

    def to_diff_tuple(self) -> tuple[str, str]:
        """Return how a comparison shows it."""
        return ("vecmig_view_attach", self.collection)


@Operations.implementation_for(ViewDetachOp)
def _detach(operations: Operations, operation: ViewDetachOp) -> None:
    operations.execute(_call(operation, "view_detach"))


@Operations.implementation_for(ViewAttachOp)
def _attach(operations: Operations, operation: ViewAttachOp) -> None:
    operations.execute(_call(operation, "view_attach"))


def _call(operation: ViewDetachOp | ViewAttachOp, function: str) -> str:
    """Write the call of a function of the ledger's schema; a colon would be read as a parameter."""
    from vecmig.ledger.belongings import call_text

    return call_text(operation.schema, function, operation.collection).replace(":", "\\:")
