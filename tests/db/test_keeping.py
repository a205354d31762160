"""What readers note is kept for as long as the settings say, and for as long as somebody is judged by it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from support.lab import LARGE, SMALL, Lab
from vecmig.ledger.keeping import forget

_NOTED = """
INSERT INTO vecmig.shadow (at, collection, live_tag, other_tag, k, live_ms, query_hash)
SELECT now() - make_interval(days => d), %s, %s, %s, 10, 1.0, d::text FROM generate_series(0, %s) d
"""
_DAYS = """
SELECT count(*), max(extract(day FROM now() - at))::int FROM vecmig.shadow
WHERE collection = %s AND live_tag = %s AND other_tag = %s
"""
GONE, OTHER = "gone@1/dim-64/chunk-none/norm-l2", "other@1/dim-64/chunk-none/norm-l2"


def test_old_shadow_reads_go_with_the_next_sync_and_those_that_judge_a_tag_stay(lab: Lab) -> None:
    lab.upgrade("r1")
    for collection, live, other, days in (
        ("documents", SMALL, GONE, 99),
        ("documents", SMALL, LARGE, 99),
        ("documents", GONE, SMALL, 99),
        ("elsewhere", SMALL, GONE, 99),
    ):
        lab.sql(_NOTED, collection, live, other, days)
    # the live tag was shadowed before it went live, and is not any more
    lab.sql("UPDATE vecmig.shadow SET at = at - interval '200 days' WHERE other_tag = %s", SMALL)
    lab.sync()

    assert lab.sql(_DAYS, "documents", SMALL, GONE) == [(30, 29)]
    assert lab.sql(_DAYS, "documents", SMALL, LARGE) == [(30, 29)]
    assert lab.sql(_DAYS, "documents", GONE, SMALL) == [(31, 230)], "30 days, the default, before its last one"
    assert lab.sql(_DAYS, "elsewhere", SMALL, GONE) == [(100, 99)], "another collection's are its own sync's"


def test_they_go_in_batches_each_in_a_transaction_of_its_own(lab: Lab) -> None:
    lab.upgrade("r1")
    for other in (GONE, OTHER):
        lab.sql(_NOTED, "documents", SMALL, other, 99)
    gone = forget(lab.database, "shadows", "documents", timedelta(days=9.5), batch=7)
    assert gone == 180
    assert lab.sql("SELECT count(DISTINCT other_tag), count(*) FROM vecmig.shadow") == [(2, 20)]


def test_a_command_that_reads_deletes_none(lab: Lab) -> None:
    lab.upgrade("r1")
    lab.sql(_NOTED, "documents", SMALL, GONE, 99)
    lab.status()
    assert lab.sql("SELECT count(*) FROM vecmig.shadow") == [(100,)]


_SYNCED = """
INSERT INTO vecmig.event (at, kind, collection, tag, version, data)
SELECT now() - make_interval(days => d), %s, %s, %s, '0', %s::jsonb FROM generate_series(%s, 99) d
"""
_EVENTS = (
    "SELECT count(*), min(extract(day FROM now() - at))::int FROM vecmig.event WHERE collection = %s AND kind = %s"
)


def test_old_events_of_syncs_go_with_the_next_one_but_for_the_last_and_all_others_stay(lab: Lab) -> None:
    lab.upgrade("r1")
    for kind, collection, tag, data, last in (
        ("sync", "documents", SMALL, "{}", 0),
        ("sync", "documents", GONE, "{}", 50),
        ("failed", "documents", None, '{"what": "sync --watch"}', 40),
        ("failed", "documents", None, '{"what": "upgrade"}', 40),
        ("rollback", "documents", SMALL, "{}", 40),
        ("sync", "elsewhere", SMALL, "{}", 0),
    ):
        lab.sql(_SYNCED, kind, collection, tag, data, last)
    lab.sync()

    assert lab.sql(_EVENTS + " AND tag = %s", "documents", "sync", SMALL) == [(30, 0)]
    assert lab.sql(_EVENTS + " AND tag = %s", "documents", "sync", GONE) == [(1, 50)], "the last one"
    assert lab.sql(_EVENTS + " AND data ->> 'what' LIKE 'sync%%'", "documents", "failed") == [(1, 40)]
    assert lab.sql(_EVENTS + " AND data ->> 'what' = 'upgrade'", "documents", "failed") == [(60, 40)]
    assert lab.sql(_EVENTS, "documents", "rollback") == [(60, 40)]
    assert lab.sql(_EVENTS, "elsewhere", "sync") == [(100, 0)]
    assert forget(lab.database, "syncs", "elsewhere", timedelta(days=9.5), batch=7) == 90


@pytest.mark.parametrize(
    "statement", ["DELETE FROM vecmig.event", "UPDATE vecmig.event SET host = ''", "TRUNCATE vecmig.event"]
)
def test_no_other_event_is_ever_deleted(lab: Lab, statement: str) -> None:
    lab.upgrade("r1")
    with pytest.raises(psycopg.Error, match="append-only"):
        lab.sql(statement)
