"""That no write of the application fails because of vecmig, and what could not be noted is said."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.lab import LARGE, SMALL, Lab, let_keys_change_hands
from vecmig.ledger import install

Connection = psycopg.Connection[Any]


def _complete(lab: Lab, *tags: str) -> None:
    lab.sync()
    assert [lab.cover(tag).share for tag in tags] == [1] * len(tags)
    assert lab.waiting == lab.noted == []


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_a_renamed_key_column_is_found_by_its_number(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents RENAME COLUMN id TO doc_id")
    connection.execute("INSERT INTO documents VALUES (21, 'new', 'new')")
    connection.execute("UPDATE documents SET body = 'new' WHERE doc_id = 3")
    connection.execute("UPDATE documents SET doc_id = 25 WHERE doc_id = 5")
    connection.execute("DELETE FROM documents WHERE doc_id = 4")
    assert lab.waiting == ["3", "21", "25"]
    assert lab.sql("SELECT id FROM documents_vectors WHERE id IN (4, 5)") == []
    assert lab.noted == []


@pytest.mark.upgraded("r1")
def test_another_column_of_the_old_name_is_not_taken_for_the_key(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents RENAME COLUMN id TO doc_id")
    connection.execute("ALTER TABLE documents ADD COLUMN id bigint GENERATED ALWAYS AS (-doc_id) STORED")
    connection.execute("UPDATE documents SET body = 'new' WHERE doc_id = 3")
    connection.execute("DELETE FROM documents WHERE doc_id = 4")
    assert lab.waiting == ["3"]
    assert lab.sql("SELECT id FROM documents_vectors WHERE id = 4") == []


@pytest.mark.upgraded("r1")
def test_tables_that_change_names_empty_no_tag(lab: Lab, connection: Connection) -> None:
    """A nightly reload: the triggers stay on the table of yesterday, which is emptied for tomorrow."""
    connection.execute("CREATE TABLE documents_new (LIKE documents INCLUDING ALL)")
    connection.execute("INSERT INTO documents_new SELECT * FROM documents")
    for old, new in (
        ("documents", "documents_old"),
        ("documents_new", "documents"),
        ("documents_old", "documents_new"),
    ):
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.execute("DELETE FROM documents_new WHERE id = 3")
    connection.execute("TRUNCATE documents_new")
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    assert set(lab.noted) == {"triggers made for public.documents are on public.documents_new"}


@pytest.mark.upgraded("r1")
def test_a_key_column_that_is_gone_fails_nobody(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents DROP COLUMN id CASCADE")
    connection.execute("INSERT INTO documents VALUES ('new', 'new')")
    connection.execute("DELETE FROM documents WHERE title = 'title 3'")
    assert set(lab.noted) == {"a key column is gone"}
    connection.execute("TRUNCATE documents")


def test_a_source_that_was_restored_under_other_numbers_goes_by_names(lab: Lab, connection: Connection) -> None:
    """As from a dump: the relation is another one, and columns that were dropped before the key are not there."""
    connection.execute("DROP TABLE documents")
    connection.execute("CREATE TABLE documents (gone int, id bigint PRIMARY KEY, title text, body text)")
    connection.execute("ALTER TABLE documents DROP COLUMN gone")
    connection.execute("INSERT INTO documents VALUES (1, 'a', 'b'), (2, 'c', 'd')")
    lab.upgrade("r1")
    triggers = connection.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'documents'::regclass"
    ).fetchall()
    connection.execute("CREATE TABLE copied AS SELECT * FROM documents")
    connection.execute("DROP VIEW documents_live")
    connection.execute("DROP TABLE documents CASCADE")
    connection.execute("ALTER TABLE copied RENAME TO documents")
    for (definition,) in triggers:
        connection.execute(definition)
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 2")
    connection.execute("DELETE FROM documents WHERE id = 1")
    assert lab.waiting == ["2"]
    assert lab.sql("SELECT id FROM documents_vectors") == [(2,)]
    assert lab.noted == []


# What is broken or in the way ----------------------------------------------------------------------------------------

_HARM = {
    "vectors gone": "DROP TABLE documents_vectors CASCADE",
    "outbox gone": "DROP TABLE vecmig.change",
    "no rights": "REVOKE ALL ON vecmig.change, vecmig.rejected FROM PUBLIC; ALTER TABLE vecmig.change RENAME key TO k",
    "ledger gone": "DROP SCHEMA vecmig CASCADE",
}


@pytest.mark.parametrize("harm", _HARM.values(), ids=list(_HARM))
@pytest.mark.upgraded("r1")
def test_writes_go_on_whatever_became_of_vecmigs_tables(lab: Lab, connection: Connection, harm: str) -> None:
    connection.execute(harm)
    connection.execute("INSERT INTO documents VALUES (21, 'new', 'new')")
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    connection.execute("UPDATE documents SET id = 30 WHERE id = 5")
    connection.execute("DELETE FROM documents WHERE id = 4")
    connection.execute("TRUNCATE documents")
    if "SCHEMA" not in harm:
        reasons = set(lab.noted)
        assert reasons
        assert all(reason.startswith("a change could not be noted, SQLSTATE 42") for reason in reasons)


@pytest.mark.upgraded("r1")
def test_one_transaction_notes_a_full_pass_once(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE vecmig.change RENAME key TO k")
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new'")
        connection.execute("UPDATE documents SET body = 'newer'")
    assert len(lab.noted) == 1
    connection.execute("UPDATE documents SET body = 'newest'")
    assert len(lab.noted) == 2


@pytest.mark.upgraded("r1")
def test_a_note_that_was_rolled_back_to_a_savepoint_is_made_again(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE vecmig.change RENAME key TO k")
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            connection.execute("UPDATE documents SET body = 'new' WHERE id = 1")
        connection.execute("UPDATE documents SET body = 'new' WHERE id = 2")
    assert len(lab.noted) == 1


@pytest.mark.upgraded("r1")
def test_writers_that_note_a_full_pass_do_not_wait_for_each_other(lab: Lab) -> None:
    lab.sql("ALTER TABLE vecmig.change RENAME key TO k")
    with psycopg.connect(lab.url) as one, psycopg.connect(lab.url) as other:
        one.execute("UPDATE documents SET body = 'new' WHERE id = 1")
        other.execute("SET statement_timeout = '5s'")
        other.execute("UPDATE documents SET body = 'new' WHERE id = 2")
    assert len(lab.noted) == 2


@pytest.mark.upgraded("r1")
def test_a_lock_that_the_application_does_not_wait_for_fails_nothing(lab: Lab) -> None:
    with psycopg.connect(lab.url) as holding, psycopg.connect(lab.url) as writing:
        holding.execute("LOCK TABLE vecmig.change IN ACCESS EXCLUSIVE MODE")
        writing.execute("SET lock_timeout = '50ms'")
        writing.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    assert lab.noted == ["a change could not be noted, SQLSTATE 55P03"]
    _complete(lab, SMALL)


@pytest.mark.upgraded("r1")
def test_a_statement_that_is_cancelled_is_cancelled(lab: Lab) -> None:
    with psycopg.connect(lab.url) as holding, psycopg.connect(lab.url) as writing:
        holding.execute("LOCK TABLE vecmig.change IN ACCESS EXCLUSIVE MODE")
        writing.execute("SET statement_timeout = '200ms'")
        with pytest.raises(pg.QueryCanceled):
            writing.execute("UPDATE documents SET body = 'new' WHERE id = 3")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.upgraded("r1")
def test_vectors_that_were_replaced_behind_a_snapshot(lab: Lab, level: str) -> None:
    """A sync embeds a record anew after an application took its snapshot, and then the application deletes it."""
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")
    with psycopg.connect(lab.url) as writing:
        writing.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writing.execute("SELECT count(*) FROM documents")
        lab.sync()
        if level == "SERIALIZABLE":
            with pytest.raises(pg.SerializationFailure):
                writing.execute("DELETE FROM documents WHERE id = 3")
            return
        writing.execute("DELETE FROM documents WHERE id = 3")
    assert lab.noted == ["a change could not be noted, SQLSTATE 40001"]
    _complete(lab, SMALL)
    assert lab.sql("SELECT count(*) FROM documents_vectors WHERE id = 3") == [(0,)]


# Long keys -----------------------------------------------------------------------------------------------------------


def _long_key(length: int = 2_680) -> str:
    """A text that cannot be compressed, as long as the source's own primary key takes."""
    return secrets.token_hex(length)[:length]


