"""That a transaction with many changes takes few transaction ids, and that no change of it is lost whatever it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.lab import SMALL, Lab, let_keys_change_hands
from support.postgres import roles

Connection = psycopg.Connection[Any]
_MANY = 2_000
_FILL = f"INSERT INTO documents SELECT n, 'title', 'body' FROM generate_series(1, {_MANY}) n ON CONFLICT DO NOTHING"
_UNFINISHED = "a transaction ended before its changes were noted"
_ALTERED = "the source was altered by a transaction that had changed its rows"
#: The setting that gathers.
_GATHERED = "'vecmig.gathered_' || substr(encode(sha256('vecmig\\000documents'), 'hex'), 1, 12)"


def _waiting(lab: Lab) -> set[int]:
    return {int(key) for key in lab.waiting}


def _with_vectors(lab: Lab) -> set[int]:
    return {key for (key,) in lab.sql("SELECT id FROM documents_vectors")}


def _ids_taken(connection: Connection, *statements: str) -> int:
    def present() -> int:
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert row is not None
        return int(row[0])

    before = present()
    for statement in statements:
        connection.execute(statement)
    return present() - before


@pytest.mark.parametrize(
    ("statements", "waiting"),
    [
        ([_FILL], _MANY - 20),
        ([_FILL, "UPDATE documents SET body = 'new'"], _MANY),
        (["DELETE FROM documents"], 0),
        (["BEGIN", *(f"UPDATE documents SET body = 'new' WHERE id = {i}" for i in range(1, 21)), "COMMIT"], 20),
    ],
    ids=["insert", "update", "delete", "a statement for each"],
)
@pytest.mark.upgraded("r1")
def test_many_changes_take_few_transaction_ids(
    lab: Lab, connection: Connection, statements: list[str], waiting: int
) -> None:
    """Each id is a savepoint's; 64 of them in one transaction slow all others down, and 2 billion stop the server."""
    assert _ids_taken(connection, *statements) < 40
    assert len(_waiting(lab)) == waiting
    assert lab.noted == []
    lab.sync()
    assert lab.cover(SMALL).unaccounted == 0
    assert _with_vectors(lab) == {key for (key,) in lab.sql("SELECT id FROM documents")}


@pytest.mark.upgraded("r1")
def test_what_a_savepoint_takes_back_takes_nothing_else_along(lab: Lab, connection: Connection) -> None:
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new' WHERE id = 1")
        with connection.transaction(force_rollback=True):
            connection.execute("UPDATE documents SET body = 'new' WHERE id IN (2, 3, 4)")
        connection.execute("UPDATE documents SET body = 'new' WHERE id IN (5, 6)")
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM documents WHERE id IN (7, 8)")
        connection.execute("UPDATE documents SET body = 'new' WHERE id = 9")
    assert _waiting(lab) == {1, 5, 6, 9}
    assert {7, 8} <= _with_vectors(lab)


@pytest.mark.upgraded("r1")
def test_constraints_that_are_made_immediate(lab: Lab, connection: Connection) -> None:
    """What is gathered is written there and then, and what comes later is not waited for by anything."""
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new' WHERE id < 5")
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        assert len(connection.execute("SELECT FROM vecmig.change").fetchall()) == 4
        connection.execute("UPDATE documents SET body = 'new' WHERE id < 9")
        connection.execute("DELETE FROM documents WHERE id > 17")
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        connection.execute("DELETE FROM documents WHERE id > 14")
    assert {1, 2, 3, 4, 5, 6, 7, 8} <= _waiting(lab)
    assert _with_vectors(lab) == set(range(1, 15))
    assert lab.noted == []


