"""The outbox that the triggers fill: what changed, and what of it the tags in use lack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import errors as pg
from psycopg import sql

from vecmig.config import LOCK_TIMEOUT
from vecmig.freshness.coverage import Coverage
from vecmig.freshness.fills import sweep_fills
from vecmig.freshness.pending import FIRST_DIGEST, PendingRecord
from vecmig.freshness.stamps import Stamps
from vecmig.freshness.standing import let_lapse
from vecmig.ledger.recorded import columns_said
from vecmig.ledger.rows import Route
from vecmig.ledger.schema import installed_version
from vecmig.model.collection import LiveColumns
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection
from vecmig.source.source import Source

_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits in the outbox of one collection: how many records, and when the first of them changed."""

    records: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Lag:
    """What some tags are behind their records: how many changes they lack, and the age of the oldest of these."""

    records: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """How one collection stands: where its reads are, as what it is recorded, and whether anything changed."""

    route: Route
    #: text, where, change_tracking and live_columns, as they were recorded last.
    recorded: tuple[str, str | None, str, LiveColumns]
    #: Whether the candidate's backfill came to its end once.
    filled: bool
    #: Whether the outbox has changes that were not committed at the snapshot that was asked from.
    changed: bool
    #: The newest note that a full pass is needed; 0 where there is none.
    full_pass: int
    #: The snapshot to ask from the next time.
    at: str

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Look:
        """Read a row of ``look``."""
        text, where, tracking, columns = row[5:9]
        return cls(Route(*row[:5]), (text, where, tracking, columns_said(columns)), *row[9:])


def outbox(connection: Connection, source: Source, schema: str) -> Outbox:
    """Look at what waits."""
    query = statement("freshness/changes", "outbox", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return Outbox(*row) if row else Outbox(0, None)


def lag(connection: Connection, tags: Sequence[Stamps]) -> Lag:
    """Measure what the tags of one collection are behind: the changes that at least one of them lacks.

    A change that all of them have, and that only waits to be forgotten, is none of them.
    """
    if not tags:
        return Lag()
    query = tags[0].statement("freshness/changes", "lag", unsettled=_unsettled(tags))
    row = connection.execute(query, tags[0].values).fetchone()
    return Lag(*row) if row else Lag()


def text_writers(connection: Connection, stamps: Stamps) -> list[tuple[str, str, int]]:
    """Return who changed texts and not the vectors that a tag follows: role, application, and of how many records."""
    if not stamps.follows:
        return []
    query = stamps.statement("freshness/changes", "text_writers", unsettled=_unsettled([stamps]))
    return connection.execute(query, stamps.values).fetchall()


def count_due(connection: Connection, stamps: Stamps) -> int:
    """Count the changes whose vectors the source has, and that a tag has not taken over yet."""
    if not stamps.follows:
        return 0
    query = stamps.statement(
        "freshness/adopting",
        "due",
        noted_key=stamps.source.match_json("s", "noted"),
        eligible=stamps.source.eligible("p"),
        owned=stamps.owned("p"),
    )
    row = connection.execute(query, stamps.values).fetchone()
    return int(row[0]) if row else 0


def count_theirs(connection: Connection, stamps: Stamps, found: Coverage) -> int:
    """Count what is stale or missing and the application alone can make good, of what was found just now."""
    lacking = found.stale + found.missing
    if not lacking or not stamps.source.tracked or stamps.adopted is None:
        return 0
    if not stamps.buys:
        return max(0, lacking - count_due(connection, stamps))
    if not stamps.fills:
        return 0
    theirs = stamps.statement("freshness/adopting", "theirs", kept=stamps.kept("s"), owned=stamps.owned("s"))
    row = connection.execute(theirs, stamps.values).fetchone()
    return min(lacking, row[0]) if row else 0


def look(connection: Connection, schema: str, since: Mapping[str, str | None]) -> dict[str, Look]:
    """Look at collections in one statement; give those that ever had a tag.

    Args:
        connection: the connection.
        schema: where vecmig's tables are.
        since: the collections, and from when on changes count for each: a snapshot, or None for all that wait.
    """
    values = {"collections": list(since), "since": list(since.values())}
    try:
        rows = connection.execute(
            statement("freshness/changes", "look", schema=sql.Identifier(schema)), values
        ).fetchall()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        if installed_version(connection, schema):
            raise
        return {}
    return {row[0]: Look.from_row(row) for row in rows}


def free(connection: Connection, stamps: Stamps, records: Sequence[PendingRecord]) -> list[PendingRecord]:
    """Leave out records that an application holds now: their vectors would be paid for, and could not be written."""
    if not records or not stamps.source.tracked:
        return list(records)
    keys = [json.dumps(record.key) for record in records]
    rows = connection.execute(stamps.statement("freshness/changes", "free"), {"keys": keys})
    return [records[at - 1] for (at,) in rows]


def snapshot(connection: Connection) -> str:
    """Give the database's present, for ``changed_since``."""
    row = connection.execute(statement("freshness/changes", "snapshot")).fetchone()
    assert row is not None
    return str(row[0])


def changed_since(connection: Connection, source: Source, schema: str, since: str) -> int:
    """Count the records whose change was not yet committed at a snapshot; some that just were may be among them."""
    query = statement("freshness/changes", "count_since", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name, "since": since}).fetchone()
    return int(row[0]) if row else 0


