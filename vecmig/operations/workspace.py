"""What every migration works with: the database, the collections, the embedders, and who is at work."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

from vecmig.backfill import CostAccount, Needs, RayOptions, RunBudget, RunOptions, asking, open_backfill_embedder
from vecmig.config import Collections, Engine, Suite
from vecmig.config import load_collections as read_collections
from vecmig.embedders import Embedder
from vecmig.errors import ConfigError, DatabaseError, UsageError
from vecmig.events import Listener, Waiting, Warned, ignore
from vecmig.freshness.change_tracking import install_tracking, tracking_works
from vecmig.freshness.coverage import count_vectors, has_vectors
from vecmig.freshness.full_pass import note_full_pass
from vecmig.freshness.stamps import Space
from vecmig.gate import (
    CANARY_SIMILARITY,
    Found,
    Report,
    Spot,
    ask_canary,
    look,
    measure,
    new_canary,
    require_same_model,
)
from vecmig.homes.index import index_state
from vecmig.homes.index_build import Build, Limits, build_index
from vecmig.homes.table import create_partition, is_attached
from vecmig.homes.widening import rewritten_bytes, widen_key
from vecmig.ledger.access import mirror_access, mirror_grants, remember_grants
from vecmig.ledger.control import What
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Actor, Ledger, TagRow, check_recipe
from vecmig.ledger.recorded import Recorded
from vecmig.ledger.trusted_recipes import refuse_unvouched
from vecmig.model.collection import Collection
from vecmig.model.gate import Gate
from vecmig.model.recipe import Recipe
from vecmig.operations.evidence import Witness
from vecmig.operations.missing import detached, disagreements, lacks_reads
from vecmig.postgres.locks import with_lock_retries
from vecmig.postgres.reconnecting import reconnecting
from vecmig.postgres.sessions import Connection, Database
from vecmig.postgres.throttle import Throttle
from vecmig.published.detaching import all_detached, forget, give_back, is_detached
from vecmig.published.live_view import columns_to_show, made_again, publish
from vecmig.source.key_types import rewrites
from vecmig.source.source import Source
from vecmig.text import shown


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a migration works with: the database, the collections, and who is at work."""

    database: Database
    #: Gives collections.yaml; called only where it is needed, because the way back must not depend on it.
    load_collections: Callable[[], Collections]
    actor: Actor
    #: Gives a suite of ``evals/`` by its name.
    load_suite: Callable[[str], Suite]
    listener: Listener = ignore
    #: Seconds that a short lock is tried for.
    lock_wait: float = 30.0
    #: Most maintenance_work_mem for an index build, in MB.
    memory_mb: int = 2048
    #: Its parallel workers; None for the server's max_parallel_maintenance_workers.
    index_workers: int | None = None
    #: Seconds that a database which has gone away is tried for.
    reconnect_wait: float = 300.0
    #: Seconds for which whoever fills a tag waits for a provider that answers no request.
    provider_wait: float = math.inf
    #: What makes a backfill stand still for the database's sake, see ``vecmig.postgres.throttle``.
    throttle_query: str | None = None
    max_replica_lag: float | None = None
    #: Most that embedding may cost, in US dollars, as the command line has it: in place of the recipe's budget.
    max_cost: float | None = None
    #: What this run may cost in all, in place of ``max_cost`` for a revision.
    run_budget: RunBudget | None = None
    #: Makes sure that this runner still holds its locks; raises LockHeld where another one took over.
    still_alone: Callable[[], None] = lambda: None
    #: Who fills a tag in a backfill: this process, or a fleet of so many workers (None: as many as there is room for).
    engine: Engine = "local"
    workers: int | None = None
    #: The ``-x key=value`` of the command line.
    x: Mapping[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def collections(self) -> Collections:
        """What collections.yaml says."""
        return self.load_collections()

    def ledger(self, connection: Connection) -> Ledger:
        """Open the ledger on a connection."""
        return Ledger(connection, self.database.schema, self.actor, vectors_schema=self.database.vectors_schema)

    def recipe(self, ledger: Ledger, collection: str, tag: str) -> Recipe:
        """Give a recorded tag's recipe: as collections.yaml has it, or as recorded when it is no longer there.

        What decides the vectors must agree; how the provider is reached and paid may have changed since.

        Raises:
            RecipeError: they disagree, or the database alone has the recipe and it is not believed.
        """
        recorded = ledger.tag(collection, tag)
        configured = self._configured(tag)
        if configured is None:
            return self.believed(recorded)
        check_recipe(ledger, tag, configured)
        return configured

    def believed(self, recorded: TagRow) -> Recipe:
        """Give a recorded recipe that collections.yaml lacks.

        Raises:
            RecipeError: by it, whoever may write to ``vecmig.tag`` could do harm here.
        """
        path = shown(self.collections.path)
        hint = f"If it is yours, write the recipe of {recorded.tag} into {path}, as vecmig audit shows it."
        refuse_unvouched(recorded.tag, recorded.recipe, os.environ, records=True, hint=hint)
        return recorded.recipe

    def _configured(self, tag: str) -> Recipe | None:
        """Give a tag's recipe of collections.yaml; the file may be younger than a service that has read it."""
        known = self.collections
        return known.recipes.get(tag) or read_collections(known.path).recipes.get(tag)

    def maintain(self, embedder: Embedder, space: Space) -> Callable[[], None]:
        """Prepare to add vectors to a tag: the recipe's service is written down for the readers.

        Returns:
            What must be called before the first of them: it keeps the canary, or raises TerminalEmbedderError where the
            embedder is not the one that made the tag's vectors.
        """
        name = space.source.collection.name
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            ledger.refresh_recipe(name, space.tag, embedder.recipe)
            lost = ledger.tag(name, space.tag).canary is None and has_vectors(connection, space)
        keep = partial(self._keep_canary, embedder, name, space.tag)
        if lost:
            keep()
        return keep

    def _keep_canary(self, embedder: Embedder, collection: str, tag: str) -> None:
        """Keep a new tag's canary, or compare it; no session is open while the embedder is asked, or waited for."""
        canary = self._canary(collection, tag)
        if canary is not None:
            require_same_model(embedder, tag, canary)
            return
        made = new_canary(embedder)

        def keep() -> None:
            with self.database.session() as connection:
                self.ledger(connection).set_canary(collection, tag, made)

        reconnecting(keep, wait=self.reconnect_wait, on_wait=self.wait)

    def _canary(self, collection: str, tag: str) -> Mapping[str, Any] | None:
        def read() -> Mapping[str, Any] | None:
            with self.database.session() as connection:
                return self.ledger(connection).tag(collection, tag).canary

        return reconnecting(read, wait=self.reconnect_wait, on_wait=self.wait)

    @contextmanager
    def embedder(self, collection: str, tag: str) -> Iterator[Embedder]:
        """Open the embedder of a recorded tag to ask it something; it gives up on a provider that stays away.

        What it costs counts as the backfill of the tag's revision until that is live, and as its sync from then on.
        """
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            recipe = self.recipe(ledger, collection, tag)
            revision = ledger.revision_of(collection, tag)
            row = ledger.revisions().get(revision)
        what: What = "backfill" if row is not None and row.in_progress else "sync"
        account, terms = self._account(recipe, what, revision), self.terms(what)
        with asking(
            self.database, collection, tag, recipe, account=account, options=terms, listener=self.listener
        ) as embedder:
            yield embedder

    @contextmanager
    def worker(self, collection: str, tag: str, *, what: What, revision: str) -> Iterator[Embedder]:
        """Give the embedder of a recorded tag to fill it: within the recipe's limits and budget, with patience.

        Args:
            collection: the collection.
            tag: one of its tags.
            what: what is being done.
            revision: whose cost it is.
        """
        recipe = self._recorded(collection, tag)
        with open_backfill_embedder(
            self.database,
            tag,
            recipe,
            account=self._account(recipe, what, revision),
            reconnect_wait=self.reconnect_wait,
            provider_wait=self.provider_wait,
            on_wait=self.wait,
        ) as embedder:
            yield embedder

    def fleet(self, collection: str, tag: str, *, revision: str) -> RayOptions:
        """Give who fills a tag in place of this process."""
        recipe = self._recorded(collection, tag)
        service = recipe.service

        def check() -> Callable[[Embedder], None]:
            canary = self._canary(collection, tag)
            assert canary is not None, "what maintain() gives has made sure of it"
            return partial(require_same_model, tag=tag, canary=canary)

        return RayOptions(
            address=service.ray_address,
            needs=Needs(service.num_cpus, service.num_gpus),
            workers=self.workers,
            account=self._account(recipe, "backfill", revision),
            check=check,
        )

    def _recorded(self, collection: str, tag: str) -> Recipe:
        with self.database.session() as connection:
            return self.recipe(self.ledger(connection), collection, tag)

    def _costs(self, recipe: Recipe) -> bool:
        if self.max_cost is not None and not recipe.service.price_per_million_tokens:
            raise UsageError(
                f"--max-cost needs a price, and the recipe of {recipe.model} has none.",
                hint="Add price_per_million_tokens to it in collections.yaml, or leave --max-cost out.",
            )
        return recipe.service.price_per_million_tokens > 0

    def _account(self, recipe: Recipe, what: What, revision: str) -> CostAccount | None:
        """Count against the budget: of the whole revision in a backfill, of the run in a sync, which never ends."""
        if not self._costs(recipe):
            return None
        budget = self.max_cost if self.run_budget is None else None
        if what == "backfill" and budget is None:
            budget = recipe.service.budget_usd
        return CostAccount(revision, what, budget, self.run_budget)

    def terms(self, what: What) -> RunOptions:
        """Give what a run has to heed."""
        throttled = self.throttle_query is not None or self.max_replica_lag is not None
        throttle = Throttle(query=self.throttle_query, max_replica_lag=self.max_replica_lag) if throttled else None
        return RunOptions(
            what,
            self.reconnect_wait,
            self.provider_wait,
            supervised=True,
            throttle=throttle,
            still_alone=self.still_alone,
        )

    def judge(self, gate: Gate, source: Source, new: str, old: str | None, *, ask: bool = True) -> Report:
        """Judge the gate between two tags of a collection, anew if its session is lost; nothing is written.

        Args:
            gate: the thresholds.
            source: the collection.
            new: the tag that reads are to use.
            old: the tag that they use now.
            ask: whether to ask the embedder, for the canary and a close look; otherwise these checks are left open.
        """
        work = partial(self._judge, gate, source, new, old, ask=ask)
        return reconnecting(work, wait=self.reconnect_wait, on_wait=self.wait)

    def _judge(self, gate: Gate, source: Source, new: str, old: str | None, *, ask: bool) -> Report:
        name, space = source.collection.name, self.space(source, new)
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            canary = ledger.tag(name, new).canary
            similarity: float | None = None
            spot: Spot | None = None
            empty = is_attached(connection, space) and not has_vectors(connection, space)
            error = "" if canary or empty else "no canary was kept yet: vecmig sync"
            if ask and canary and not empty:
                with self.embedder(name, new) as embedder:
                    similarity, error = ask_canary(embedder, canary)
                    if similarity is not None and similarity >= CANARY_SIMILARITY and is_attached(connection, space):
                        spot = look(connection, space, embedder)
            return self.measure(
                connection,
                gate,
                space,
                self.space(source, old) if old else None,
                canary=similarity,
                canary_error=error,
                spot=spot,
                empty=empty,
                followed=not ledger.edited(source),
            )

    def measure(
        self, connection: Connection, gate: Gate, space: Space, old: Space | None, **found: Unpack[Found]
    ) -> Report:
        """Judge the gate by the vectors, by what evals and shadow reads have shown, and by what is found elsewhere."""
        if old is None:
            return measure(connection, gate, space, old, **found)
        witness = Witness(connection, gate, space, old, self.load_suite)
        shadow = witness.shadow() if gate.shadow is not None else None
        return measure(connection, gate, space, old, trials=witness.trials(), shadow=shadow, **found)

    def build_index(self, space: Space) -> Build | None:
        """Build a tag's index within what is allowed, anew if its session is lost; None where a valid one is there."""
        limits = Limits(self.memory_mb, self.index_workers)

        def build() -> Build | None:
            with self.database.session() as connection:
                vectors, _ = count_vectors(connection, space)
            return build_index(self.database, space, rows=vectors, limits=limits, listener=self.listener)

        return reconnecting(build, wait=self.reconnect_wait, on_wait=self.wait)

    def wait(self, reason: str, seconds: float | None = None) -> None:
        """Tell why work stands still."""
        self.listener(Waiting(reason.removesuffix("."), seconds))

    def locked(self, change: Callable[[Connection], Any]) -> Any:
        """Run ``change`` in one short transaction, and again while a lock that it needs is taken.

        Raises:
            LockHeld: another runner took over while the connection was lost.
        """
        self.still_alone()
        return with_lock_retries(
            self.database,
            change,
            wait=self.lock_wait,
            on_wait=lambda blocker: self.wait(f"a lock is taken by {blocker}"),
        )

    def follow(self, source: Source, *, edits: bool = True) -> list[str]:
        """Let the ledger, the triggers and the live view follow collections.yaml; make anew what somebody dropped.

        Args:
            source: the collection.
            edits: whether to follow another text, where or change_tracking; otherwise nothing is done there.

        Returns:
            What was missing, in the words of ``disagreements``.

        Raises:
            DatabaseError: what the vectors rest on was changed: source, key, storage or metric.
        """
        self.tell(source.notes)
        with self.database.session() as connection:
            ledger = self.ledger(connection)
            changed = ledger.differs(source)
            route = ledger.route(source.collection.name)
            known = route.version or route.candidate
            aside = all_detached(connection, self.database.schema).get(source.collection.name)
            if aside is not None:
                self.listener(Warned(f"{source.collection.name}: {aside.text}"))
            missing = disagreements(connection, ledger, source) if known else []
            if not known or aside or not (changed or missing):
                return []
            recorded = ledger.recorded(source.collection.name)
            indexed = self._about_to_widen(connection, recorded, source) if recorded else []
            shown = columns_to_show(connection, source, ledger.schema)

        def change(connection: Connection) -> None:
            ledger = self.ledger(connection)
            recorded = ledger.recorded(source.collection.name)
            if recorded is not None and recorded.edited(source) and not edits:
                return
            self._bring_up_to_date(connection, ledger, source, shown)
            ledger.announce(source.collection.name)
            ledger.record_event("follow", collection=source.collection.name)

        self.locked(change)
        for tag in indexed:
            self.build_index(self.space(source, tag))
        return missing

    def _bring_up_to_date(
        self, connection: Connection, ledger: Ledger, source: Source, shown: Sequence[str] | None = None
    ) -> None:
        recorded = ledger.recorded(source.collection.name)
        columns = recorded is not None and recorded.edited(source)
        ledger.record_collection(source)
        if recorded is not None and recorded.widened(source):
            with made_again(connection, source, ledger.schema):
                widen_key(connection, source, recorded.key_types)
                self.install(connection, ledger, source, columns=columns)
            mirror_access(connection, source, ledger.schema)
        else:
            self.install(connection, ledger, source, columns=columns, shown=shown)

    def columns_to_show(self, source: Source) -> tuple[str, ...] | None:
        """Return the columns of a live view that is not there yet; None where one is."""
        with self.database.session() as connection:
            return columns_to_show(connection, source, self.database.schema)

    def install(
        self,
        connection: Connection,
        ledger: Ledger,
        source: Source,
        *,
        columns: bool = False,
        shown: Sequence[str] | None = None,
    ) -> None:
        """Bring the triggers and what applications read up to date."""
        if source.tracked:
            if not tracking_works(connection, source):
                reason = "triggers were gone or disabled for a while"
                note_full_pass(connection, ledger.schema, source.collection.name, reason)
            install_tracking(connection, source, self.database.schema)
        for space in detached(connection, ledger, source):
            create_partition(connection, space)
        # a sync may stand beside a cutover: the view must not go back to the tag that was live a moment ago
        route = ledger.held_route(source.collection.name)
        if route.live is not None:
            space = self.space(source, route.live)
            publish(connection, source, space, ledger=ledger.schema, columns=columns, shown=shown)

    def inspect(self, collection: Collection) -> Source:
        """Look at a source. Where text or where works no more, searches get back first what they need neither for.

        Raises:
            ConfigError: one of them does not work, such as one that names a column which was dropped.
        """
        with self.database.session() as connection:
            try:
                return find_source(self.ledger(connection), collection)
            except ConfigError:
                with suppress(ConfigError, DatabaseError):
                    self._publish_again(self.ledger(connection), collection)
                raise

    def _publish_again(self, ledger: Ledger, collection: Collection) -> None:
        source = find_source(ledger, collection, expressions=False)
        recorded = ledger.recorded(collection.name)
        aside = is_detached(ledger.connection, ledger.schema, collection.name)
        if recorded is None or recorded.edited(source) or aside:
            return

        def change(connection: Connection) -> None:
            ledger = self.ledger(connection)
            live = ledger.held_route(collection.name).live
            if live is not None and lacks_reads(connection, ledger, source):
                publish(connection, source, self.space(source, live), ledger=ledger.schema)
                ledger.record_event("follow", collection=collection.name)

        self.locked(change)

    def _about_to_widen(self, connection: Connection, recorded: Recorded, source: Source) -> list[str]:
        """Say what a key that became wider takes; give the tags whose indexes are to be built again after it."""
        types = ", ".join(column.type for column in source.key)
        if not recorded.widened(source) or not rewrites(recorded.key_types, source.key):
            return []
        size = rewritten_bytes(connection, source) / 2**20
        what = f"The key of {source.collection.name} is {types} now: {size:,.0f} MB of vectors are rewritten, and "
        self.tell([f"{what}meanwhile neither read nor written; then their indexes are built again"])
        spaces = [self.space(source, tag) for tag in self.ledger(connection).tags(source.collection.name)]
        return [space.tag for space in spaces if index_state(connection, space).usable]

    def tell(self, notes: Iterable[str]) -> None:
        """Warn of something, once in a run."""
        for note in notes:
            if note not in self._told:
                self._told.add(note)
                self.listener(Warned(note))

    def attach(self, source: Source) -> bool:
        """Put back a live view that stepped aside, by collections.yaml; return whether there was one."""
        name, schema = source.collection.name, self.database.schema

        def change(connection: Connection) -> bool:
            ledger = self.ledger(connection)
            route = ledger.held_route(name)
            aside = forget(connection, schema, name)
            if aside is None:
                return False
            self._bring_up_to_date(connection, ledger, source)
            if route.live is None and aside.had_view:
                publish(connection, source, None, ledger=schema)
            if route.live is not None or aside.had_view:
                give_back(connection, schema, aside.belongings)
                mirror_grants(connection, source, source.live, schema)
                remember_grants(connection, source, schema)
            # no trigger fires where a column's type is altered
            note_full_pass(connection, schema, name, "columns may have been altered while the view was detached")
            ledger.announce(name)
            ledger.record_event("view_attach", collection=name)
            return True

        return bool(self.locked(change))

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
    gate: Gate = field(default=Gate())
