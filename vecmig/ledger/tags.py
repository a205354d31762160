"""The tags of the collections, and the records that cannot be embedded under them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Table, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.ledger.part import Part
from vecmig.ledger.recipe_check import check_recipes
from vecmig.ledger.rows import Rejected, TagRow, tag_among
from vecmig.ledger.tables import EVENT, FILL, LAST_FULL_PASS, REJECTED, REVISION, SUPERSEDED, TAG, later
from vecmig.model.adoption import AdoptedTag
from vecmig.model.index import Index
from vecmig.model.recipe import Recipe

#: With a name that no column has: the table's own is its column's, too.
_TAG = TAG.alias("t")
#: Before version 12 every tag had a partition.
_HOME = func.coalesce(later(_TAG.c.home).astext, "partition")
_LATER: Final = {
    "home": _HOME,
    "adopted": later(_TAG.c.adopted),
    "spot": later(_TAG.c.verified),
    "recall": later(_TAG.c.recall),
}
_COLUMNS = [_LATER[name] if name in _LATER else _TAG.c[name] for name in TagRow.__slots__]


class Tags(Part):
    """The table ``tag``."""

    def all(self) -> list[TagRow]:
        """Return the recorded tags of all collections."""
        query = select(*_COLUMNS).order_by(_TAG.c.collection, _TAG.c.created_at, _TAG.c.tag)
        return [TagRow.from_row(row) for row in self._tables.read(query)]

    def of(self, collection: str) -> dict[str, TagRow]:
        """Return the recorded tags of one collection, oldest first."""
        query = select(*_COLUMNS).where(_TAG.c.collection == collection).order_by(_TAG.c.created_at, _TAG.c.tag)
        return {row[1]: TagRow.from_row(row) for row in self._tables.read(query)}

    def get(self, collection: str, tag: str) -> TagRow:
        """Return one recorded tag.

        Raises:
            NotRecorded: the database does not know it.
        """
        return tag_among(self.of(collection).values(), collection, tag)

    def home_of(self, collection: str, tag: str) -> str:
        """Return the kind of a tag's home; that of a tag which is not recorded yet is a partition."""
        rows = self._tables.read(select(_HOME).where(_TAG.c.collection == collection, _TAG.c.tag == tag))
        return rows[0][0] if rows else "partition"

    def homes(self, collection: str) -> dict[str, str]:
        """Return the kind of each tag's home, by the recorded tags of one collection."""
        rows = self._tables.read(select(_TAG.c.tag, _HOME).where(_TAG.c.collection == collection))
        return dict(rows)

    def was_live(self, collection: str, tag: str) -> bool:
        """Return whether reads ever used a tag, by the route, the revisions and the history."""
        events = select(EVENT.c.id).where(EVENT.c.collection == collection)
        # an uninstalled collection begins anew
        uninstalled = select(func.coalesce(func.max(EVENT.c.id), 0)).where(
            EVENT.c.collection == collection, EVENT.c.kind == "uninstall"
        )
        revisions = select(REVISION.c.id).where(REVISION.c.collection == collection, REVISION.c.new_tag == tag)
        live = or_(
            select(TAG.c.tag).where(*_is(collection, tag), TAG.c.state.in_(("live", "standby"))).exists(),
            revisions.where(REVISION.c.live_at.is_not(None)).exists(),
            events.where(
                EVENT.c.tag == tag, EVENT.c.kind == "cutover", EVENT.c.id > uninstalled.scalar_subquery()
            ).exists(),
        )
        return bool(self._tables.read(select(live))[0][0])

    def record(self, collection: str, tag: str, recipe: Recipe, index: Index) -> None:
        """Write down a tag with its recipe, which never changes, and how it is to be indexed.

        Raises:
            RecipeError: the tag is recorded with another recipe, in this collection or another.
        """
        check_recipes(self.all(), {tag: recipe})
        entry = insert(TAG).values(
            collection=collection,
            tag=tag,
            dims=recipe.dims,
            recipe=recipe.to_mapping(),
            fingerprint=recipe.fingerprint,
            index=index.to_mapping(),
        )
        retired = TAG.c.state == "retired"
        self._tables.write_one(
            entry.on_conflict_do_update(
                index_elements=[TAG.c.collection, TAG.c.tag],
                set_={
                    "recipe": entry.excluded.recipe,
                    # what is known of the vectors that were retired is not known of those to come
                    "created_at": case((retired, func.now()), else_=TAG.c.created_at),
                    "state": case((retired, "building"), else_=TAG.c.state),
                    "index": case((retired, entry.excluded.index), else_=TAG.c.index),
                },
            )
        )

    def refresh_recipe(self, collection: str, tag: str, recipe: Recipe) -> None:
        """Write down how the provider is reached now; what decides the vectors must be as recorded."""
        mapping = recipe.to_mapping()
        same = TAG.c.fingerprint == recipe.fingerprint
        changed = TAG.c.recipe != mapping
        self._tables.write(update(TAG).where(*_is(collection, tag), same, changed).values(recipe=mapping))

    def set_index(self, collection: str, tag: str, index: Index) -> None:
        """Enter how a tag is indexed, which its searches go by."""
        self._tables.write_one(update(TAG).where(*_is(collection, tag)).values(index=index.to_mapping()))

    def set_recall(self, collection: str, tag: str, recall: Mapping[str, Any]) -> None:
        """Keep how much of the exact answer the searches of a tag find."""
        self._tables.write_one(update(TAG).where(*_is(collection, tag)).values(recall=recall))

    def set_state(self, collection: str, tag: str, state: str) -> None:
        """Set the state of one tag."""
        self._tables.write_one(update(TAG).where(*_is(collection, tag)).values(state=state))

    def finish_building(self, collection: str, tag: str) -> None:
        """Enter that a tag is ready, if it was building until now."""
        building = *_is(collection, tag), TAG.c.state == "building"
        self._tables.write(update(TAG).where(*building).values(state="ready"))

    def adopt(self, collection: str, adopted: AdoptedTag) -> None:
        """Enter what a tag adopts, and where its vectors live; nothing of it is verified yet."""
        home = adopted.adoption.home
        entry = update(TAG).where(*_is(collection, adopted.tag))
        self._tables.write_one(entry.values(adopted=adopted.to_mapping(), home=home, verified=None))

    def verify(self, collection: str, tag: str, verified: Mapping[str, Any] | None) -> None:
        """Enter that a sample of what a tag has adopted is what its recipe gives; None where it is not."""
        self._tables.write_one(update(TAG).where(*_is(collection, tag)).values(verified=verified))

    def set_canary(self, collection: str, tag: str, canary: Mapping[str, Any]) -> None:
        """Keep a tag's canary vectors, unless it has some already."""
        self._tables.write(update(TAG).where(*_is(collection, tag), TAG.c.canary.is_(None)).values(canary=canary))

    def forget(self, collection: str, tag: str) -> None:
        """Remove a tag that never was live and whose vectors were discarded."""
        Rejections(self._tables).forget(collection, tag)
        self._tables.write_one(delete(TAG).where(*_is(collection, tag)))


