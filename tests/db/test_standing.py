"""What a tag lacks by the outbox, since the last full pass: it is what a comparison of all records would find."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from support.adopting import adopts, give_vectors
from support.embedding import Model
from support.lab import CHUNKED, LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import PoisonInputError
from vecmig.freshness import standing
from vecmig.freshness.coverage import Coverage, measure_coverage
from vecmig.freshness.standing import coverage_since, find_coverage

_CHANGES = {
    "edited": "UPDATE documents SET body = 'new ' || {any} WHERE id = {some}",
    "edited back": "UPDATE documents SET body = 'body ' || id WHERE id = {some}",
    "new": "INSERT INTO documents SELECT max(id) + 1, 'title', 'more ' || {any} FROM documents",
    "many new": "INSERT INTO documents SELECT m + n, 'title', 'many ' || n FROM generate_series(1, 5) n, "
    "(SELECT max(id) AS m FROM documents) d",
    "gone": "DELETE FROM documents WHERE id = {some}",
    "gone and there again": "DELETE FROM documents WHERE id = {some}; "
    "INSERT INTO documents VALUES ({some}, 'title', 'again') ON CONFLICT DO NOTHING",
    "without a text": "UPDATE documents SET body = NULL WHERE id = {some}",
    "new without a text": "INSERT INTO documents SELECT max(id) + 1, NULL, NULL FROM documents",
    "another key": "UPDATE documents SET id = (SELECT max(id) + 1 FROM documents) WHERE id = {some}",
    "another key and text": "UPDATE documents SET id = (SELECT max(id) + 1 FROM documents), body = 'moved' "
    "WHERE id = {some}",
    "refused": "UPDATE documents SET body = 'POISON ' || {any} WHERE id = {some}",
    "rolled back": "BEGIN; UPDATE documents SET body = 'never' WHERE id = {some}; ROLLBACK",
}


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of a few records is compared whole each time otherwise."""
    monkeypatch.setattr(standing, "_LEAST_RECORDS", 0)


