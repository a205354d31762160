"""What a revision script sees as ``m``. It imports nothing heavy, because every script imports it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from vecmig.model.adoption import HomeKind, RetiredColumn
from vecmig.model.gate import Gate


class Migration(ABC):
    """One revision at work. A script's four functions get it as ``m``.

    Every method may be called again after a run was cut short: it asks the database whether its work is done.
    """

    @property
    @abstractmethod
    def revision(self) -> str:
        """The revision's id."""

    @property
    @abstractmethod
    def collection(self) -> str:
        """The collection's name.

        Raises:
            ScriptError: the revision has none.
        """

    @property
    @abstractmethod
    def old_tag(self) -> str | None:
        """The tag that reads use before the cutover; None for a collection's first tag."""

    @property
    @abstractmethod
    def new_tag(self) -> str:
        """The tag that reads use after the cutover.

        Raises:
            ScriptError: the revision has no collection.
        """

    @property
    @abstractmethod
    def x(self) -> Mapping[str, str]:
        """The ``-x key=value`` arguments of the command line."""

    @abstractmethod
    def expand(self) -> None:
        """Make room for the new tag: vectors table, partition, change tracking, and the recipe written down."""

    @abstractmethod
    def backfill(self) -> None:
        """Embed every record that lacks a fresh vector under the new tag. Running it again is resuming."""

    @abstractmethod
    def adopt(
        self,
        expression: str,
        *,
        where: str | None = None,
        home: HomeKind = "partition",
        fill: bool | None = None,
        retire: RetiredColumn = "leave",
    ) -> None:
        """Take over the vectors that the source has already, in place of ``backfill``. Running it again is resuming.

        Args:
            expression: SQL over the source that gives a vector, a halfvec, an array of floats, or pgvector's text form.
            where: the condition on the rows whose vectors are adopted; None for all.
            home: ``"partition"`` copies them; ``"column"`` leaves them in the source's column, and writes stamps only.
            fill: whether records without such a vector are embedded by the recipe; None for True where they are copied,
                and False in place.
            retire: what retiring the tag does with the column, where that is the home: ``"leave"`` it, ``"clear"`` it
                in batches, or ``"drop"`` it.

        Raises:
            ScriptError: the arguments do not fit together, or the tag has vectors that came about otherwise.
            DatabaseError: the vectors are not such as the tag can have. Nothing was taken over.
        """

    @abstractmethod
    def build_index(self) -> None:
        """Build the HNSW index of the new tag without blocking reads or writes, unless it is there and valid."""

    @abstractmethod
    def cutover(self, gate: Gate) -> None:
        """Judge the gate and, if every check holds, move reads to the new tag in one short transaction.

        Raises:
            GateRefused: a check does not hold. Nothing was changed.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Move reads back to the old tag and keep every vector; abandon a revision that is not live yet."""

    @abstractmethod
    def execute(self, statement: Any) -> None:
        """Run a statement of the team's own, in a transaction of its own.

        A script that is resumed does not run it a second time: statement and record commit together.

        Args:
            statement: SQL text, or an SQLAlchemy construct.

        Raises:
            ScriptError: at this place another statement has run already.
        """