class Rejections(Part):
    """The table ``rejected``."""

    def all(self, collection: str | None = None) -> list[Rejected]:
        """Return the records that cannot be embedded as they are, of one collection or of all."""
        columns = [REJECTED.c[name] for name in Rejected.__slots__]
        query = select(*columns).where(*_of(REJECTED, collection))
        order = REJECTED.c.collection, REJECTED.c.tag, REJECTED.c.at, REJECTED.c.key
        return [Rejected(*row) for row in self._tables.read(query.order_by(*order))]

    def retry(self, collection: str | None = None) -> int:
        """Forget which records were rejected, so that the next run tries them again; return how many.

        Nothing else tells of them, so that run compares all records.
        """
        if not self._tables.installed:
            return 0
        found = self._tables.write(delete(REJECTED).where(*_of(REJECTED, collection)))
        if found:
            self._tables.write(delete(LAST_FULL_PASS).where(*_of(LAST_FULL_PASS, collection)))
        return found

    def forget(self, collection: str, tag: str) -> None:
        """Forget what is known of single records under a tag whose vectors go."""
        for table in (REJECTED, SUPERSEDED, FILL, LAST_FULL_PASS):
            self._tables.write(delete(table).where(table.c.collection == collection, table.c.tag == tag))


def _is(collection: str, tag: str) -> tuple[Any, ...]:
    return TAG.c.collection == collection, TAG.c.tag == tag


def _of(table: Table, collection: str | None) -> tuple[Any, ...]:
    return () if collection is None else (table.c.collection == collection,)