def forget_settled(connection: Connection, source: Source, schema: str) -> None:
    """Clear the outbox of the records that are settled under every tag which is maintained now.

    A record is settled under a tag when it is fresh there, or rejected as it stands; one without a text when its
    vectors are gone, which this sees to. The tags are read once the outbox's rows are locked, so a tag that becomes one
    of them meanwhile finds either the change or, as its backfill begins later, the record as it is now.
    """
    after: str | None = FIRST_DIGEST
    # an application, or another run, is at work on the tables themselves: the next call goes on
    with suppress(pg.LockNotAvailable, pg.UndefinedTable):
        if source.followed is not None:
            sweep_fills(connection, Stamps(source, schema, source.followed.tag), untold=False)
        while after is not None:
            with connection.transaction():
                after = _forget_batch(connection, source, schema, after)


def distrust_changes(connection: Connection, source: Source, schema: str) -> None:
    """Note that each record in the outbox had its text changed alone: what told of it did not know of the vectors."""
    query = statement("freshness/changes", "distrust", schema=sql.Identifier(schema))
    connection.execute(query, {"collection": source.collection.name})


def _forget_batch(connection: Connection, source: Source, schema: str, after: str) -> str | None:
    """Forget what is settled of the next rows; give where to go on."""
    tags = _maintained(connection, source, schema)
    if not tags:
        return None
    digests = lock_changes(connection, tags, after)
    if not digests:
        return None
    if _maintained(connection, source, schema) != tags:
        return after
    values = {"collection": source.collection.name, "digests": digests}
    if source.followed is not None and source.collection.where:
        values["digests"] = _note_outside(connection, Stamps(source, schema, source.followed.tag), digests)
    let_lapse(connection, tags)
    for stamps in tags:
        connection.execute(stamps.statement("freshness/changes", "sweep_rejected"), values | stamps.values)
        sweep = stamps.statement("freshness/changes", "sweep_emptied", rows=source.rows)
        connection.execute(stamps.outlived(sweep), values)
    settled = tags[0].statement("freshness/changes", "forget_settled", unsettled=_unsettled(tags), rows=source.rows)
    connection.execute(settled, values)
    return digests[-1]


def _note_outside(connection: Connection, stamps: Stamps, digests: Sequence[str]) -> list[str]:
    """Keep what the outbox tells of rows that ``where`` leaves out, for when they are records again.

    Returns:
        The digests without those of rows of which that was not possible now.
    """
    adopted = stamps.adopted
    assert adopted is not None, "it is asked of a tag that follows the source"
    query = stamps.statement(
        "freshness/adopting",
        "outside",
        others=stamps.tried(adopted, outside=True),
        digest=stamps.digest(sql.Identifier("s", "vector")),
        not_filled=stamps.not_filled,
    )
    rows = connection.execute(query, stamps.values | {"digests": list(digests)})
    held = {digest for (digest,) in rows}
    return [digest for digest in digests if digest not in held]


def lock_changes(connection: Connection, tags: Sequence[Stamps], after: str, *, size: int = _BATCH) -> list[str]:
    """Lock the next rows of a collection's outbox in the caller's transaction; return their digests, in order.

    Args:
        connection: the connection.
        tags: those whose vectors the caller is about to change.
        after: the digest to start behind.
        size: how many.

    Raises:
        psycopg.errors.LockNotAvailable: somebody is at work on the tables themselves.
    """
    source = tags[0].source
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(round(LOCK_TIMEOUT * 1_000))))
    relations = sql.SQL(", ").join([source.relation, *(stamps.relation for stamps in tags)])
    connection.execute(statement("freshness/changes", "hold_relations", relations=relations))
    values: dict[str, Any] = {"collection": source.collection.name, "after": after, "size": size}
    return [row[0] for row in connection.execute(tags[0].statement("freshness/changes", "lock_batch"), values)]


def _maintained(connection: Connection, source: Source, schema: str) -> list[Stamps]:
    query = statement("freshness/changes", "maintained", schema=sql.Identifier(schema))
    row = connection.execute(query, {"collection": source.collection.name}).fetchone()
    return [Stamps(source, schema, tag) for tag in dict.fromkeys(row or ()) if tag is not None]


def _unsettled(tags: Sequence[Stamps]) -> sql.Composed:
    """Whether at least one of the tags lacks a change of the outbox."""
    return tags[0].statement(
        "freshness/changes",
        "unsettled",
        rows=tags[0].source.rows,
        unfinished=sql.SQL(" OR ").join(_unfinished(stamps) for stamps in tags),
        emptied=sql.SQL(" OR ").join(stamps.statement("freshness/changes", "emptied") for stamps in tags),
    )


def _unfinished(stamps: Stamps) -> sql.Composed:
    """Neither fresh under this tag nor rejected as it stands, or its own vector is still to be taken over."""
    due = sql.SQL("c.vector_changed_in IS NOT NULL" if stamps.follows else "false")
    return stamps.statement("freshness/changes", "unfinished", tag=sql.Literal(stamps.tag), vector_due=due)
