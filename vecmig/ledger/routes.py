"""The routes: which tag a collection's reads use, which come after and before it, and what announces that."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from sqlalchemy import Boolean, Double, Integer, Text, case, cast, func, literal, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from vecmig.errors import DatabaseError
from vecmig.ledger.part import Part
from vecmig.ledger.rows import Route
from vecmig.ledger.tables import ROUTE, TAG, later
from vecmig.postgres.named_sql import statement

_ROUTES = select(
    ROUTE.c.collection,
    ROUTE.c.live,
    ROUTE.c.standby,
    ROUTE.c.candidate,
    ROUTE.c.version,
    later(ROUTE.c.shadow_tag).astext,
    ROUTE.c.shadow_share,
    func.coalesce(cast(later(ROUTE.c.keep_queries).astext, Boolean), False),
    func.coalesce(cast(later(ROUTE.c.ramp_share).astext, Double), 0.0),
)
_NEXT_VERSION = ROUTE.c.version + 1


class Routes(Part):
    """The table ``route``."""

    @property
    def channel(self) -> str:
        """The NOTIFY channel on which a change of route is announced."""
        return f"{self._tables.schema}_route"

    def all(self) -> dict[str, Route]:
        """Return the route of each collection that has one."""
        return {row[0]: Route(*row) for row in self._tables.read(_ROUTES)}

    def of(self, collection: str) -> Route:
        """Return the route of one collection; an empty one where nothing was ever expanded."""
        return self._route(collection, _ROUTES)

    def hold(self, collection: str) -> Route:
        """Return the route of one collection, which no session moves until the transaction ends."""
        return self._route(collection, _ROUTES.with_for_update())

    def _route(self, collection: str, routes: Any) -> Route:
        rows = self._tables.read(routes.where(ROUTE.c.collection == collection))
        return Route(*rows[0]) if rows else Route(collection)

    def digest(self, collection: str) -> str:
        """Return a digest of all that a reader builds on: route, collection, tags; empty for an unknown collection."""
        if not self._tables.installed:
            return ""
        query = statement("ledger/digest", "digest", schema=sql.Identifier(self._tables.schema))
        row = self._tables.connection.execute(query, {"collection": collection}).fetchone()
        return str(row[0]) if row else ""

    # Writing -----------------------------------------------------------------------------------------------------

    def record(self, collection: str) -> None:
        """Enter a collection that nothing is live of yet."""
        self._tables.write(insert(ROUTE).values(collection=collection).on_conflict_do_nothing())

    def set_candidate(self, collection: str, candidate: str | None) -> None:
        """Say which tag is on its way to become live.

        Another one serves nobody, and is compared with nothing, before somebody says so.
        """
        before = self.of(collection)
        same = ROUTE.c.candidate == literal(candidate, Text)
        compared = or_(same, ROUTE.c.shadow_tag.is_distinct_from(ROUTE.c.candidate))
        in_use = or_(ROUTE.c.ramp_share > 0, ROUTE.c.shadow_tag.is_not(None))
        self._update(
            collection,
            candidate=candidate,
            ramp_share=case((same, ROUTE.c.ramp_share), else_=0),
            shadow_tag=case((compared, ROUTE.c.shadow_tag)),
            version=ROUTE.c.version + cast(in_use, Integer),
        )
        if before.ramp_share or before.shadow_tag:
            self._notify(collection)

    def set_reads(
        self, collection: str, *, shadow_tag: str | None, shadow_share: float, keep_queries: bool, ramp_share: float
    ) -> None:
        """Say which searches another tag is asked too, and which it serves; announce it."""
        self._update(
            collection,
            shadow_tag=shadow_tag,
            shadow_share=shadow_share,
            keep_queries=keep_queries,
            ramp_share=ramp_share,
            version=_NEXT_VERSION,
        )
        self._notify(collection)

    def announce(self, collection: str) -> None:
        """Have readers look again: what they read has changed, though not the tag."""
        # where no tag was ever live, nothing was read either
        read = ROUTE.c.collection == collection, ROUTE.c.version > 0
        self._tables.write(update(ROUTE).where(*read).values(version=_NEXT_VERSION))
        self._notify(collection)

    def move(self, collection: str, *, before: str | None, live: str | None, standby: str | None) -> int:
        """Move a collection's reads from one tag to another and announce it; return the route's new version.

        A ramp ends with the switch. A comparison goes on with the parts exchanged, if the tag that was live is kept
        complete.

        Raises:
            DatabaseError: the live tag is no longer ``before``: somebody else moved it.
        """
        new, old = literal(live, Text), literal(standby, Text)
        exchanged = (ROUTE.c.shadow_tag == new) & (ROUTE.c.live == old)
        move = (
            update(ROUTE)
            .where(ROUTE.c.collection == collection, ROUTE.c.live.is_not_distinct_from(literal(before, Text)))
            .values(
                live=new,
                standby=old,
                candidate=None,
                ramp_share=0,
                shadow_tag=case((exchanged, ROUTE.c.live), (ROUTE.c.shadow_tag == old, ROUTE.c.shadow_tag)),
                version=_NEXT_VERSION,
                changed_at=func.now(),
            )
            .returning(ROUTE.c.version)
        )
        row = self._tables.execute(move).first()
        if row is None:
            raise DatabaseError(
                f"The live tag of {collection} is no longer {before}: somebody moved it meanwhile.",
                state="Nothing was changed.",
                hint="Run: vecmig status",
            )
        served = TAG.c.state.in_(("live", "standby"))
        states = (TAG.c.tag == new, "live"), (TAG.c.tag == old, "standby"), (served, "ready")
        in_collection = TAG.c.collection == collection
        self._tables.write(update(TAG).where(in_collection).values(state=case(*states, else_=TAG.c.state)))
        self._notify(collection)
        return int(row[0])

    def leave(self, collection: str, tag: str) -> bool:
        """Let a tag go of which reads have no need; return False where it is live, or on its way to be."""
        unused = ROUTE.c.live.is_distinct_from(tag), ROUTE.c.candidate.is_distinct_from(tag)
        kept = {name: func.nullif(ROUTE.c[name], tag) for name in ("standby", "shadow_tag")}
        leaving = update(ROUTE).where(ROUTE.c.collection == collection, *unused).values(kept)
        return self._tables.write(leaving) == 1

    def _update(self, collection: str, **values: Any) -> None:
        self._tables.write_one(update(ROUTE).where(ROUTE.c.collection == collection).values(values))

    def _notify(self, collection: str) -> None:
        message = func.json_build_object(
            *(literal_column("'collection'"), ROUTE.c.collection),
            *(literal_column("'live'"), ROUTE.c.live),
            *(literal_column("'version'"), ROUTE.c.version),
        )
        notify = func.pg_notify(self.channel, cast(message, Text))
        self._tables.write(select(notify).where(ROUTE.c.collection == collection))
