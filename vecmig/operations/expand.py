"""Make room for a new tag: vectors table, partition, change tracking, and the recipe written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from vecmig.chunking import chunker
from vecmig.errors import ConfigError, DatabaseError, ScriptError
from vecmig.events import Warned
from vecmig.freshness.change_tracking import install_tracking, tracking_works, try_tracking
from vecmig.freshness.other_ledgers import refuse_other_ledger
from vecmig.homes import create_vectors_table, open_home
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.recipe_check import check_recipes
from vecmig.model.recipe import Recipe
from vecmig.operations.adopt import Adopt
from vecmig.operations.following import follow
from vecmig.operations.leaving import Leaving
from vecmig.operations.operation import Operation
from vecmig.postgres.sessions import Connection
from vecmig.published.detaching import is_detached
from vecmig.published.live_view import refuse_foreign
from vecmig.source.checks import check_keys, check_privileges, without_key
from vecmig.source.source import Source
from vecmig.text import counted


@dataclass(frozen=True)
class Expand(Operation):
    """Create what the new tag needs, and make it the candidate."""

    #: How ``undo`` leaves the revision.
    leaving: Leaving = field(default=Leaving())
    #: What takes over the source's own vectors once this is done: the triggers tell of their changes from the first on.
    adopt: Adopt | None = None

    def done(self) -> bool:
        """Return whether the tag is live already, or all of it is there."""
        return self.is_live() or self._is_expanded(self.source())

    def run(self) -> None:
        """Create what is missing, in one short transaction; a run that is resumed takes no lock for nothing."""
        recipe = self._usable_recipe()
        if self.is_live():
            return
        with self.reported("expand", self.new_tag) as summarise:
            source = self._checked_source()
            follow(self.context, source)
            self._check_route(recipe)
            self._require_base(recipe)
            if not self._is_expanded(source):
                self._refuse_unusable_chunks(recipe)
                self.context.locked(lambda connection: self._expand(connection, source, recipe, attempt=True))
            self._verify(source)
            tracking = "triggers" if source.tracked else f"scan ({source.scanned})"
            summarise(f"partition created, {recipe.dims} dimensions; change tracking: {tracking}")

    def undo(self) -> None:
        """Abandon the revision: its tag is the candidate no more, and its vectors are kept unless discarded.

        Raises:
            ScriptError: they are to be discarded, and the tag was live once.
        """
        with self.reported("abandon", self.new_tag) as summarise:
            source = self._present_source()
            if source is not None and self.revision.old_tag is None:
                self.give_back(source)

            def change(connection: Connection) -> None:
                ledger = self.context.ledger(connection)
                if ledger.routes.of(self.collection).candidate == self.new_tag:
                    ledger.routes.set_candidate(self.collection, None)
                if source is not None:
                    if self.leaving.discard:
                        self._drop_never_live(ledger, source)
                    self.let_go(connection, ledger, source)
                self.leaving.enter(ledger, self.revision.revision, self.collection)
                self.record(ledger, "abandon", {"discarded": self.leaving.discard} | self.leaving.figures)

            self.context.locked(change)
            gone = "its vectors are gone"
            if source is not None and self.stamps(source).home == "column":
                gone = "its stamps are gone, and its vectors are in their column as before"
            summarise(gone if self.leaving.discard else "its vectors are kept")

    def sql(self) -> list[str]:
        """Return the statements; the revisions before this one are taken to have run."""
        recipe = self._usable_recipe()
        if self.is_live():
            return []
        source = self._checked_source()
        if self._is_expanded(source):
            return []
        self._refuse_unusable_chunks(recipe)
        return self.context.recorded(lambda connection: self._expand(connection, source, recipe, attempt=False))

    def _present_source(self) -> Source | None:
        """Return the recorded source; to abandon a revision without discarding must not depend on its being there."""
        try:
            return self.recorded_source()
        except (ConfigError, DatabaseError):
            if self.leaving.discard:
                raise
            return None

    def _usable_recipe(self) -> Recipe:
        recipe = self.context.collections.recipe(self.new_tag)
        collection = self.context.collections.collection(self.collection)
        problem = collection.index_problem(self.new_tag, recipe.dims)
        if problem is not None:
            raise ConfigError(f"{self.new_tag} cannot be indexed: {problem}", state="Nothing was changed.")
        return recipe

    @staticmethod
    def _refuse_unusable_chunks(recipe: Recipe) -> None:
        # a tag keeps its recipe, so one that cannot be carried out must not be recorded
        chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)

    def _checked_source(self) -> Source:
        """Look at the source, and refuse one on which nothing can be built."""
        source = self.source()
        with self.context.database.session() as connection:
            refuse_foreign(connection, source)
            refuse_other_ledger(connection, source, self.context.database.schema)
            check_privileges(connection, source)
            check_keys(connection, source)
            rows = without_key(connection, source)
        if rows:
            what = f"{counted(rows, 'record')} of {source.schema}.{source.table}"
            self.context.listener(Warned(f"{what} without a key, which has NULL in it: left out"))
        return source

    def _require_base(self, recipe: Recipe) -> None:
        """Refuse to derive from a tag that has no vectors of this collection."""
        if recipe.derive is None or self.is_live():
            return
        with self.context.database.session() as connection:
            base = self.context.ledger(connection).tags.of(self.collection).get(recipe.derive)
        if base is None or base.state == "retired":
            why = "was retired" if base else "was never a tag of it"
            raise ConfigError(
                f"{self.new_tag} derives from {recipe.derive}, which has no vectors of {self.collection}: it {why}.",
                state="Nothing was changed.",
                hint="Move the collection to that tag first, or embed this one by itself: give it another version "
                "after the @, and a recipe of its own.",
            )

    def _check_route(self, recipe: Recipe) -> None:
        with self.context.database.session() as connection:
            ledger = self.context.ledger(connection)
            route = ledger.routes.of(self.collection)
            check_recipes(ledger.tags.all(), {self.new_tag: recipe})
        revision = self.revision.revision
        if route.live != self.revision.old_tag:
            raise ScriptError(
                f"Revision {revision} starts from {self.revision.old_tag or 'no tag'}, but {self.collection} reads "
                f"{route.live or 'no tag'}.",
                state="Nothing was changed.",
                hint=f"Correct old_tag (vecmig edit {revision}), or run the revisions between first.",
            )
        if route.candidate not in (None, self.new_tag):
            raise ScriptError(
                f"{self.collection} is already on its way to {route.candidate}.",
                state="Nothing was changed.",
                hint="Finish that revision with vecmig upgrade, or abandon it with vecmig downgrade -1.",
            )

    def _is_expanded(self, source: Source) -> bool:
        with self.context.database.session() as connection:
            ledger = self.context.ledger(connection)
            row = ledger.revisions.all().get(self.revision.revision)
            return (
                row is not None
                and row.in_progress
                and row.new_tag == self.new_tag
                and ledger.routes.of(self.collection).candidate == self.new_tag
                and open_home(ledger, source, self.new_tag).exists()
                and (not source.tracked or tracking_works(connection, source))
            )

    def _expand(self, connection: Connection, source: Source, recipe: Recipe, *, attempt: bool) -> None:
        """Create all of it; with ``attempt`` the triggers are tried, which cannot be where they are written down."""
        ledger, schema = self.context.ledger(connection), self.context.database.schema
        ledger.record_collection(source)
        create_vectors_table(connection, source, schema)
        ledger.tags.record(self.collection, self.new_tag, recipe, source.collection.index_of(self.new_tag))
        if self.adopt is not None:
            source = self.adopt.declared(connection, source)
        open_home(ledger, source, self.new_tag).create()
        if source.tracked and not is_detached(connection, schema, self.collection):
            install_tracking(connection, source, schema)
            if attempt:
                try_tracking(connection, self.stamps(source))
        ledger.routes.set_candidate(self.collection, self.new_tag)
        declared = self.revision
        ledger.revisions.start(
            declared.revision, declared.collection, declared.old_tag, declared.new_tag, declared.checksum
        )
        self.record(ledger, "expand", {"dims": recipe.dims, "fingerprint": recipe.fingerprint})

    def _verify(self, source: Source) -> None:
        with self.context.database.session(fresh=True) as connection:
            ledger = self.context.ledger(connection)
            row = ledger.tags.get(self.collection, self.new_tag)
            open_home(ledger, source, self.new_tag, kind=row.home).require()
            if source.tracked and not tracking_works(connection, source):
                raise DatabaseError(f"The triggers on {source.schema}.{source.table} are not there after expand.")

    def _drop_never_live(self, ledger: Ledger, source: Source) -> None:
        if self.new_tag not in ledger.tags.of(self.collection):
            return
        # its tag may have been live under another revision
        if ledger.tags.was_live(self.collection, self.new_tag):
            raise ScriptError(
                f"--discard is for a revision whose tag was never live; {self.new_tag} was.",
                state="Nothing was changed.",
                hint="Run it without --discard: the vectors are kept.",
            )
        open_home(ledger, source, self.new_tag).drop()
        ledger.tags.forget(self.collection, self.new_tag)