@pytest.mark.upgraded("r1")
def test_a_record_that_comes_back_keeps_its_vectors(lab: Lab, connection: Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM documents")
        connection.execute("DELETE FROM documents")
        connection.execute("INSERT INTO documents SELECT * FROM kept WHERE id <> 20")
    # the first two changes are written at once, before anything comes back
    assert set(range(3, 20)) <= _with_vectors(lab)
    assert 20 not in _with_vectors(lab)
    lab.sync()
    assert lab.cover(SMALL).share == 1


@pytest.mark.upgraded("r1")
def test_a_procedure_that_commits_between_its_changes(lab: Lab, connection: Connection) -> None:
    connection.execute("""
        DO $$ BEGIN
            FOR i IN 1..4 LOOP
                UPDATE documents SET body = 'new' WHERE id BETWEEN 4 * i - 3 AND 4 * i;
                IF i = 3 THEN ROLLBACK; ELSE COMMIT; END IF;
            END LOOP;
        END $$""")
    assert _waiting(lab) == {1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16}


@pytest.mark.parametrize("later", [0, 1, 2, 5])
@pytest.mark.parametrize("named", ["ALL", "vecmig.gathered"])
@pytest.mark.upgraded("r1")
def test_a_session_that_resets_its_settings_is_told_of(
    lab: Lab, connection: Connection, named: str, later: int
) -> None:
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new'")
        if named == "ALL":
            connection.execute("RESET ALL")
        else:
            connection.execute(f"SELECT set_config({_GATHERED}, '', true)")
        connection.execute("UPDATE documents SET body = 'newer' WHERE id <= %s", [later])
    assert lab.noted == [_UNFINISHED]
    lab.sync()
    assert lab.cover(SMALL).share == 1


@pytest.mark.parametrize(
    ("written", "noted"),
    [
        ("[[1],null],[[2],null],", []),
        ("[[1],[77]],", []),
        ("[[1,2,3],null],[5,6],{},[null,null],", []),
        ('[["x"],null],', ["a change could not be noted, SQLSTATE 22P02"]),
        ('[null,["x"]],', ["a change could not be noted, SQLSTATE 22P02"]),
        ("no list,", ["a change could not be noted, SQLSTATE 22P02"]),
    ],
)
@pytest.mark.upgraded("r1")
def test_a_writer_that_forges_what_is_gathered_takes_no_vectors(
    lab: Lab, connection: Connection, written: str, noted: list[str]
) -> None:
    """Who may write one record could name any other there."""
    connection.execute("GRANT SELECT, UPDATE ON documents TO pg_monitor")
    with connection.transaction():
        connection.execute("SET LOCAL ROLE pg_monitor")
        connection.execute("UPDATE documents SET body = 'new' WHERE id IN (10, 11)")
        gathered = f"SELECT set_config({_GATHERED}, current_setting({_GATHERED}) || %s, true)"
        connection.execute(gathered, [written])
    assert _with_vectors(lab) == set(range(1, 21))
    assert lab.noted == noted
    lab.sync()
    assert lab.cover(SMALL).share == 1
    assert _waiting(lab) == set()


@pytest.mark.upgraded("r1")
def test_a_source_that_is_renamed_in_the_same_transaction(lab: Lab, connection: Connection) -> None:
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new'")
        connection.execute("DELETE FROM documents WHERE id > 15")
        connection.execute("ALTER TABLE documents RENAME TO posts")
    assert lab.noted == [_ALTERED]
    connection.execute("ALTER TABLE posts RENAME TO documents")
    lab.sync()
    assert lab.cover(SMALL).share == 1
    assert _with_vectors(lab) == set(range(1, 16))


def test_writes_to_a_partition_and_to_a_parent_that_came_later(bare_lab: Lab, connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text) PARTITION BY RANGE (id);
        CREATE TABLE few PARTITION OF documents FOR VALUES FROM (1) TO (100);
        CREATE TABLE many PARTITION OF documents FOR VALUES FROM (100) TO (10000);
        INSERT INTO documents SELECT n, 'title', 'body' FROM generate_series(1, 20) n""")
    bare_lab.write().upgrade("r1")
    assert _ids_taken(connection, "UPDATE few SET body = 'new'", "UPDATE documents SET body = 'newer'") < 20
    assert len(_waiting(bare_lab)) == 20
    assert _ids_taken(connection, "UPDATE documents SET id = id + 100 WHERE id > 5") < 20
    assert _with_vectors(bare_lab) == {1, 2, 3, 4, 5}
    bare_lab.sync()
    assert bare_lab.cover(SMALL).share == 1


@pytest.mark.upgraded("r1")
def test_writes_through_a_parent_that_came_later(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE everything (id bigint NOT NULL, title text, body text) PARTITION BY RANGE (id)")
    connection.execute("ALTER TABLE everything ATTACH PARTITION documents FOR VALUES FROM (0) TO (100)")
    connection.execute("UPDATE everything SET body = 'new'")
    connection.execute("DELETE FROM everything WHERE id > 15")
    assert _waiting(lab) >= set(range(1, 16))
    assert _with_vectors(lab) == set(range(1, 16))


@pytest.mark.upgraded("r1")
def test_rows_that_a_foreign_key_deletes(lab: Lab, connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE owner (id int PRIMARY KEY);
        INSERT INTO owner VALUES (1), (2);
        ALTER TABLE documents ADD COLUMN owner int DEFAULT 1 REFERENCES owner ON DELETE CASCADE;
        UPDATE documents SET owner = 2 WHERE id <= 3""")
    assert _ids_taken(connection, "DELETE FROM owner WHERE id = 1") < 20
    assert _with_vectors(lab) == {1, 2, 3}


