"""How complete a tag is: by what the outbox tells since the last full pass, where that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import sql

from vecmig.freshness.change_tracking import trigger_names
from vecmig.freshness.coverage import Coverage, coverage_statement, measure_coverage, vector_due
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.schema import FILES, installed_version
from vecmig.postgres.named_sql import statement
from vecmig.postgres.sessions import Connection

#: How long the outbox is gone by before every record is compared again: what wrote past the triggers is found then.
TRUSTED_FOR: Final = timedelta(days=1)
_SINCE_VERSION: Final = FILES.index("019_last_full_pass") + 1
#: Columns of a comparison before those of the coverage.
_COUNTED: Final = 5
#: Fewer records than these are compared each time: that takes a fraction of a second, and is the truth.
_LEAST_RECORDS: Final = 20_000


def find_coverage(
    connection: Connection,
    stamps: Stamps,
    *,
    within: timedelta | None = None,
    rows: int | None = None,
    stamped: int | None = None,
) -> Coverage:
    """Return how complete a tag is, at a cost that follows the latest changes where the last full pass can be trusted.

    That is so as long as the triggers have been at work since then, nothing is set up to write past them, and there are
    no more rows than they have told of. If it is not, and for a small source, each record is compared with its vectors.
    What left ``where`` since the last full pass counts until the next one.

    Args:
        connection: the connection.
        stamps: the tag.
        within: how long ago the last full pass may be; None for any time.
        rows: how many the source has in this snapshot, where that is known.
        stamped: how many records have vectors in it, where that is known.
    """
    told = coverage_since(connection, stamps, within=within, rows=rows, stamped=stamped)
    return told or measure_coverage(connection, stamps)


def coverage_since(
    connection: Connection,
    stamps: Stamps,
    *,
    within: timedelta | None = None,
    rows: int | None = None,
    stamped: int | None = None,
) -> Coverage | None:
    """Return how complete a tag is by the outbox; None where only a full pass tells.

    Args:
        connection: the connection.
        stamps: the tag.
        within: how long ago the last full pass may be; None for any time.
        rows: how many the source has in this snapshot, where that is known.
        stamped: how many records have vectors in it, where that is known.
    """
    if not stamps.source.tracked or installed_version(connection, stamps.schema) < _SINCE_VERSION:
        return None
    query = _statement(stamps, "since", counted=_counted(stamps))
    known = {"least": _LEAST_RECORDS, "rows": rows, "stamped": stamped}
    row = connection.execute(query, _values(connection, stamps) | known).fetchone()
    if row is None or (within is not None and datetime.now(row[0].tzinfo) - row[0] > within):
        return None
    at, textless, idle, beside, present, *counted = row
    found = _put_together(counted, textless, idle)
    *_, without = counted[1]
    return replace(found, compared_at=at) if present - found.eligible <= beside + without else None


def compare_all(connection: Connection, stamps: Stamps) -> Coverage:
    """Compare each record with its vectors, and enter that as the last full pass if the outbox can go on from it.

    It cannot where a record lacks its vector and neither the outbox nor a rejection says so.

    Args:
        connection: in autocommit mode.
        stamps: the tag.
    """
    query = stamps.statement(
        "freshness/standing", "compared", coverage=coverage_statement(stamps), counted=_counted(stamps)
    )
    row = connection.execute(query, stamps.values | {"rows": None, "stamped": None}).fetchone()
    assert row is not None
    (at, rows, *counted), found = row[:_COUNTED], Coverage.from_row(row[_COUNTED:])
    if found.unaccounted or found.records < _LEAST_RECORDS or not stamps.source.tracked:
        return found
    textless = found.records - found.eligible
    idle = _put_together(counted, textless, 0).eligible - found.eligible
    # what the outbox tells is what was found, or it is not trusted
    if _put_together(counted, textless, idle) == replace(found, vectors=0):
        values = {"at": at, "records": found.records, "textless": textless, "idle": idle}
        values["beside"] = rows - found.eligible
        connection.execute(_statement(stamps, "enter"), _values(connection, stamps) | values)
    return found


def let_lapse(connection: Connection, tags: Sequence[Stamps]) -> None:
    """Forget the last full passes of all tags of a collection but those for which the outbox was kept.

    It is for whoever forgets a part of the outbox, in the same transaction.
    """
    query = statement("freshness/standing", "lapse", schema=sql.Identifier(tags[0].schema))
    values = {"collection": tags[0].source.collection.name, "tags": [stamps.tag for stamps in tags]}
    connection.execute(query, values)


def _values(connection: Connection, stamps: Stamps) -> dict[str, Any]:
    """Return the parameters by which a full pass, and what tells of changes since, are looked up."""
    relations = {"source": stamps.source.relation, "stamps": stamps.relation, "compared": stamps.source.records}
    said = {name: relation.as_string(connection) for name, relation in relations.items()}
    return {**stamps.values, **said, "names": trigger_names(stamps.source)}


def _statement(stamps: Stamps, name: str, **parts: sql.Composable) -> sql.Composed:
    triggers, silent = (statement("freshness/change_tracking", part) for part in ("triggers", "silent_writers"))
    told_of = statement("freshness/standing", "told_of", triggers=triggers, silent_writers=silent)
    subject = statement("freshness/standing", "subject")
    return stamps.statement("freshness/standing", name, subject=subject, told_of=told_of, **parts)


def _counted(stamps: Stamps) -> sql.Composed:
    source = stamps.source
    return stamps.statement(
        "freshness/standing",
        "counted",
        source=source.relation,
        rows=source.rows,
        due=vector_due(stamps),
        key_json=source.key_json("s"),
    )


def _put_together(counted: Sequence[Any], textless: int, idle: int) -> Coverage:
    """Add what is noted to what is not: the latter has fresh vectors, or was rejected."""
    stamped, (eligible, fresh, rejected, stale, noted, _), (refused, outdated) = counted
    settled = stamped - noted - idle
    total = settled + refused - outdated + eligible
    return Coverage(
        records=total + textless,
        eligible=total,
        fresh=settled - outdated + fresh,
        stale=stale,
        rejected=refused + rejected,
        unaccounted=0,
    )
