"""Take a revision back: roll back one that is live, abandon one that is not."""

from __future__ import annotations

from dataclasses import dataclass, field

from vecmig.errors import ScriptError
from vecmig.operations.cutover import Cutover
from vecmig.operations.expand import Expand
from vecmig.operations.leaving import Leaving
from vecmig.operations.operation import Operation
from vecmig.operations.reindexing import BeginReindex, cutover_of


@dataclass(frozen=True)
class Rollback(Operation):
    """Undo the cutover of a live revision, or the expand of one that never got there. Every vector is kept."""

    leaving: Leaving = field(default=Leaving())

    def done(self) -> bool:
        """Return whether the new tag is neither live nor the candidate.

        One of the index alone is done when it was taken back.
        """
        if self.revision.index_only:
            return not self._expand.done()
        with self.context.database.session() as connection:
            route = self.context.ledger(connection).routes.of(self.collection)
        return self.new_tag not in (route.live, route.candidate)

    def run(self) -> None:
        """Make the old tag live again, or abandon the revision.

        Raises:
            ScriptError: the vectors of a live revision are to be discarded.
        """
        if self.done() and not self.leaving.discard:
            if self.revision.old_tag is None:
                # it may have been cut short behind the move of the reads
                self.give_back(self.recorded_source())
            return
        if not self._cutover.done():
            self._expand.undo()
            return
        if self.leaving.discard:
            raise ScriptError(
                f"--discard is for a revision that was never live; {self.revision.revision} is live.",
                state="Nothing was changed.",
                hint="Run it without --discard: the vectors are kept, and going forward again is instant.",
            )
        self._cutover.undo()

    def undo(self) -> None:
        """Go forward again, by the revision's own gate."""
        self._expand.run()
        self._cutover.run()

    def sql(self) -> list[str]:
        """Return the statements as a comment: only ``vecmig downgrade`` runs them."""
        return self._cutover.undo_sql()

    @property
    def _cutover(self) -> Cutover:
        return cutover_of(self.context, self.revision, self.revision.gate, self.leaving)

    @property
    def _expand(self) -> Operation:
        kind = BeginReindex if self.revision.index_only else Expand
        return kind(self.context, self.revision, self.leaving)