@pytest.mark.upgraded("r1")
def test_a_replica_session_gathers_as_well(lab: Lab, connection: Connection) -> None:
    for (name,) in lab.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass"):
        connection.execute(f"ALTER TABLE documents ENABLE ALWAYS TRIGGER {name}")
    connection.execute("SET session_replication_role = replica")
    assert _ids_taken(connection, _FILL) < 20
    assert len(_waiting(lab)) == _MANY - 20


@pytest.mark.upgraded("r1")
def test_the_outboxs_function_runs_nothing_of_others(lab: Lab, connection: Connection) -> None:
    """It has its owner's rights, and a dump without privileges leaves it open to those who make tables."""
    connection.execute("""
        CREATE SCHEMA others;
        CREATE TABLE others.bait (collection text);
        CREATE TABLE others.seen (role name);
        CREATE FUNCTION others.documents_track_rest(text) RETURNS void LANGUAGE sql AS
            'INSERT INTO others.seen VALUES (current_user)';
        CREATE TRIGGER t AFTER INSERT ON others.bait FOR EACH ROW EXECUTE FUNCTION vecmig.track_rest();
        INSERT INTO others.bait VALUES ('documents')""")
    assert lab.sql("SELECT * FROM others.seen") == []
    assert lab.cover(SMALL).share == 1


@pytest.mark.upgraded("r1")
def test_an_outbox_that_is_broken_at_the_end_of_a_transaction_fails_it_not(lab: Lab, connection: Connection) -> None:
    connection.execute("DROP FUNCTION vecmig.documents_track_rest(bigint, boolean)")
    connection.execute("UPDATE documents SET body = 'new'")
    assert lab.noted == [_UNFINISHED]
    assert lab.sql("SELECT count(*) FROM documents WHERE body = 'new'") == [(20,)]
    lab.sync()
    assert lab.cover(SMALL).share == 1
    connection.execute("UPDATE documents SET body = 'newer'")
    assert lab.noted == []


_UNNOTED = {
    "read only in the middle": "SET TRANSACTION READ ONLY",
    "a trigger that is off": "ALTER TABLE vecmig.full_pass DISABLE TRIGGER USER",
    "a trigger that is gone": "DROP TRIGGER track_rest ON vecmig.full_pass",
}


@pytest.mark.parametrize("harm", _UNNOTED.values(), ids=list(_UNNOTED))
@pytest.mark.upgraded("r1")
def test_what_is_not_noted_to_the_end_leaves_its_note(lab: Lab, connection: Connection, harm: str) -> None:
    if not harm.startswith("SET"):
        connection.execute(harm)
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'new'")
        connection.execute("DELETE FROM documents WHERE id > 15")
        if harm.startswith("SET"):
            connection.execute(harm)
    assert lab.noted == [_UNFINISHED]
    lab.sync()
    assert lab.cover(SMALL).share == 1
    assert _with_vectors(lab) == set(range(1, 16))
    connection.execute("UPDATE documents SET body = 'newer'")
    assert lab.noted == []
    assert len(_waiting(lab)) == 15


@pytest.mark.upgraded("r1")
def test_a_list_from_before_the_transaction_is_none(lab: Lab, connection: Connection) -> None:
    connection.execute(f"SELECT set_config({_GATHERED}, '[', false)")
    connection.execute("UPDATE documents SET body = 'new'")
    connection.execute(f"SELECT set_config({_GATHERED}, '[1,1,', false)")
    connection.execute("DELETE FROM documents WHERE id > 15")
    assert _waiting(lab) >= set(range(1, 16))
    assert _with_vectors(lab) == set(range(1, 16))
    assert lab.noted == []


_PUT_THERE = {
    "a view": (
        "ALTER TABLE documents RENAME TO d2",
        "CREATE VIEW documents AS SELECT * FROM (SELECT d2.*, others.evil() FROM d2 OFFSET 0) q",
    ),
    "a policy": (
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE documents FORCE ROW LEVEL SECURITY",
        "CREATE POLICY evil ON documents USING (others.evil())",
    ),
    "another table": (
        "ALTER TABLE documents RENAME TO d2",
        "CREATE TABLE documents (LIKE d2 INCLUDING ALL)",
    ),
    "another key": (
        "ALTER TABLE documents RENAME COLUMN id TO was",
        "ALTER TABLE documents ADD COLUMN id bigint",
    ),
}