def test_a_key_as_long_as_the_source_takes_is_noted_and_ends_as_rejected(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents ALTER id TYPE text")
    lab.upgrade()
    key = _long_key()
    connection.execute("INSERT INTO documents VALUES (%s, 'long', 'key'), ('short', 'short', 'key')", [key])
    assert set(lab.waiting) == {key, "short"}
    assert lab.noted == []
    lab.sync()
    assert lab.waiting == []
    for tag in (SMALL, LARGE):
        found = lab.cover(tag)
        assert (found.fresh, found.rejected, found.unaccounted) == (21, 1, 0)
    reasons = [reason for (reason,) in lab.sql("SELECT reason FROM vecmig.rejected")]
    assert len(reasons) == 2
    assert all(reason.startswith("PostgreSQL cannot store it: index row size 27") for reason in reasons)
    connection.execute("DELETE FROM documents WHERE id = %s", [key])
    assert lab.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]


def test_the_outbox_loses_its_limit_once_no_old_trigger_rests_on_it(lab: Lab, connection: Connection) -> None:
    """An application that writes while a newer vecmig begins must not fail: the old triggers infer the old key."""

    def limited() -> bool:
        return bool(lab.sql("SELECT 1 FROM pg_constraint WHERE conname = 'change_pkey'"))

    lab.upgrade("r1")
    assert not limited()
    connection.execute("ALTER TABLE vecmig.change ADD PRIMARY KEY (collection, key)")
    connection.execute("""
        CREATE OR REPLACE FUNCTION vecmig.documents_track() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO "vecmig".change (collection, key) VALUES ('documents', jsonb_build_array(NEW.id))
            ON CONFLICT (collection, key) DO UPDATE SET changed_at = clock_timestamp();
            RETURN NULL;
        END $$""")
    install.ensure(lab.database)
    assert limited()
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    lab.sync()
    assert limited(), "the triggers were replaced a moment ago: one may still be running"
    lab.sync()
    assert not limited()
    connection.execute("UPDATE documents SET body = 'newer' WHERE id = 3")
    assert lab.waiting == ["3"]