@pytest.fixture
def no_comparison(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, whoever compares all records fails."""

    def refuse(*args: object) -> Coverage:
        raise AssertionError("all records are compared")

    def forbid() -> None:
        for place in ("freshness.standing", "backfill.run", "gate.measuring"):
            monkeypatch.setattr(f"vecmig.{place}.measure_coverage", refuse)
        monkeypatch.setattr("vecmig.backfill.run.compare_all", refuse)

    return forbid


def _refuse_poison(texts: list[str]) -> None:
    if any("POISON" in text for text in texts):
        raise PoisonInputError("no")


def _both(lab: Lab, tag: str) -> tuple[Coverage | None, Coverage]:
    """Give a tag's coverage by the outbox, and by a comparison."""
    with lab.opened(tag) as (connection, stamps):
        told, found = coverage_since(connection, stamps), measure_coverage(connection, stamps)
    return told and replace(told, compared_at=None), replace(found, vectors=0)


def _told(lab: Lab, tag: str) -> bool:
    return _both(lab, tag)[0] is not None


# Exact ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chain", [(SMALL, LARGE), (CHUNKED,)], ids=["two tags", "chunks"])
def test_whatever_changes_the_outbox_tells_what_a_comparison_finds(
    lab: Lab, model: Model, chain: tuple[str, ...], seed: int
) -> None:
    lab = lab.write(chain=chain, coverage=0.1, budget=0.9)
    lab.upgrade()
    model.before = _refuse_poison
    chance = random.Random(seed)
    for _ in range(25):
        (records,) = lab.sql("SELECT array_agg(id) FROM documents")[0]
        name = chance.choice(list(_CHANGES))
        lab.sql(_CHANGES[name].format(some=chance.choice(records), any=chance.randrange(10**6)))
        if chance.random() < 0.3:
            lab.sync()
        for tag in chain:
            told, found = _both(lab, tag)
            if name == "without a text" and told is not None:
                # it counts as one of the records without a text from the next full pass on
                told = replace(told, records=found.records)
            assert told is not None
            assert replace(told, records=0) == replace(found, records=0, unaccounted=0), name
    lab.sync()
    assert lab.waiting == []
    refused = lab.sql("SELECT count(*) FROM documents WHERE body LIKE 'POISON%'")[0][0] * len(chain)
    assert lab.sql("SELECT count(*) FROM vecmig.rejected") == [(refused,)]


@pytest.mark.parametrize("home", ["partition", "column"])
def test_where_a_tag_follows_a_column_too(lab: Lab, model: Model, home: str) -> None:
    give_vectors(lab)
    adopts(lab, f'm.adopt("embedding", home="{home}", fill=True)')
    lab.upgrade("r1")
    for change in (
        "UPDATE documents SET body = 'alone' WHERE id IN (3, 4)",
        "UPDATE documents SET embedding = NULL WHERE id = 5",
        "UPDATE documents SET embedding = (SELECT embedding FROM documents WHERE id = 7) WHERE id = 6",
        "DELETE FROM documents WHERE id = 8",
    ):
        lab.sql(change)
        told, found = _both(lab, SMALL)
        assert told == replace(found, unaccounted=0)
        lab.sync()
        told, found = _both(lab, SMALL)
        assert told == replace(found, unaccounted=0)


# No comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_sync_reads_what_changed_and_nothing_else(lab: Lab, model: Model, no_comparison: Callable[[], None]) -> None:
    lab.sync()
    no_comparison()
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")
    lab.sql("INSERT INTO documents VALUES (100, 'a', 'b')")
    model.embedded.clear()
    done = lab.sync()
    assert [(found.fresh, found.eligible) for found in done.values()] == [(21, 21), (21, 21)]
    assert model.embedded.total() == 4
    assert lab.waiting == []
    assert lab.status().lag.records == 0


@pytest.mark.upgraded
def test_going_forward_again_and_every_look_are_by_the_outbox(lab: Lab, no_comparison: Callable[[], None]) -> None:
    lab.sync()
    no_comparison()
    lab.downgrade("-1")
    lab.upgrade()
    lab.status()
    assert lab.live == LARGE


def test_before_a_tag_is_live_for_the_first_time_all_is_compared(lab: Lab) -> None:
    lab.upgrade("r1")
    lab.upgrade("r2", until="backfill")
    assert _told(lab, LARGE)
    # past the triggers
    lab.sql("SET session_replication_role = replica; UPDATE documents SET body = 'unseen' WHERE id = 3")
    assert lab.cover(LARGE).stale == 1
    lab.backfill()
    assert lab.cover(LARGE).stale == 0


# Not trusted ---------------------------------------------------------------------------------------------------------

_UNSEEN = "SET session_replication_role = replica; UPDATE documents SET body = 'unseen' WHERE id = 3"
_DROP_TRIGGERS = (
    "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass "
    "AND tgname LIKE 'vecmig%' LOOP EXECUTE format('DROP TRIGGER %I ON documents', t.tgname); END LOOP; END $$"
)
_DOUBTS: dict[str, tuple[str, ...]] = {
    "triggers that were off": (
        "ALTER TABLE documents DISABLE TRIGGER USER",
        "UPDATE documents SET body = 'unseen' WHERE id = 3",
    ),
    "triggers that are gone": (
        _DROP_TRIGGERS,
        "UPDATE documents SET body = 'unseen' WHERE id = 3",
    ),
    "a note": (_UNSEEN, "INSERT INTO vecmig.full_pass (collection, reason) VALUES ('documents', 'a test')"),
    "a day": (_UNSEEN, "UPDATE vecmig.last_full_pass SET at = now() - interval '25 hours'"),
    "another table": (
        _UNSEEN,
        "UPDATE vecmig.last_full_pass SET subject = gen_random_uuid()",
    ),
}


@pytest.mark.parametrize("doubt", _DOUBTS)
@pytest.mark.upgraded
def test_where_the_outbox_cannot_be_trusted_all_is_compared(lab: Lab, doubt: str) -> None:
    lab.sync()
    for statement in _DOUBTS[doubt]:
        lab.sql(statement)
    assert lab.cover(LARGE).stale == 1
    lab.sync()
    assert lab.cover(LARGE).stale == lab.cover(SMALL).stale == 0
    assert _told(lab, LARGE)
    assert _told(lab, SMALL)


@pytest.mark.upgraded
def test_what_nothing_told_of_is_found_by_a_full_sync(lab: Lab) -> None:
    lab.sync()
    lab.sql(_UNSEEN)
    lab.sync()
    assert lab.cover(LARGE).stale == 1
    runner.sync(lab.config, full=True)
    assert lab.cover(LARGE).stale == lab.cover(SMALL).stale == 0


@pytest.mark.upgraded
def test_vectors_that_somebody_deleted_are_missing(lab: Lab) -> None:
    lab.sync()
    lab.sql(f"DELETE FROM documents_vectors WHERE tag = '{LARGE}' AND id IN (3, 4)")
    with lab.opened(LARGE) as (connection, stamps):
        assert find_coverage(connection, stamps).missing == 2
    lab.sync()
    assert lab.cover(LARGE).missing == 0


@pytest.mark.upgraded
def test_rows_that_nothing_told_of_are_missing(lab: Lab) -> None:
    lab.sync()
    lab.sql("SET session_replication_role = replica; INSERT INTO documents VALUES (100, 'title', 'unseen')")
    assert not _told(lab, LARGE)
    lab.sync()
    assert lab.cover(LARGE).missing == 0


@pytest.mark.upgraded
def test_a_role_that_fires_no_triggers_is_not_trusted(lab: Lab, connection: psycopg.Connection[Any]) -> None:
    lab.sync()
    assert _told(lab, LARGE)
    connection.execute("CREATE ROLE silent_loader; ALTER ROLE silent_loader SET session_replication_role = replica")
    try:
        assert not _told(lab, LARGE)
    finally:
        connection.execute("DROP ROLE silent_loader")


@pytest.mark.upgraded
def test_rejected_records_that_are_to_be_tried_again_are_found(lab: Lab, model: Model) -> None:
    lab.sql("UPDATE documents SET body = 'POISON' WHERE id = 3")
    model.before = _refuse_poison
    lab.sync()
    model.before = lambda texts: None
    runner.retry_rejected(lab.config)
    lab.sync()
    assert lab.cover(LARGE).rejected == lab.cover(LARGE).missing == lab.cover(LARGE).stale == 0


@pytest.mark.upgraded
def test_what_was_forgotten_while_a_tag_was_not_kept_complete_is_found(lab: Lab) -> None:
    lab.sync()
    lab.downgrade("-1")
    lab.sql("UPDATE documents SET body = 'meanwhile' WHERE id = 3")
    lab.sync()
    lab.upgrade()
    assert lab.live == LARGE
    assert lab.cover(LARGE).stale == 0


@pytest.mark.upgraded
def test_a_gate_compares_all_where_that_was_not_done_for_a_day(lab: Lab) -> None:
    lab.sync()
    lab.downgrade("-1")
    lab.upgrade(until="index")
    assert lab.checks()["coverage"]
    lab.sql("SET session_replication_role = replica; UPDATE documents SET body = 'unseen' WHERE id < 15")
    assert lab.checks()["coverage"]
    lab.sql("UPDATE vecmig.last_full_pass SET at = now() - interval '25 hours'")
    assert not lab.checks()["coverage"]


def test_a_small_source_is_compared_each_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.upgrade("r1")
    monkeypatch.setattr(standing, "_LEAST_RECORDS", 21)
    with lab.opened(SMALL) as (connection, stamps):
        assert coverage_since(connection, stamps) is None
        assert find_coverage(connection, stamps).compared_at is None
        monkeypatch.setattr(standing, "_LEAST_RECORDS", 20)
        assert find_coverage(connection, stamps).compared_at is not None
        assert coverage_since(connection, stamps, within=timedelta(0)) is None
