"""The ledger: which revisions ran, which tags exist, which tag a collection's reads use, and who did what when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from vecmig.errors import DatabaseError, NotRecorded, RecipeError
from vecmig.ledger.recorded import Recorded
from vecmig.ledger.schema import installed_version
from vecmig.model.collection import Collection
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

PHASES: Final = ("expanded", "backfilled", "indexed", "live", "retired")
_APPLIED: Final = ("live", "retired")


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One revision that was ever started here."""

    id: str
    collection: str | None
    old_tag: str | None
    new_tag: str | None
    phase: str
    checksum: str
    withdrawn_at: datetime | None
    started_at: datetime
    live_at: datetime | None

    @property
    def applied(self) -> bool:
        """Whether its cutover happened and was not rolled back."""
        return self.phase in _APPLIED

    @property
    def in_progress(self) -> bool:
        """Whether it was started, is not live yet, and was not rolled back."""
        return not self.applied and self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag of one collection, with the recipe it was recorded with."""

    collection: str
    tag: str
    dims: int
    recipe: Recipe
    fingerprint: str
    #: Where its vectors live: the kind of its home.
    home: str
    state: str
    #: {"texts": [...], "vectors": [[...], ...]}, or None before the first embedding.
    canary: Mapping[str, Any] | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> TagRow:
        """Read a row of ``tags``."""
        collection, tag, dims, recipe, *rest = row
        return cls(collection, tag, dims, Recipe.from_mapping(Tag.parse(tag), recipe), *rest)


@dataclass(frozen=True, slots=True)
class Route:
    """Which tags a collection's reads and its upkeep use."""

    collection: str
    live: str | None = None
    standby: str | None = None
    candidate: str | None = None
    version: int = 0
    #: The tag that a share of the searches also asks in the background; and whether those questions are kept in words.
    shadow_tag: str | None = None
    shadow_share: float = 0.0
    keep_queries: bool = False
    #: The share of the searches that the candidate serves.
    ramp_share: float = 0.0

    @property
    def maintained(self) -> tuple[str, ...]:
        """The tags that must stay complete: live, standby, candidate; a revision may lead back to the standby."""
        return tuple(dict.fromkeys(tag for tag in (self.live, self.standby, self.candidate) if tag is not None))

    @property
    def shadow(self) -> str | None:
        """The tag to ask too, as long as it is kept complete and is not the one that answers anyway."""
        return self.shadow_tag if self.shadow_tag in (self.standby, self.candidate) else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that cannot be embedded as it is, under one tag."""

    collection: str
    tag: str
    #: The values of the key columns, as JSON has them.
    key: list[Any]
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes to the ledger: host, program version, and the commit of the scripts where git knows it."""

    host: str
    version: str
    git_commit: str | None = None