@pytest.fixture
def vee(connection: Connection) -> Iterator[None]:
    """A role that is no superuser, whose the functions of the triggers are."""
    with roles(connection, "vee"):
        yield


@pytest.mark.usefixtures("vee")
@pytest.mark.parametrize("statements", _PUT_THERE.values(), ids=list(_PUT_THERE))
@pytest.mark.parametrize("partitioned", [False, True])
def test_what_takes_the_sources_place_is_not_asked(
    bare_lab: Lab, connection: Connection, statements: Sequence[str], *, partitioned: bool
) -> None:
    """It would run with the rights of vecmig's role; and by its rows, vectors would be lost or kept."""
    connection.execute(f"""
        CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)
            {"PARTITION BY RANGE (id)" if partitioned else ""};
        {"CREATE TABLE all_of_them PARTITION OF documents DEFAULT;" if partitioned else ""}
        INSERT INTO documents SELECT n, 'title', 'body' FROM generate_series(1, 20) n;
        GRANT ALL ON SCHEMA public TO vee""")
    bare_lab.write().upgrade("r1")
    connection.execute("""
        CREATE SCHEMA others;
        CREATE TABLE others.seen (role name);
        CREATE FUNCTION others.evil() RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO others.seen VALUES (current_user); RETURN false; END $$;
        GRANT SELECT ON documents TO vee;
        ALTER FUNCTION vecmig.documents_track_rest(bigint, boolean) OWNER TO vee;
        ALTER FUNCTION vecmig.documents_track() OWNER TO vee;
        GRANT ALL ON SCHEMA vecmig, others TO vee;
        GRANT ALL ON ALL TABLES IN SCHEMA vecmig, others TO vee;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA vecmig TO vee""")
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM documents")
        connection.execute("DELETE FROM documents WHERE id > 10")
        connection.execute("INSERT INTO documents SELECT * FROM kept WHERE id > 15")
        for statement in statements:
            connection.execute(statement)
    assert bare_lab.sql("SELECT * FROM others.seen") == []
    assert {11, 12} & _with_vectors(bare_lab) == set()
    assert {*range(1, 11), *range(16, 21)} <= _with_vectors(bare_lab)
    assert bare_lab.noted == [_ALTERED]


_KEYS = st.integers(1, 30)
_CHANGES = st.one_of(
    st.builds("UPDATE documents SET body = body || 'x' WHERE id >= {}".format, _KEYS),
    st.builds("DELETE FROM documents WHERE id >= {}".format, _KEYS),
    st.builds(
        "INSERT INTO documents SELECT n, 'a', 'b' FROM generate_series({}, 30) n ON CONFLICT DO NOTHING".format, _KEYS
    ),
    st.builds("UPDATE documents SET id = id + 1 WHERE id >= {}".format, _KEYS),
    st.builds("UPDATE documents SET id = 31 - id WHERE id BETWEEN {} AND 30".format, _KEYS),
    st.just("TRUNCATE documents"),
    st.sampled_from(["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"]),
    st.sampled_from(["SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED", "COMMIT", "ROLLBACK"]),
)


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(_CHANGES, min_size=1, max_size=14))
def test_no_change_is_lost_in_any_order(ordered: Lab, changes: list[str]) -> None:
    """After each transaction, what has no fresh vector waits in the outbox, and no vector is without its record."""
    with psycopg.connect(ordered.url, autocommit=True) as connection:
        _write(connection, changes)
    found = ordered.cover(SMALL)
    assert found.unaccounted == 0
    assert ordered.sql("SELECT id FROM documents_vectors EXCEPT SELECT id FROM documents") == []
    assert ordered.noted == []
    ordered.sync()
    assert ordered.cover(SMALL).unaccounted == 0
    assert _waiting(ordered) == set()


@pytest.fixture
def ordered(lab: Lab, connection: Connection) -> Lab:
    """A live collection whose keys may change hands within a transaction."""
    let_keys_change_hands(connection)
    lab.upgrade("r1")
    return lab


def _write(connection: Connection, changes: list[str]) -> None:
    """Run statements in transactions; one that fails ends its transaction."""
    connection.execute("BEGIN")
    for change in (*changes, "COMMIT"):
        try:
            connection.execute(change)
        except psycopg.Error:
            connection.execute("ROLLBACK")
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            connection.execute("BEGIN")
    connection.execute("COMMIT")
