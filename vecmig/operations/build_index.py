"""Build the HNSW index of a tag without blocking reads or writes."""

from __future__ import annotations

from dataclasses import asdict

from vecmig.errors import DatabaseError
from vecmig.homes import IndexBuild, open_home
from vecmig.operations.indexing import build_index
from vecmig.operations.operation import Operation
from vecmig.postgres.recorder import terminated
from vecmig.text import counted, data_size


class BuildIndex(Operation):
    """Build the new tag's index, unless it is there and valid."""

    def done(self) -> bool:
        """Return whether the index is there and valid."""
        source = self.source()
        with self.context.database.session() as connection:
            return open_home(self.context.ledger(connection), source, self.new_tag).index().usable

    def run(self) -> None:
        """Build it, dropping an invalid one first."""
        stamps = self.stamps(self.followed_source())
        with self.reported("index", self.new_tag) as summarise:
            built = build_index(self.context, stamps)
            with self.context.transaction() as ledger:
                state = open_home(ledger, stamps.source, stamps.tag).index()
                if not state.usable:
                    raise DatabaseError(
                        f"The index of {self.new_tag} is {state.word} after it was built.",
                        hint="Run the same command again: an invalid index is dropped and built again.",
                    )
                self.record(ledger, "index", {"bytes": state.bytes} | (asdict(built) if built else {}))
                self.advance(ledger, "indexed")
            summarise(_summary(built, state.bytes))

    def undo(self) -> None:
        """Leave the index: it goes with the vectors, and going forward again is instant."""

    def sql(self) -> list[str]:
        """Return the CREATE INDEX."""
        source = self.source()
        with self.context.database.session() as connection:
            home = open_home(self.context.ledger(connection), source, self.new_tag)
            return [terminated(home.index_statement().as_string(connection))]


def _summary(built: IndexBuild | None, size: int) -> str:
    if built is None:
        return f"already there, {data_size(size)}"
    helpers = {0: "", 1: ", 1 parallel worker"}.get(built.workers, f", {built.workers} parallel workers")
    memory = f"at most {built.memory_mb:,} MB of memory"
    return f"{counted(built.vectors, 'vector')}, {data_size(size)}; built with {memory}{helpers}"