class Ledger:
    """Reads and writes vecmig's tables on one connection. Where they are not installed, there is nothing to read."""

    def __init__(
        self, connection: Connection, schema: str, actor: Actor | None = None, *, vectors_schema: str | None = None
    ) -> None:
        """Open it.

        Args:
            connection: the connection.
            schema: of vecmig's own tables.
            actor: who writes.
            vectors_schema: where the vectors of a new collection go; None for vecmig's own schema.
        """
        self.connection = connection
        self.vectors_schema = vectors_schema or schema
        self.schema = schema
        self._actor = actor
        self._name = sql.Identifier(schema)
        self._installed: bool | None = None

    @property
    def channel(self) -> str:
        """The NOTIFY channel on which a change of route is announced."""
        return f"{self.schema}_route"

    @property
    def installed(self) -> bool:
        """Whether vecmig's tables are in this database."""
        if not self._installed:
            self._installed = installed_version(self.connection, self.schema) > 0
        return self._installed

    # Reading -----------------------------------------------------------------------------------------------------

    def revisions(self) -> dict[str, RevisionRow]:
        """All revisions ever started, by id."""
        return {row[0]: RevisionRow(*row) for row in self._read("revisions")}

    def revision_of(self, collection: str, tag: str) -> str:
        """The revision that led to a tag last; empty where none did."""
        rows = [row for row in self.revisions().values() if (row.collection, row.new_tag) == (collection, tag)]
        return max(rows, key=lambda row: row.started_at).id if rows else ""

    def rejected(self, collection: str | None = None) -> list[Rejected]:
        """The records that cannot be embedded as they are, of one collection or of all."""
        return [Rejected(*row) for row in self._read("rejected", collection=collection)]

    def routes(self) -> dict[str, Route]:
        """The route of each collection that has one."""
        return {row[0]: Route(*row) for row in self._read("routes")}

    def route(self, collection: str) -> Route:
        """The route of one collection; an empty one where nothing was ever expanded."""
        return self.routes().get(collection) or Route(collection)

    def held_route(self, collection: str) -> Route:
        """The route of one collection, which no session moves until the transaction ends."""
        rows = self._read("held_route", collection=collection)
        return Route(*rows[0]) if rows else Route(collection)

    def stamp(self, collection: str) -> str:
        """A digest of all that a reader builds on: route, collection, tags; empty for an unknown collection."""
        rows = self._read("stamp", collection=collection)
        return str(rows[0][0]) if rows else ""

    def collection(self, name: str) -> Collection:
        """One collection as it was recorded last.

        Raises:
            NotRecorded: the database does not know it.
        """
        known = self._collections()
        if name not in known:
            raise NotRecorded(
                f"This database has no collection {name}.",
                hint=f"Its collections are: {', '.join(sorted(known)) or 'none yet; run: vecmig upgrade head'}",
            )
        return known[name].collection

    def recorded(self, name: str) -> Recorded | None:
        """What is known of the source of one collection; None where it was never recorded."""
        return self._collections().get(name)

    def _collections(self) -> dict[str, Recorded]:
        rows = self._read("collections")
        return {row[0]: Recorded.from_row(row, self.schema) for row in rows}

    def tags(self, collection: str) -> dict[str, TagRow]:
        """The recorded tags of one collection, oldest first."""
        return {row[1]: TagRow.from_row(row) for row in self._read("tags") if row[0] == collection}

    def tag(self, collection: str, tag: str) -> TagRow:
        """One recorded tag.

        Raises:
            NotRecorded: the database does not know it.
        """
        known = self.tags(collection)
        if tag not in known:
            raise NotRecorded(
                f"Collection {collection} has no tag {tag}.",
                hint=f"Its tags are: {', '.join(known) or 'none yet; run: vecmig upgrade head'}",
            )
        return known[tag]

    def home_of(self, collection: str, tag: str) -> str:
        """Return the kind of a tag's home; that of a tag which is not recorded yet is a partition."""
        row = self._execute("home_of", collection=collection, tag=tag).fetchone() if self.installed else None
        return row[0] if row else "partition"

    def was_live(self, collection: str, tag: str) -> bool:
        """Whether reads ever used a tag, by the route, the revisions and the history."""
        row = self._execute("was_live", collection=collection, tag=tag).fetchone()
        return bool(row and row[0])

    # Writing -----------------------------------------------------------------------------------------------------

    def start_revision(self, revision: str, collection: str | None, old: str | None, new: str | None, sha: str) -> None:
        """Enter a revision as expanded, or take up again one that was withdrawn."""
        self._write("start_revision", id=revision, collection=collection, old_tag=old, new_tag=new, checksum=sha)

    def set_phase(self, revision: str, phase: str) -> None:
        """Move a revision to a phase from an earlier one, from the same one, or from none other."""
        before = list(PHASES[: PHASES.index(phase) + 1])
        self._write_one("set_phase", id=revision, phase=phase, before=before)

    def go_live(self, revision: str, sha: str) -> None:
        """Enter the cutover of a revision, with the checksum of the script as it is now.

        Until then its gate may be corrected; from then on a change would make databases differ.
        """
        self._write_one("go_live", id=revision, checksum=sha)

    def step_back(self, revision: str) -> None:
        """Enter that a live revision's reads went back; until it is withdrawn it is in progress."""
        self._write_one("step_back", id=revision)

    def withdraw_revision(self, revision: str) -> None:
        """Take a revision back; what it made stays, so that it can go forward again."""
        self._write_one("withdraw_revision", id=revision)

    def forget_statements(self, revision: str) -> None:
        """Let a script's statements run again the next time it goes forward or back."""
        self._write("forget_statements", revision=revision)

    def forget_statement(self, revision: str, step: str, ordinal: int) -> None:
        """Let the statement at one place of a script run again."""
        self._write("forget_statement", revision=revision, step=step, ordinal=ordinal)

    def stamp_revision(self, revision: str, collection: str | None, old: str | None, new: str | None, sha: str) -> None:
        """Enter a revision as live without running it."""
        self._write("stamp_revision", id=revision, collection=collection, old_tag=old, new_tag=new, checksum=sha)

    def unstamp_revision(self, revision: str) -> None:
        """Remove a revision from the ledger."""
        self._write_one("unstamp_revision", id=revision)

    def statement_done(self, revision: str, step: str, ordinal: int) -> str | None:
        """Give the SHA-256 of the statement a script ran at this place, or None if it did not get there."""
        row = self._execute("statement_done", revision=revision, step=step, ordinal=ordinal).fetchone()
        return row[0] if row else None

    def record_statement(self, revision: str, step: str, ordinal: int, sha256: str) -> None:
        """Remember that a script's statement ran; call it in the statement's own transaction."""
        self._write_one("record_statement", revision=revision, step=step, ordinal=ordinal, sha256=sha256)

    def edited(self, source: Source) -> bool:
        """Whether a recorded collection is configured otherwise now, in a way that can be followed.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        recorded = self._unchanged(source)
        return recorded is not None and recorded.edited(source)

    def differs(self, source: Source) -> bool:
        """Whether a recorded collection is configured or called otherwise now, in a way that can be followed.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        recorded = self._unchanged(source)
        return recorded is not None and recorded.differs(source)

    def record_collection(self, source: Source) -> None:
        """Write down a collection as it is configured now, and which relation its source is.

        Raises:
            DatabaseError: it is recorded with another source, key, storage or metric, which its vectors rest on.
        """
        self._unchanged(source)
        self.adopt_source(source)
        self._write("record_route", collection=source.collection.name)

    def adopt_source(self, source: Source) -> None:
        """Write down a collection and its source, whatever was recorded before."""
        collection = source.collection
        self._write_one(
            "record_collection",
            name=collection.name,
            source_schema=source.schema,
            source_table=source.table,
            key_columns=[column.stored for column in source.key],
            key_types=[column.type for column in source.key],
            text=collection.text,
            where=collection.where,
            storage=collection.storage,
            metric=collection.metric,
            change_tracking=collection.change_tracking,
            live_columns=None if collection.live_columns is None else Jsonb(collection.live_columns),
            vectors_schema=self._placed(source.vectors_schema),
        )
        self._write_one(
            "record_identity",
            name=collection.name,
            source=source.relation.as_string(self.connection),
            key_names=[column.name for column in source.key],
            home=source.home,
        )

    def require_form(self, source: Source) -> None:
        """Refuse a collection whose vectors are recorded in another form than it is configured with.

        Raises:
            DatabaseError: they are.
        """
        recorded = self.recorded(source.collection.name)
        if recorded is not None and (changed := recorded.form_changes(source)):
            raise _otherwise(source, changed)

    def record_place(self, source: Source) -> None:
        """Write down where the vectors of a collection lie now."""
        name, place = source.collection.name, self._placed(source.vectors_schema)
        self._write_one("record_place", name=name, vectors_schema=place)

    def _placed(self, schema: str) -> str:
        """Give a schema as it is written down: vecmig's own may be called otherwise one day."""
        return "" if schema == self.schema else schema

    def _unchanged(self, source: Source) -> Recorded | None:
        """Give what is recorded of a collection, if it is as the vectors rest on it."""
        recorded = self.recorded(source.collection.name)
        if recorded is not None and (changed := recorded.changes(source)):
            raise _otherwise(source, changed)
        return recorded

    def record_tag(self, source: Source, tag: str, recipe: Recipe) -> None:
        """Write down a tag with its recipe, which never changes.

        Raises:
            RecipeError: the tag is recorded with another recipe, in this collection or another.
        """
        check_recipe(self, tag, recipe)
        self._write_one(
            "record_tag",
            collection=source.collection.name,
            tag=tag,
            dims=recipe.dims,
            recipe=Jsonb(recipe.to_mapping()),
            fingerprint=recipe.fingerprint,
        )

    def refresh_recipe(self, collection: str, tag: str, recipe: Recipe) -> None:
        """Write down how the provider is reached now; what decides the vectors must be as recorded."""
        values = {"collection": collection, "tag": tag, "fingerprint": recipe.fingerprint}
        self._write("refresh_recipe", recipe=Jsonb(recipe.to_mapping()), **values)

    def last_rate(self, collection: str, tag: str) -> float | None:
        """Give the records per second of a tag's last backfill that wrote any; None if there was none."""
        if not self.installed:
            return None
        row = self._execute("last_rate", collection=collection, tag=tag).fetchone()
        return row[0] if row else None

    def all_tags(self) -> list[TagRow]:
        """The recorded tags of all collections."""
        return [TagRow.from_row(row) for row in self._read("tags")]

    def retry_rejected(self, collection: str | None = None) -> int:
        """Forget which records were rejected, so that the next run tries them again; give how many."""
        return self._write("retry_rejected", collection=collection) if self.installed else 0

    def set_tag_state(self, collection: str, tag: str, state: str) -> None:
        """Set the state of one tag."""
        self._write_one("set_tag_state", collection=collection, tag=tag, state=state)

    def forget_tag(self, collection: str, tag: str) -> None:
        """Remove a tag that never was live and whose vectors were discarded."""
        self.forget_rejected(collection, tag)
        self._write_one("forget_tag", collection=collection, tag=tag)

    def forget_rejected(self, collection: str, tag: str) -> None:
        """Forget which records were rejected under a tag whose vectors go."""
        self._write("forget_rejected", collection=collection, tag=tag)

    def set_canary(self, collection: str, tag: str, canary: Mapping[str, Any]) -> None:
        """Keep a tag's canary vectors, unless it has some already."""
        self._write("set_canary", collection=collection, tag=tag, canary=Jsonb(canary))

    def set_candidate(self, collection: str, candidate: str | None) -> None:
        """Say which tag is on its way to become live."""
        before = self.route(collection)
        self._write_one("set_candidate", collection=collection, candidate=candidate)
        if before.ramp_share or before.shadow_tag:
            self._write("announce_route", channel=self.channel, collection=collection)

    def set_reads(
        self, collection: str, *, shadow_tag: str | None, shadow_share: float, keep_queries: bool, ramp_share: float
    ) -> None:
        """Say which searches another tag is asked too, and which it serves; announce it."""
        shadow = {"shadow_tag": shadow_tag, "shadow_share": shadow_share, "keep_queries": keep_queries}
        self._write_one("set_reads", collection=collection, ramp_share=ramp_share, **shadow)
        self._write("announce_route", channel=self.channel, collection=collection)

    def announce(self, collection: str) -> None:
        """Have readers look again: what they read has changed, though not the tag."""
        self._write("renew_route", collection=collection)
        self._write("announce_route", channel=self.channel, collection=collection)

    def move_route(self, collection: str, *, before: str | None, live: str | None, standby: str | None) -> int:
        """Move a collection's reads from one tag to another and announce it; return the route's new version.

        Raises:
            DatabaseError: the live tag is no longer ``before``: somebody else moved it.
        """
        row = self._execute("move_route", collection=collection, before=before, live=live, standby=standby).fetchone()
        if row is None:
            raise DatabaseError(
                f"The live tag of {collection} is no longer {before}: somebody moved it meanwhile.",
                state="Nothing was changed.",
                hint="Run: vecmig status",
            )
        self._write("set_tag_states", collection=collection, live=live, standby=standby)
        self._write("announce_route", channel=self.channel, collection=collection)
        return int(row[0])

    def record_event(
        self,
        kind: str,
        *,
        revision: str | None = None,
        collection: str | None = None,
        tag: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Append to the history: who did what, with which figures."""
        actor = self._actor or Actor(host="", version="")
        self._write_one(
            "record_event",
            kind=kind,
            revision=revision,
            collection=collection,
            tag=tag,
            host=actor.host,
            git_commit=actor.git_commit,
            version=actor.version,
            data=Jsonb(dict(data or {})),
        )

    # -------------------------------------------------------------------------------------------------------------

    def _read(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._execute(name, **values).fetchall() if self.installed else []

    def _execute(self, name: str, /, **values: Any) -> Any:
        identity = statement("ledger/ledger", "identity")
        return self.connection.execute(statement("ledger/ledger", name, schema=self._name, identity=identity), values)

    def _write(self, name: str, /, **values: Any) -> int:
        return int(self._execute(name, **values).rowcount)

    def _write_one(self, name: str, /, **values: Any) -> None:
        """Write exactly one row, or say that the ledger is not as expected."""
        count = self._write(name, **values)
        if count != 1:
            raise DatabaseError(
                f"The ledger is not as expected: {name} matched {count} rows instead of one.",
                state="The transaction was rolled back.",
                hint="Somebody else may have changed it just now. Run: vecmig status",
            )


def _otherwise(source: Source, changed: Iterable[str]) -> DatabaseError:
    name = source.collection.name
    return DatabaseError(
        f"Collection {name} is recorded otherwise than collections.yaml has it: {'; '.join(changed)}.",
        state="Nothing was changed.",
        hint="Its vectors rest on these. Take the change back, or give the collection a new name.",
    )


def check_recipe(ledger: Ledger, tag: str, recipe: Recipe) -> None:
    """Refuse a recipe that differs from the one recorded under the same tag."""
    check_recipes(ledger, {tag: recipe})


def check_recipes(ledger: Ledger, recipes: Mapping[str, Recipe]) -> None:
    """Refuse recipes, by tag, of which one differs from that recorded under the same tag."""
    for recorded in ledger.all_tags():
        recipe = recipes.get(recorded.tag)
        if recipe is not None and recorded.fingerprint != recipe.fingerprint:
            raise _changed(recorded, recipe)


def _changed(recorded: TagRow, recipe: Recipe) -> RecipeError:
    differences = "; ".join(recipe.differences(recorded.recipe)) or "its fingerprint"
    if recorded.canary is None and recorded.state == "building":
        return RecipeError(
            f"The recipe of {recorded.tag} changed since the tag was recorded: {differences}.",
            state="No vector was made by the recorded one yet. Nothing was changed.",
            hint="Begin the tag again: vecmig downgrade -1 --discard, then: vecmig upgrade. Or take the change back in "
            "collections.yaml",
        )
    return RecipeError(
        f"The recipe of {recorded.tag} changed since its vectors were made: {differences}.",
        state="Nothing was changed.",
        hint="A tag never changes its recipe. Undo the change in collections.yaml, or make a new tag "
        "(for example with a new version after the @) and: vecmig revision",
    )
