"""The ``m`` that a script's functions get: each method makes its operation, and runs it or writes down its SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from vecmig.model.adoption import Adoption, HomeKind, RetiredColumn
from vecmig.model.gate import Gate
from vecmig.operations.adopt import Adopt
from vecmig.operations.backfill import Backfill
from vecmig.operations.build_index import BuildIndex
from vecmig.operations.context import Context, Declaration
from vecmig.operations.cutover import Cutover
from vecmig.operations.execute import Execute
from vecmig.operations.expand import Expand
from vecmig.operations.leaving import Leaving
from vecmig.operations.migration import Migration
from vecmig.operations.operation import Operation, commented
from vecmig.operations.reindexing import BeginReindex, cutover_of
from vecmig.operations.rollback import Rollback
from vecmig.postgres import execute

#: Where a run may stop, in order.
UNTIL: Final = ("expand", "backfill", "index", "gate")


class Stopped(Exception):
    """The run was to stop here: what a script has behind this call is not for now."""


class ScriptMigration(Migration):
    """Runs what one function of a script says."""

    def __init__(
        self,
        context: Context,
        declared: Declaration,
        *,
        step: str,
        until: str | None = None,
        leaving: Leaving | None = None,
        limit: int | None = None,
        adopt: Adopt | None = None,
    ) -> None:
        """Run nothing yet.

        Args:
            context: what the operations work with.
            declared: what the script declares.
            step: the function.
            until: stop after this phase.
            leaving: how a downgrade leaves the revision.
            limit: stop a backfill after about this many records.
            adopt: what takes over vectors in another function of the script, which ``expand`` prepares for.
        """
        self._context = context
        self._declared = declared
        self._step = step
        self._until = until
        self._leaving = leaving or Leaving()
        self._limit = limit
        self._adopt = adopt
        self._statements = 0

    @property
    def revision(self) -> str:
        return self._declared.revision

    @property
    def collection(self) -> str:
        return self._declared.its_collection

    @property
    def old_tag(self) -> str | None:
        return self._declared.old_tag

    @property
    def new_tag(self) -> str:
        return self._declared.its_new_tag

    @property
    def x(self) -> Mapping[str, str]:
        return self._context.config.x

    def expand(self) -> None:
        if self._declared.index_only:
            self._do(BeginReindex(self._context, self._declared))
        else:
            self._do(Expand(self._context, self._declared, adopt=self._adopt))

    def backfill(self) -> None:
        self._do(Backfill(self._context, self._declared, self._limit))
        if self._limit is not None:
            raise Stopped

    def adopt(
        self,
        expression: str,
        *,
        where: str | None = None,
        home: HomeKind = "partition",
        fill: bool | None = None,
        retire: RetiredColumn = "leave",
    ) -> None:
        adoption = Adoption(expression, where, home, home == "partition" if fill is None else fill, retire)
        self._do(Adopt(self._context, self._declared, self._limit, adoption=adoption))
        if self._limit is not None:
            raise Stopped

    def build_index(self) -> None:
        self._do(BuildIndex(self._context, self._declared))

    def cutover(self, gate: Gate) -> None:
        operation = cutover_of(self._context, self._declared, gate)
        if self._until is None:
            self._do(operation)
        elif self._until != "gate":
            raise Stopped
        elif not operation.done():
            operation.judge()
            raise Stopped

    def rollback(self) -> None:
        self._do(Rollback(self._context, self._declared, self._leaving))

    def execute(self, statement: Any) -> None:
        self._statements += 1
        self._do(Execute(self._context, self._declared, execute.as_text(statement), self._step, self._statements))

    def _do(self, operation: Operation) -> None:
        operation.run()


class RecordingMigration(ScriptMigration):
    """Writes down what one function of a script would run. It reads the catalogue and changes nothing.

    What a script has behind a cutover or a rollback is commented out, as these are: only a command runs them.
    """

    def __init__(
        self,
        context: Context,
        declared: Declaration,
        *,
        step: str,
        write: Callable[[str], None],
        adopt: Adopt | None = None,
    ) -> None:
        """Write nothing yet."""
        super().__init__(context, declared, step=step, adopt=adopt)
        self._write = write
        self._switched = False

    def _do(self, operation: Operation) -> None:
        for text in operation.sql():
            self._write(commented(text) if self._switched else text)
        self._switched = self._switched or isinstance(operation, Cutover | Rollback)


class AskingMigration(ScriptMigration):
    """Finds out which operations one function of a script runs, and runs none of them."""

    def __init__(self, context: Context, declared: Declaration, *, step: str) -> None:
        """Ask nothing yet."""
        super().__init__(context, declared, step=step)
        self.operations: list[Operation] = []

    def _do(self, operation: Operation) -> None:
        self.operations.append(operation)