@pytest.mark.upgraded("r1")
def test_a_publication_of_all_tables_takes_the_outbox(lab: Lab, connection: Connection) -> None:
    """Where a table has no primary key and says nothing else, a publication refuses every UPDATE and DELETE of it."""
    connection.execute("SET client_min_messages = error")
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    connection.execute("UPDATE documents SET body = 'newer' WHERE id = 3")
    connection.execute("DELETE FROM documents WHERE id = 4")
    assert lab.noted == []
    _complete(lab, SMALL)


# Keys that change hands ----------------------------------------------------------------------------------------------

_MOVES: dict[str, Sequence[str]] = {
    "shift up": ("UPDATE documents SET id = id + 1",),
    "shift down": ("UPDATE documents SET id = id - 1",),
    "swap": ("UPDATE documents SET id = CASE id WHEN 3 THEN 4 ELSE 3 END WHERE id IN (3, 4)",),
    "delete and take": ("WITH gone AS (DELETE FROM documents WHERE id = 3) UPDATE documents SET id = 3 WHERE id = 4",),
    "take and delete": ("WITH taken AS (UPDATE documents SET id = 3 WHERE id = 4) DELETE FROM documents WHERE id = 3",),
    "merge": (
        """MERGE INTO documents d USING (VALUES (3, 4), (4, 0)) AS n (was, becomes) ON d.id = n.was
        WHEN MATCHED AND becomes = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET id = becomes""",
    ),
    "one after the other": (
        "UPDATE documents SET id = 100 WHERE id = 3",
        "UPDATE documents SET id = 3 WHERE id = 4",
        "UPDATE documents SET id = 4 WHERE id = 100",
    ),
}


@pytest.mark.parametrize("moves", _MOVES.values(), ids=list(_MOVES))
def test_keys_that_change_hands_lose_no_record(lab: Lab, connection: Connection, moves: Sequence[str]) -> None:
    let_keys_change_hands(connection)
    lab.upgrade("r1")
    with connection.transaction():
        for move in moves:
            connection.execute(move)
    assert lab.cover(SMALL).unaccounted == 0
    _complete(lab, SMALL)
    assert lab.sql("SELECT id FROM documents_vectors EXCEPT SELECT id FROM documents") == []


@pytest.mark.upgraded("r1")
def test_a_trigger_of_the_team_that_puts_a_deleted_record_back_is_seen(lab: Lab, connection: Connection) -> None:
    """It fires before vecmig's, by its name."""
    connection.execute("""
        CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO documents VALUES (OLD.id, OLD.title, 'put back'); RETURN NULL; END $$;
        CREATE TRIGGER a_first AFTER DELETE ON documents FOR EACH ROW EXECUTE FUNCTION put_back()""")
    connection.execute("DELETE FROM documents WHERE id = 3")
    assert lab.waiting == ["3"]
    _complete(lab, SMALL)


# What a DBA said -----------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_triggers_that_fire_always_go_on_to_do_so(lab: Lab, connection: Connection) -> None:
    """As a subscription needs it; those that would fire for a replica only are to fire for the others as well."""
    connection.execute("ALTER TABLE documents ENABLE ALWAYS TRIGGER vecmig_documents_track")
    connection.execute("ALTER TABLE documents ENABLE REPLICA TRIGGER vecmig_documents_track_update")
    lab.write(text="title").sync()
    enabled = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'documents'::regclass ORDER BY tgname"
    assert [state for _, state in connection.execute(enabled)] == ["A", "O", "A"]
    with psycopg.connect(lab.url) as replica:
        replica.execute("SET session_replication_role = replica")
        replica.execute("INSERT INTO documents VALUES (21, 'new', 'new')")
    assert lab.waiting == ["21"]
