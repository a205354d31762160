"""Cutover and rollback: one short transaction that readers hardly notice, and that gives way to an application."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from support.embedding import vector
from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect
from support.waiting import wait_for
from vecmig.errors import DatabaseError, GateRefused
from vecmig.events import Event, StepStarted, Waiting

Connection = psycopg.Connection[Any]
DIMS = {SMALL: 64, LARGE: 256}


def _text(key: int) -> str:
    return f"title {key}\n\nbody {key}"


@contextmanager
def _loops(*works: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run each work over and over in a thread of its own while the block runs."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def loop(work: Callable[[], None]) -> None:
        try:
            while not stop.wait(0.02):  # or they take all the processors, and every switch is slow
                work()
        except BaseException as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def _check(tag: str, key: int, embedding: str) -> None:
    made = json.loads(embedding)
    assert len(made) == DIMS[tag]
    assert made == pytest.approx(vector(_text(key), DIMS[tag]).tolist(), abs=1e-5)


@pytest.mark.long
@pytest.mark.upgraded
def test_four_readers_through_twenty_switches(lab: Lab, connect: Connect, postgres: Any) -> None:
    """Reads never mix tags: no read fails, and each answer is of the tag that it names."""
    setup = connect()
    setup.execute("DROP ROLE IF EXISTS app_reader; CREATE ROLE app_reader LOGIN")
    setup.execute("GRANT SELECT ON documents, documents_live, documents_vectors TO app_reader")
    answers: set[str] = set()

    def prepared(reader: Connection) -> None:
        rows = reader.execute("SELECT tag, id, embedding::text FROM documents_live", prepare=True).fetchall()
        assert len(rows) == 20
        assert len({tag for tag, _, _ in rows}) == 1
        for tag, key, embedding in rows[::7]:
            _check(tag, key, embedding)
        answers.add(rows[0][0])

    def stale(reader: Connection) -> None:
        """An application that goes on believing in SMALL: it gets right rows or none, never wrong ones."""
        query = "SELECT id, embedding <=> %s::vector FROM documents_live WHERE tag = %s ORDER BY 2 LIMIT 1"
        rows = reader.execute(query, [str(vector(_text(5), 64).tolist()), SMALL]).fetchall()
        assert rows in ([], [(5, pytest.approx(0, abs=1e-6))])

    def function(reader: Connection) -> None:
        tag = reader.execute("SELECT live FROM pg_temp.live()").fetchone()[0]  # type: ignore[index]
        query = str(vector(_text(9), DIMS[tag]).tolist())
        try:
            rows = reader.execute(
                "SELECT id, distance FROM documents_search(%s::vector, 1, %s)", [query, tag]
            ).fetchall()
        except psycopg.Error as error:
            assert error.sqlstate == "VM001"  # noqa: PT017  # it moved in between
        else:
            assert rows == [(9, pytest.approx(0, abs=1e-6))]

    app = connect(user="app_reader")
    believer = connect(user="app_reader")
    caller = connect()
    caller.execute(
        "CREATE FUNCTION pg_temp.live() RETURNS TABLE (live text) LANGUAGE sql AS 'SELECT live FROM vecmig.route'"
    )
    with lab.reader() as library:

        def asking() -> None:
            (hit,) = library.search("documents", _text(3), 1)
            assert hit.key == (3,)
            assert hit.distance == pytest.approx(0, abs=1e-6)

        works = (lambda: prepared(app), lambda: stale(believer), lambda: function(caller), asking)
        with _loops(*works) as errors:
            for _ in range(10):
                lab.downgrade()
                lab.upgrade()
    assert errors == []
    assert answers == {SMALL, LARGE}
    setup.execute("DROP OWNED BY app_reader; DROP ROLE app_reader")


@pytest.mark.upgraded("r1")
def test_grants_and_prepared_statements_survive(lab: Lab, connect: Connect) -> None:
    setup = connect()
    setup.execute("DROP ROLE IF EXISTS app_granted; CREATE ROLE app_granted LOGIN")
    setup.execute("GRANT SELECT ON documents, documents_live, documents_vectors TO app_granted")
    app = connect(user="app_granted")
    app.execute("PREPARE p AS SELECT * FROM documents_live ORDER BY id")
    assert len(app.execute("EXECUTE p").fetchall()) == 20
    lab.upgrade()
    assert {row[3] for row in app.execute("EXECUTE p").fetchall()} == {LARGE}
    lab.downgrade()
    assert {row[3] for row in app.execute("EXECUTE p").fetchall()} == {SMALL}
    setup.execute("DROP OWNED BY app_granted; DROP ROLE app_granted")


# Locks -------------------------------------------------------------------------------------------------------------


def _alter_view(lab: Lab) -> None:
    """Let the view be another than a cutover makes, so that it is replaced."""
    lab.sql("ALTER VIEW documents_live RESET (security_invoker)")


def test_readers_that_are_always_open_hold_up_neither_cutover_nor_rollback(lab: Lab, connect: Connect) -> None:
    lab.upgrade("r1")
    reader = connect(autocommit=False)
    assert reader.execute("SELECT DISTINCT tag FROM documents_live").fetchall() == [(SMALL,)]
    prepared = connect()
    prepared.execute("SET plan_cache_mode = force_generic_plan")
    prepared.execute("PREPARE p AS SELECT DISTINCT tag, vector_dims(embedding) FROM documents_live")
    assert prepared.execute("EXECUTE p").fetchall() == [(SMALL, 64)]
    made = "SELECT xmin::text FROM pg_class WHERE oid = 'documents_live'::regclass"
    before = lab.sql(made)

    for move, tag, dims in ((lab.upgrade, LARGE, 256), (lab.downgrade, SMALL, 64)):
        move()
        assert lab.live == tag
        assert prepared.execute("EXECUTE p").fetchall() == [(tag, dims)], "its plan is made again"
        # whichever it reads, it reads one
        assert reader.execute("SELECT DISTINCT tag, vector_dims(embedding) FROM documents_live").fetchall() in (
            [(SMALL, 64)],
            [(LARGE, 256)],
        )
        assert connect().execute("SELECT DISTINCT tag FROM documents_live").fetchall() == [(tag,)]
    assert [event for event in lab.events if isinstance(event, Waiting)] == []
    assert lab.sql(made) == before, "it is the view that it was"


@pytest.mark.upgraded("r2", until="gate")
def test_a_snapshot_shows_all_records_of_the_live_tag(lab: Lab, connect: Connect) -> None:
    """In REPEATABLE READ the tag is the one that is live now; older snapshots than its index there are none."""
    query = "SELECT tag, count(*), min(title) FROM documents_live GROUP BY tag"
    reader = connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert reader.execute(query).fetchall() == [(SMALL, 20, "title 1")]
    lab.sql("UPDATE documents SET title = 'edited'")
    lab.sync()
    lab.upgrade()
    assert reader.execute(query).fetchall() == [(LARGE, 20, "title 1")]
    assert connect().execute(query).fetchall() == [(LARGE, 20, "edited")]
    lab.downgrade()
    assert reader.execute(query).fetchall() == [(SMALL, 20, "title 1")]


@pytest.mark.upgraded("r2", until="gate")
def test_a_reader_that_stays_open_makes_it_give_up_with_nothing_changed(lab: Lab, connect: Connect) -> None:
    lab = lab.write(lock_wait=1.0)
    _alter_view(lab)
    reader = connect(autocommit=False, application_name="long report")
    reader.execute("SELECT count(*) FROM documents_live")
    before = connect().execute("SELECT pg_get_viewdef('documents_live'), (SELECT version FROM vecmig.route)").fetchone()

    with pytest.raises(DatabaseError, match=f"pid {reader.info.backend_pid} .*long report") as refused:
        lab.upgrade()

    assert refused.value.state == "Nothing was changed."
    waits = [event.reason for event in lab.events if isinstance(event, Waiting)]
    assert waits
    assert all(f"pid {reader.info.backend_pid}" in reason for reason in waits)
    after = connect().execute("SELECT pg_get_viewdef('documents_live'), (SELECT version FROM vecmig.route)").fetchone()
    assert (lab.live, after) == (SMALL, before)
    reader.rollback()
    assert lab.upgrade() == ["live"]


@pytest.mark.parametrize("way", ["forward", "back"])
def test_it_lets_others_pass_and_succeeds_once_the_reader_lets_go(lab: Lab, connect: Connect, way: str) -> None:
    """Between two tries it waits in no queue: who reads meanwhile need not wait until the first reader ends."""
    lab.upgrade("r1" if way == "forward" else "head")
    _alter_view(lab)
    holder = connect(autocommit=False)
    holder.execute("SELECT count(*) FROM documents_live")
    other = connect()
    reads: list[object] = []
    waits: list[str] = []

    def read() -> None:
        reads.append(other.execute("SELECT count(*) FROM documents_live").fetchone())

    def listen(event: Event) -> None:
        if isinstance(event, Waiting):
            waits.append(event.reason)
            # the first of these two may have begun before
            wanted = len(reads) + 2
            wait_for(lambda: len(reads) >= wanted)
            if len(waits) == 2:
                holder.rollback()

    with _loops(read) as errors:
        lab.upgrade(listener=listen) if way == "forward" else lab.downgrade(listener=listen)
    assert errors == []
    assert len(waits) == 2
    assert lab.live == (LARGE if way == "forward" else SMALL)


def test_expanding_gives_way_to_a_transaction_on_the_source(lab: Lab, connect: Connect) -> None:
    lab = lab.write(lock_wait=0.7)
    writer = connect(autocommit=False)
    writer.execute("UPDATE documents SET body = 'x' WHERE id = 1")
    with pytest.raises(DatabaseError, match=f"pid {writer.info.backend_pid}"):
        lab.upgrade()
    assert connect().execute("SELECT to_regclass('documents_vectors')").fetchone() == (None,)
    writer.commit()
    assert lab.upgrade("r1") == ["live"]


# The gate inside ---------------------------------------------------------------------------------------------------


def _at_cutover(change: Callable[[], Any]) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "cutover":
            change()

    return listen


def test_changes_between_gate_and_flip_are_seen(lab: Lab, connection: Connection) -> None:
    edit = _at_cutover(lambda: connection.execute("UPDATE documents SET body = 'late' WHERE id < 5"))
    with pytest.raises(GateRefused, match="freshness") as refused:
        lab.upgrade("r1", listener=edit)
    (freshness,) = (check for check in refused.value.checks if check.name == "freshness")
    assert freshness.detail == "4 records are stale and 0 missing"
    assert lab.live is None
    assert lab.upgrade("r1") == ["live"]


@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.upgraded("r1", until="index")
def test_a_transaction_that_commits_between_gate_and_flip_is_seen(lab: Lab, connect: Connect, savepoint: bool) -> None:
    """It wrote before the gate was measured, and was not visible then."""
    writer = connect(autocommit=False)
    writer.execute("INSERT INTO documents VALUES (21, 'x', NULL)")
    writer.execute("SAVEPOINT a" if savepoint else "SELECT")
    writer.execute("UPDATE documents SET body = 'open' WHERE id < 5")
    with pytest.raises(GateRefused, match="freshness"):
        lab.upgrade("r1", listener=_at_cutover(writer.commit))
    assert lab.live is None
    assert lab.upgrade("r1") == ["live"]


def test_changes_without_triggers_are_seen(bare_lab: Lab, make_source: Any, connection: Connection) -> None:
    make_source()
    lab = bare_lab.write(options={"change_tracking": "scan"})
    edit = _at_cutover(lambda: connection.execute("UPDATE documents SET body = 'late' WHERE id < 5"))
    with pytest.raises(GateRefused, match="freshness"):
        lab.upgrade("r1", listener=edit)
    assert lab.live is None


@pytest.mark.upgraded("r1")
def test_a_route_that_somebody_else_moved_stays_where_it_is(lab: Lab, connection: Connection) -> None:
    move = _at_cutover(lambda: connection.execute("UPDATE vecmig.route SET live = NULL"))
    with pytest.raises(DatabaseError, match="somebody moved it"):
        lab.upgrade(listener=move)
    assert lab.live is None
    assert connection.execute("SELECT DISTINCT tag FROM documents_live").fetchall() == [(SMALL,)]


@pytest.mark.upgraded("r1")
def test_a_flip_announces_itself_and_is_recorded(lab: Lab, connect: Connect) -> None:
    listener = connect()
    listener.execute("LISTEN vecmig_route")
    lab.upgrade()
    lab.downgrade()
    told = [json.loads(note.payload) for note in listener.notifies(timeout=30, stop_after=2)]
    assert [(note["collection"], note["live"]) for note in told] == [("documents", LARGE), ("documents", SMALL)]
    assert told[1]["version"] == told[0]["version"] + 1
    kinds = listener.execute("SELECT kind FROM vecmig.event WHERE revision = 'r2' ORDER BY id").fetchall()
    assert [kind for (kind,) in kinds] == ["expand", "backfill", "index", "cutover", "rollback"]


# What is read ------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_the_search_function_says_what_is_wrong(lab: Lab, connection: Connection) -> None:
    query = str(vector("x", 64).tolist())
    assert len(connection.execute("SELECT * FROM documents_search(%s::vector)", [query]).fetchall()) == 10
    with pytest.raises(psycopg.Error, match="is not live in documents") as wrong_tag:
        connection.execute("SELECT * FROM documents_search(%s::vector, 5, %s)", [query, LARGE])
    with pytest.raises(psycopg.Error, match="has 3 dimensions, the live tag of documents has 64") as wrong_dims:
        connection.execute("SELECT * FROM documents_search('[1,2,3]')")
    lab.downgrade()
    with pytest.raises(psycopg.Error, match="no tag is live in documents") as none:
        connection.execute("SELECT * FROM documents_search(%s::vector)", [query])
    assert [error.value.sqlstate for error in (wrong_tag, wrong_dims, none)] == ["VM001", "VM002", "VM003"]
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (0,)


@pytest.mark.upgraded("r1", records=4000, chain=("toy@1/dim-4/chunk-none/norm-l2", SMALL))
def test_plain_sql_on_the_live_view_uses_the_index(lab: Lab, connection: Connection) -> None:
    connection.execute("ANALYZE documents")
    plan = "EXPLAIN SELECT id FROM documents_live ORDER BY embedding <=> '[1,0,0,0]' LIMIT 5"
    assert "_hnsw" in str(connection.execute(plan).fetchall())
    report = lab.status()
    assert [tag.index.word for tag in report.tags] == ["valid"]


def test_the_source_may_gain_and_rename_columns(lab: Lab, connection: Connection) -> None:
    """Where the live view shows all of them."""
    lab.write(options={"live_columns": "all"}).upgrade("r1")
    connection.execute("ALTER TABLE documents ADD COLUMN author text, ADD COLUMN tag text")
    lab.upgrade()
    columns = [column.name for column in connection.execute("SELECT * FROM documents_live").description or ()]
    assert columns == ["id", "title", "body", "tag", "chunk", "embedding", "author"]
    connection.execute("ALTER TABLE documents RENAME COLUMN author TO writer")
    with pytest.raises(DatabaseError, match="author") as renamed:
        lab.downgrade()
    assert 'ALTER VIEW "public"."documents_live" RENAME COLUMN "author" TO' in renamed.value.hint
    assert lab.live == LARGE
    connection.execute('ALTER VIEW "public"."documents_live" RENAME COLUMN "author" TO "writer"')
    assert lab.downgrade() == ["r2"]


@pytest.mark.upgraded("r1")
def test_a_view_on_the_live_view_does_not_stand_in_the_way(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE VIEW mine AS SELECT id, title, embedding FROM documents_live")
    lab.upgrade()
    assert connection.execute("SELECT count(*) FROM mine").fetchone() == (20,)


@pytest.mark.upgraded
def test_reading_another_tag_than_the_live_one(lab: Lab) -> None:
    with lab.reader() as reader:
        (hit,) = reader.search("documents", _text(3), 1, tag=SMALL)
        assert (hit.tag, hit.key) == (SMALL, (3,))
        assert reader.live_tag("documents") == LARGE
        with pytest.raises(DatabaseError, match="has no tag"):
            reader.search("documents", "x", tag="toy@9/dim-64/chunk-none/norm-l2")


@pytest.mark.upgraded("r1")
def test_the_database_refuses_to_forget_who_did_what(lab: Lab, connection: Connection) -> None:
    for statement in ("UPDATE vecmig.event SET kind = 'x'", "DELETE FROM vecmig.event", "TRUNCATE vecmig.event"):
        with pytest.raises(psycopg.Error, match="append-only") as refused:
            connection.execute(statement)
        assert refused.value.sqlstate == "VM010"
    with pytest.raises(pg.GeneratedAlways):
        connection.execute("INSERT INTO vecmig.event (id, kind, version) VALUES (1, 'x', '0')")


_PROBES = """
CREATE SEQUENCE probes;
CREATE FUNCTION count_probe() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.nextval('public.probes')
    FROM pg_catalog.pg_event_trigger_ddl_commands() made, vecmig.route r
    WHERE made.schema_name = 'pg_temp' AND r.live IS NOT NULL
      AND r.xmin::text = pg_catalog.pg_current_xact_id()::xid::text;
END $$;
CREATE EVENT TRIGGER count_probe ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION count_probe()
"""


@pytest.mark.upgraded("r1", until="gate")
def test_the_columns_of_a_live_view_are_found_out_before_the_flip(lab: Lab, connection: Connection) -> None:
    """A session's first temporary object takes longer than the rest of the flip; a sequence outlives its savepoint."""
    connection.execute(_PROBES)
    assert lab.upgrade("r1") == ["live"]
    assert connection.execute("SELECT is_called FROM probes").fetchone() == (False,)
    columns = (
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'documents_live'::regclass"
    )
    (shown,) = connection.execute(columns).fetchone() or ([],)
    connection.execute("DROP VIEW documents_live")
    lab.downgrade()
    lab.upgrade("r1")
    assert connection.execute("SELECT is_called FROM probes").fetchone() == (False,)
    assert connection.execute(columns).fetchone() == (shown,)
