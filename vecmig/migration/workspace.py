"""What every migration works with: the database, the collections, the embedders, and who is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vecmig.config import Collections
from vecmig.embedders import Embedder, Retry, open_embedder
from vecmig.events import Listener, Waiting, ignore
from vecmig.gate import Report, ask_canary, measure, new_canary, require_same_model
from vecmig.store.catalog import Source
from vecmig.store.changes import install_tracking, tracking_works
from vecmig.store.connect import Connection, Database
from vecmig.store.ledger import Actor, Ledger, check_recipe
from vecmig.store.live import has_search, publish, reads_tag
from vecmig.store.locks import with_lock_retries
from vecmig.store.vectors import Space
from vecmig.tags import Gate, Recipe


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a migration works with: the database, the collections, and who is at work."""

    database: Database
    #: Gives collections.yaml; called only where it is needed, because the way back must not depend on it.
    load_collections: Callable[[], Collections]
    actor: Actor
    listener: Listener = ignore
    #: Seconds that a short lock is tried for.
    lock_wait: float = 30.0
    #: Most maintenance_work_mem for an index build, in MB.
    memory_mb: int = 2048
    #: The ``-x key=value`` of the command line.
    x: Mapping[str, str] = field(default_factory=dict)

    @property
    def collections(self) -> Collections:
        """What collections.yaml says."""
        return self.load_collections()

    def ledger(self, connection: Connection) -> Ledger:
        """Open the ledger on a connection."""
        return Ledger(connection, self.database.schema, self.actor)

    def recipe(self, ledger: Ledger, collection: str, tag: str) -> Recipe:
        """Give a recorded tag's recipe: as collections.yaml has it, or as recorded when it is no longer there.

        What decides the vectors must agree; how the provider is reached and paid may have changed since.
        """
        recorded = ledger.tag(collection, tag).recipe
        configured = self.collections.recipes.get(tag)
        if configured is None:
            return recorded
        check_recipe(ledger, tag, configured)
        return configured

    def maintain(self, ledger: Ledger, embedder: Embedder, collection: str, tag: str) -> None:
        """Prepare to add vectors to a tag: the recipe's service is written down for the readers, the canary is kept.

        Raises:
            TerminalEmbedderError: the embedder is not the one that made the tag's vectors.
        """
        ledger.refresh_recipe(collection, tag, embedder.recipe)
        canary = ledger.tag(collection, tag).canary
        if canary is None:
            ledger.set_canary(collection, tag, new_canary(embedder))
        else:
            require_same_model(embedder, tag, canary)

    @contextmanager
    def embedder(self, collection: str, tag: str) -> Iterator[Embedder]:
        """Open the embedder of a recorded tag, whose retries are told of."""
        with self.database.session() as connection:
            recipe = self.recipe(self.ledger(connection), collection, tag)
        retry = Retry(notify=lambda error, again: self.wait(error.message, again))
        embedder = open_embedder(tag, recipe, retry=retry)
        try:
            yield embedder
        finally:
            embedder.close()

    def judge(self, gate: Gate, source: Source, new: str, old: str | None, *, ask: bool = True) -> Report:
        """Judge the gate between two tags of a collection; nothing is written.

        Args:
            gate: the thresholds.
            source: the collection.
            new: the tag that reads are to use.
            old: the tag that they use now.
            ask: whether to ask the embedder for the canary; otherwise that check is left open.
        """
        name = source.collection.name
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            canary = ledger.tag(name, new).canary
            similarity: float | None = None
            error = "" if canary else "no canary was kept yet: vecmig backfill"
            if ask and canary:
                with self.embedder(name, new) as embedder:
                    similarity, error = ask_canary(embedder, canary)
            return measure(
                connection,
                gate,
                self.space(source, new),
                self.space(source, old) if old else None,
                canary=similarity,
                canary_error=error,
                followed=not ledger.differs(source),
            )

    def wait(self, reason: str, seconds: float | None = None) -> None:
        """Tell why work stands still."""
        self.listener(Waiting(reason.removesuffix("."), seconds))

    def locked(self, change: Callable[[Connection], Any]) -> Any:
        """Run ``change`` in one short transaction, and again while a lock that it needs is taken."""
        return with_lock_retries(
            self.database,
            change,
            wait=self.lock_wait,
            on_wait=lambda blocker: self.wait(f"a lock is taken by {blocker}"),
        )

    def follow(self, source: Source) -> None:
        """Let the ledger, the triggers and the live view follow collections.yaml; make anew what somebody dropped.

        Raises:
            DatabaseError: what the vectors rest on was changed: source, key, storage or metric.
        """
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            changed = ledger.differs(source)
            route = ledger.route(source.collection.name)
            known = route.version or route.candidate
            if not known or not (changed or disagreements(connection, ledger, source)):
                return

        def change(connection: Connection) -> None:
            ledger = self.ledger(connection)
            ledger.record_collection(source)
            if source.tracked:
                install_tracking(connection, source, self.database.schema)
            route = ledger.route(source.collection.name)
            if route.live is not None:
                publish(connection, source, self.space(source, route.live))
            ledger.record_event("follow", collection=source.collection.name)

        self.locked(change)

    def space(self, source: Source, tag: str) -> Space:
        """Give the space of one tag."""
        return Space(source, self.database.schema, tag)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a revision script declares, apart from its functions."""

    revision: str
    collection: str | None
    old_tag: str | None
    new_tag: str | None
    checksum: str


def disagreements(connection: Connection, ledger: Ledger, source: Source) -> list[str]:
    """Name what the database lacks of what the ledger takes to be there, beside vectors and index."""
    found = []
    live = ledger.route(source.collection.name).live
    if live is not None and not reads_tag(connection, source, live):
        found.append(f"the live view does not read the live tag {live}")
    if live is not None and not has_search(connection, source):
        found.append("the search function is gone")
    if source.tracked and not tracking_works(connection, source):
        found.append("triggers on the source are gone or disabled")
    return found
