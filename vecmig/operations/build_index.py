"""Build the index of a tag without blocking reads or writes."""

from __future__ import annotations

from dataclasses import asdict

from vecmig.errors import DatabaseError
from vecmig.freshness.stamps import Stamps
from vecmig.homes import IndexBuild, home_over
from vecmig.operations.indexing import build_index, drop_index
from vecmig.operations.operation import Operation
from vecmig.postgres.recorder import terminated
from vecmig.source.source import Source
from vecmig.text import counted, data_size


class BuildIndex(Operation):
    """Build the new tag's index, unless it is there and valid."""

    def done(self) -> bool:
        """Return whether the index that collections.yaml asks for is there and valid, and searches go by it."""
        source = self.source()
        stamps = self._wanted(source)
        with self.context.database.session() as connection:
            entered = self.revision.index_only or stamps.index == source.index_of(self.new_tag)
            return entered and home_over(connection, stamps).index().usable

    def run(self) -> None:
        """Build it, dropping an invalid one first.

        One of another kind goes then, unless reads use it: a revision of the index alone builds beside that.
        """
        source = self.followed_source()
        before, stamps = self.stamps(source), self._wanted(source)
        with self.reported("index", self.new_tag) as summarise:
            built = build_index(self.context, stamps)
            with self.context.transaction() as ledger:
                state = home_over(ledger.connection, stamps).index()
                if not state.usable:
                    raise DatabaseError(
                        f"The index of {self.new_tag} is {state.word} after it was built.",
                        hint="Run the same command again: an invalid index is dropped and built again.",
                    )
                figures = {"bytes": state.bytes, "type": stamps.index_type} | (asdict(built) if built else {})
                self.record(ledger, "index", figures)
                if not self.revision.index_only:
                    ledger.tags.set_index(self.collection, self.new_tag, stamps.index)
                self.advance(ledger, "indexed")
            if before.index.built != stamps.index.built and not self.revision.index_only:
                drop_index(self.context, before)
            summarise(_summary(built, state.bytes))

    def undo(self) -> None:
        """Leave the index: it goes with the vectors, and going forward again is instant."""

    def sql(self) -> list[str]:
        """Return the CREATE INDEX."""
        source = self.source()
        with self.context.database.session() as connection:
            home = home_over(connection, self._wanted(source))
            return [terminated(home.index_statement().as_string(connection))]

    def _wanted(self, source: Source) -> Stamps:
        """Return the stamps of the new tag with the index that it is to have: reads keep the one that they use."""
        stamps = self.stamps(source)
        return (
            stamps
            if self.is_live() and not self.revision.index_only
            else stamps.indexed_as(source.collection.index_of(self.new_tag))
        )


def _summary(built: IndexBuild | None, size: int) -> str:
    if built is None:
        return f"already there, {data_size(size)}"
    helpers = {0: "", 1: ", 1 parallel worker"}.get(built.workers, f", {built.workers} parallel workers")
    memory = f"at most {built.memory_mb:,} MB of memory"
    return f"{counted(built.vectors, 'vector')}, {data_size(size)}; built with {memory}{helpers}"
