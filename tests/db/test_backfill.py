"""A vector never lies about its text, a record is whole, re-running is resuming, and nothing is paid for twice."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.embedding import Model, vector
from support.lab import CHUNKED, SMALL, Lab, recipe
from support.postgres import Connect
from support.stamps import text_hash
from vecmig.errors import DatabaseUnreachable, PoisonInputError, TerminalEmbedderError
from vecmig.events import Progress, Waiting, Warned
from vecmig.homes.partition.writing import write_records

Connection = psycopg.Connection[Any]

HASH = text_hash("s.title || E'\\n\\n' || s.body")
LIES = f"""
SELECT count(*) FROM documents_vectors v LEFT JOIN documents s USING (id)
WHERE s.id IS NULL OR v.source_hash <> {HASH}
"""


def _once(change: Callable[[], Any]) -> Callable[[list[str]], None]:
    """Run a change the first time that the model is asked, in the middle of a backfill."""
    lock = threading.Lock()
    done: list[bool] = []

    def before(texts: list[str]) -> None:
        with lock:
            if not done:
                done.append(True)
                change()

    return before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE documents SET body = 'edited while it was embedded'",
        "DELETE FROM documents WHERE id % 2 = 0",
        "UPDATE documents SET id = id + 1000",
        "UPDATE documents SET id = 21 - id",  # the keys swap places
        "UPDATE documents SET body = NULL WHERE id < 5",
        "TRUNCATE documents",
        "DELETE FROM documents; INSERT INTO documents SELECT n, 'again', n FROM generate_series(1, 20) n",
        "ALTER TABLE documents DISABLE TRIGGER USER; UPDATE documents SET body = 'y'; DELETE FROM documents",
        "SET session_replication_role = replica; UPDATE documents SET body = 'y'; DELETE FROM documents WHERE id = 1",
    ],
)
@pytest.mark.parametrize("tag", [SMALL, CHUNKED])
def test_records_that_change_while_they_are_embedded(
    lab: Lab, model: Model, connect: Connect, change: str, tag: str
) -> None:
    """Between reading and writing everything may happen; at the end each vector is of the text as it is now."""
    lab = lab.write(chain=(tag,))
    if "SET id = 21" in change:
        connect().execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey")
        connect().execute("ALTER TABLE documents ADD PRIMARY KEY (id) DEFERRABLE")
    model.before = _once(lambda: connect().execute(change))

    lab.upgrade(until="backfill")

    assert connect().execute(LIES).fetchone() == (0,)
    found = lab.cover(tag)
    assert found.fresh == found.eligible


def test_a_record_edited_at_every_request_ends_stale_not_wrong(lab: Lab, model: Model, connection: Connection) -> None:
    """An application that is faster than the provider: the run ends, and what it could not settle stays pending."""
    numbers = iter(range(10_000))
    lock = threading.Lock()

    def edit(texts: list[str]) -> None:
        with lock:
            connection.execute("UPDATE documents SET body = %s WHERE id = 7", [f"edit {next(numbers)}"])

    model.before = edit
    lab.upgrade(until="backfill")
    found = lab.cover(SMALL)
    assert (found.fresh, found.eligible) == (19, 20)
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE id = 7").fetchone() == (0,)
    assert lab.status().outbox.records == 1
    model.before = lambda texts: None
    assert lab.backfill().fresh == 20
    assert connection.execute(LIES).fetchone() == (0,)
    assert lab.status().outbox.records == 0


def test_no_transaction_is_open_while_the_provider_is_called(lab: Lab, model: Model, connect: Connect) -> None:
    # one request at a time, so that no other batch is being written meanwhile
    lab = lab.write(recipes={tag: recipe(tag, concurrency=1) for tag in lab.chain})
    seen: list[tuple[Any, ...]] = []
    watch = connect(application_name="watch")
    lock = threading.Lock()

    def look(texts: list[str]) -> None:
        with lock:
            seen.extend(
                watch.execute(
                    "SELECT state, backend_xid, query FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'vecmig%' AND state <> 'active' "
                    "AND (state LIKE 'idle in transaction%' OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)"
                ).fetchall()
            )

    model.before = look
    lab.upgrade()
    lab.sync()
    assert model.total() >= 40
    assert seen == []


# Resuming ----------------------------------------------------------------------------------------------------------


def test_a_provider_that_fails_halfway_is_resumed(lab: Lab, model: Model) -> None:
    calls = itertools.count(1)
    lock = threading.Lock()

    def fail(texts: list[str]) -> None:
        with lock:
            second = next(calls) == 2
        if second:
            raise TerminalEmbedderError("The quota is used up.")

    model.before = fail
    with pytest.raises(TerminalEmbedderError, match="quota"):
        lab.upgrade()
    paid = model.total()
    assert lab.cover(SMALL).fresh == paid > 0
    assert lab.live is None
    model.before = lambda texts: None
    lab.upgrade("r1", until="backfill")
    assert set(model.embedded.values()) == {1}


END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%'"


def _ending(connect: Connect, *moments: int) -> Callable[[list[str]], None]:
    """End all of vecmig's connections at the requests of these numbers."""
    calls = itertools.count(1)
    lock = threading.Lock()

    def before(texts: list[str]) -> None:
        with lock:
            due = next(calls) in moments
        if due:
            connect().execute(END_ALL)

    return before


def test_a_database_that_goes_away_is_waited_for(lab: Lab, model: Model, connect: Connect) -> None:
    """What was embedded meanwhile is written on the next connection, so nothing is paid for twice."""
    lab = lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, max_batch=1)})
    model.before = _ending(connect, 1, 2, 9, 20)
    lab.upgrade(until="backfill")
    assert connect().execute(LIES).fetchone() == (0,)
    assert lab.cover(SMALL).fresh == 20
    assert set(model.embedded.values()) == {1}
    waits = [event for event in lab.events if isinstance(event, Waiting)]
    assert any("terminating connection" in event.reason for event in waits)


def test_a_database_that_goes_away_is_resumed_where_nobody_wants_to_wait(
    lab: Lab, model: Model, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIG_RECONNECT_WAIT", "0")
    model.before = _ending(connect, 2)
    with pytest.raises(DatabaseUnreachable, match=r"terminating|closed"):
        lab.upgrade("r1")
    assert connect().execute(LIES).fetchone() == (0,)
    model.before = lambda texts: None
    lab.upgrade("r1", until="backfill")
    # lost at most what was in flight: two requests at once, of eight texts each
    assert model.total() <= 20 + 2 * 8
    assert lab.cover(SMALL).fresh == 20


@pytest.mark.upgraded("r1", until="expand")
def test_a_limit_stops_part_way(lab: Lab, model: Model) -> None:
    assert lab.backfill(limit=7).fresh == 7
    assert lab.backfill(limit=7).fresh == 14
    assert lab.backfill().fresh == 20
    assert lab.backfill().fresh == 20
    assert set(model.embedded.values()) == {1}


def test_progress_never_promises_more_than_there_is(lab: Lab, model: Model) -> None:
    lab.upgrade("r1", until="backfill")
    told = [event for event in lab.events if isinstance(event, Progress)]
    assert told[-1].done == told[-1].total == 20
    assert told[-1].coverage == 1.0
    assert all(event.coverage <= event.done / 20 for event in told)


@pytest.mark.upgraded
def test_an_edited_record_is_embedded_again_and_only_that(lab: Lab, model: Model, connection: Connection) -> None:
    before = model.total()
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    connection.execute("UPDATE documents SET body = body, title = title WHERE id > 10")
    assert lab.cover(SMALL).stale == 1
    lab.sync()
    assert model.total() == before + 2
    assert lab.status().outbox.records == 0


def test_texts_that_are_equal_are_records_of_their_own(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET title = 'same', body = 'same'")
    lab.upgrade()
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)


@pytest.mark.parametrize("tag", [SMALL, CHUNKED])
def test_an_application_that_edits_adds_and_deletes_during_the_whole_run(
    bare_lab: Lab, make_source: Any, model: Model, connect: Connect, tag: str
) -> None:
    """Three writers with connections of their own, from before the first request until after the last one."""
    make_source(300)
    lab = bare_lab.write(chain=(tag,))
    over = threading.Event()
    failures: list[BaseException] = []
    # each of them in a long run of its own: vecmig sees a part of what it does before, during and after its pages
    begun = threading.Barrier(4)

    def write(seed: int) -> None:
        draw = random.Random(seed)
        connection = connect()
        try:
            begun.wait(60)
            while not over.is_set():
                _change_something(connection, draw, seed)
        except BaseException as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        begun.wait(60)
        lab.upgrade(until="backfill")
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert lab.upgrade() == ["live"], "what was left is caught up with before the flip"
    found = lab.cover(tag)
    assert (found.fresh, found.stale, found.missing, found.rejected) == (found.eligible, 0, 0, 0)
    assert connect().execute(LIES).fetchone() == (0,)
    assert lab.status().outbox.records == 0
    records = connect().execute("SELECT count(*) FROM documents").fetchone()
    assert connect().execute("SELECT count(DISTINCT id) FROM documents_vectors").fetchone() == records
    written = connect().execute(
        "SELECT coalesce(chunk_text, title || E'\\n\\n' || body), v.embedding::text "
        "FROM documents_vectors v JOIN documents USING (id)"
    )
    dims = lab.stamps(tag).dims
    for text, embedding in written:
        assert np.allclose(np.fromstring(embedding[1:-1], sep=","), vector(text, dims), atol=1e-6)


def _change_something(connection: Connection, draw: random.Random, seed: int) -> None:
    key = draw.randint(1, 300)
    what = draw.randrange(4)
    if what == 0:
        # only its own: two that delete and add one key would be in each other's way
        connection.execute("DELETE FROM documents WHERE id = %s", [key - key % 3 + seed])
    elif what == 1:
        values = [key - key % 3 + seed, draw.random()]
        connection.execute("INSERT INTO documents VALUES (%s, 'added', %s) ON CONFLICT DO NOTHING", values)
    else:
        connection.execute("UPDATE documents SET body = %s WHERE id = %s", [f"edited {draw.random()}", key])


# What has no vector ------------------------------------------------------------------------------------------------


def test_blank_texts_are_counted_apart(lab: Lab, connection: Connection, model: Model) -> None:
    connection.execute("UPDATE documents SET body = NULL WHERE id = 1")
    connection.execute("UPDATE documents SET title = ' ', body = E'\\t\\n ' WHERE id = 2")
    assert lab.upgrade("r1") == ["live"]
    found = lab.cover(SMALL)
    assert (found.records, found.eligible, found.fresh, found.missing, found.share) == (20, 18, 18, 0, 1.0)
    connection.execute("UPDATE documents SET body = NULL WHERE id = 3")
    lab.sync()
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (17,)
    assert lab.status().outbox.records == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0.0, "zero norm")],
)
def test_a_vector_that_cannot_be_stored_is_rejected(
    lab: Lab, model: Model, connection: Connection, spoil: float, reason: str
) -> None:
    lab = lab.write(coverage=0.95, chain=(SMALL,))

    def after(texts: list[str], vectors: Any) -> Any:
        bad = [i for i, text in enumerate(texts) if text.endswith("body 13")]
        vectors[bad] = spoil
        return vectors

    model.after = after
    assert lab.upgrade() == ["live"]
    found = lab.cover(SMALL)
    assert (found.fresh, found.rejected, found.unaccounted, found.missing) == (19, 1, 0, 0)
    assert reason in connection.execute("SELECT reason FROM vecmig.rejected").fetchone()[0]  # type: ignore[index]
    assert any(isinstance(event, Warned) and "Record 13" in event.message for event in lab.events)
    lab.sync()
    assert model.embedded[64, "title 13\n\nbody 13"] == 1
    connection.execute("UPDATE documents SET body = 'better' WHERE id = 13")
    lab.sync()
    assert lab.cover(SMALL).share == 1.0
    assert connection.execute("SELECT count(*) FROM vecmig.rejected").fetchone() == (0,)


HUGE, TINY_NUMBERS = 1e6, 1e-9


@pytest.mark.parametrize(
    ("kind", "factor", "reason"),
    [
        ("halfvec cosine none", HUGE, "rounded to halfvec, the vector holds NaN or infinity"),
        ("halfvec l2 none", HUGE, "rounded to halfvec, the vector holds NaN or infinity"),
        ("halfvec cosine none", TINY_NUMBERS, "rounded to halfvec, the vector has zero norm"),
        ("halfvec cosine l2", HUGE, None),
        ("halfvec cosine l2", TINY_NUMBERS, None),
        ("vector cosine none", HUGE, None),
        ("vector cosine none", TINY_NUMBERS, None),
        ("vector ip none", 0.0, "the vector has zero norm"),
    ],
)
def test_what_the_database_would_refuse_is_rejected_and_the_rest_written(
    lab: Lab, model: Model, kind: str, factor: float, reason: str | None
) -> None:
    storage, metric, norm = kind.split()
    tag = f"toy@1/dim-64/chunk-none/norm-{norm}"
    lab = lab.write(chain=(tag,), coverage=0.9, options={"storage": storage, "metric": metric})
    model.after = lambda texts, vectors: vectors * np.array([[factor if t.endswith(" 13") else 1.0] for t in texts])
    assert lab.upgrade() == ["live"]
    assert lab.cover(tag).fresh == (20 if reason is None else 19)
    assert lab.sql("SELECT key, reason FROM vecmig.rejected") == ([] if reason is None else [([13], reason)])


def test_a_length_at_the_edge_of_what_norm_l2_allows_fails_only_its_record(lab: Lab, model: Model) -> None:
    recipes = {SMALL: recipe(SMALL, normalise="verify")}
    lab = lab.write(chain=(SMALL,), coverage=0.9, options={"storage": "halfvec"}, recipes=recipes)
    # within the tolerance, until it is rounded to half precision
    edge = np.where(np.arange(64) < 6, 0.99002 / np.sqrt(6), 0)
    model.after = lambda texts, vectors: np.array(
        [edge if text.endswith(" 13") else vectors[row] for row, text in enumerate(texts)], dtype=np.float32
    )
    assert lab.upgrade() == ["live"]
    assert lab.sql("SELECT key FROM vecmig.rejected") == [([13],)]


def test_a_long_record_is_sent_in_calls_that_the_provider_takes(
    bare_lab: Lab, make_source: Any, model: Model, connection: Connection
) -> None:
    make_source()
    connection.execute("UPDATE documents SET body = repeat('word ', 40) WHERE id = 3")

    def refuse(texts: list[str]) -> None:
        if sum(-(-len(text) // 3) for text in texts) > 30:
            raise PoisonInputError("Too many tokens in one request.")

    model.before = refuse
    lab = bare_lab.write(
        text="body", chain=(CHUNKED,), recipes={CHUNKED: recipe(CHUNKED, max_batch=100, max_batch_tokens=30)}
    )
    assert lab.upgrade() == ["live"]
    assert lab.cover(CHUNKED).share == 1.0


def test_one_poisonous_text_is_found_among_many(
    bare_lab: Lab, make_source: Any, model: Model, connection: Connection
) -> None:
    make_source(50)
    lab = bare_lab.write(coverage=0.9, chain=(SMALL,))

    def refuse(texts: list[str]) -> None:
        if any(text.endswith(("body 7", "body 33")) for text in texts):
            raise PoisonInputError("The provider refuses this text.")

    model.before = refuse
    lab.upgrade(until="backfill")
    assert connection.execute("SELECT key FROM vecmig.rejected ORDER BY 1").fetchall() == [([7],), ([33],)]
    assert model.total() == 48
    assert set(model.embedded.values()) == {1}


@pytest.mark.upgraded(chain=(SMALL,))
def test_a_record_that_was_fresh_and_becomes_poison_counts_as_rejected(
    lab: Lab, model: Model, connection: Connection
) -> None:
    connection.execute("UPDATE documents SET body = 'poison' WHERE id = 5")
    model.after = lambda texts, vectors: vectors * np.array([["poison" not in text] for text in texts])
    lab.sync()
    found = lab.cover(SMALL)
    assert (found.fresh, found.stale, found.rejected, found.unaccounted) == (19, 0, 1, 0)


# Sweeping ----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_deleted_record_takes_its_vectors_along(lab: Lab, connection: Connection) -> None:
    connection.execute("DELETE FROM documents WHERE id = 4")
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE id = 4").fetchone() == (0,)
    connection.execute("TRUNCATE documents")
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM vecmig.change").fetchone() == (0,)


@pytest.mark.upgraded
def test_a_deletion_that_is_rolled_back_keeps_them(lab: Lab, connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("TRUNCATE documents")
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (40,)


@pytest.mark.upgraded
def test_what_disabled_triggers_missed_is_found_by_hash(lab: Lab, connection: Connection, model: Model) -> None:
    before = model.total()
    connection.execute("SET session_replication_role = replica")
    connection.execute("UPDATE documents SET body = 'replicated' WHERE id = 1")
    connection.execute("DELETE FROM documents WHERE id = 2")
    assert lab.status().outbox.records == 0
    assert lab.cover(SMALL).stale == lab.cover(SMALL).unaccounted == 1
    assert connection.execute("SELECT count(*) FROM documents_live WHERE id = 2").fetchone() == (0,)
    lab.sync()
    assert connection.execute(LIES).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM documents_vectors").fetchone() == (38,)
    assert model.total() == before + 2


# Chunks ------------------------------------------------------------------------------------------------------------

WHOLE = """
SELECT count(*) FROM (
    SELECT id, count(*) AS chunks, max(chunk) AS last, min(chunk) AS first, count(DISTINCT source_hash) AS hashes,
           string_agg(chunk_text, '' ORDER BY chunk) AS joined
    FROM documents_vectors GROUP BY id) v
JOIN documents s USING (id)
WHERE chunks <> last + 1 OR first <> 0 OR hashes <> 1 OR joined <> replace(s.body, ' ', '')
"""


def test_records_of_many_chunks_are_whole_at_every_moment(
    bare_lab: Lab, make_source: Any, model: Model, connection: Connection, connect: Connect
) -> None:
    make_source()
    connection.execute("UPDATE documents SET body = repeat('word' || id || ' ', id::int)")
    lab = bare_lab.write(text="body", chain=(CHUNKED,))
    watch = connect()
    broken: list[Any] = []
    calls = itertools.count(1)
    lock = threading.Lock()

    def before(texts: list[str]) -> None:
        with lock:
            broken.append(watch.execute(WHOLE).fetchone())
            if next(calls) == 2:
                raise TerminalEmbedderError("The provider went away.")

    model.before = before
    for _ in range(3):
        calls = itertools.count(1)
        with pytest.raises(TerminalEmbedderError):
            lab.upgrade()
        assert connection.execute(WHOLE).fetchone() == (0,)
    calls = itertools.count(3)
    assert lab.upgrade() == ["live"]
    assert set(broken) == {(0,)}
    assert connection.execute("SELECT count(DISTINCT id) FROM documents_vectors").fetchone() == (20,)


@pytest.fixture
def chunk_lab(bare_lab: Lab, make_source: Any) -> Lab:
    """A chunked collection, live."""
    make_source()
    lab = bare_lab.write(text="body", chain=(CHUNKED,))
    lab.upgrade()
    return lab


def test_texts_shrink_and_grow_without_surplus_chunks(chunk_lab: Lab, connection: Connection) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.integers(0, 30), min_size=20, max_size=20))
    def holds(words: list[int]) -> None:
        for key, count in enumerate(words, start=1):
            connection.execute("UPDATE documents SET body = %s WHERE id = %s", [f"word{key} " * count, key])
        chunk_lab.sync()
        assert connection.execute(WHOLE).fetchone() == (0,)
        there = connection.execute("SELECT count(DISTINCT id) FROM documents_vectors").fetchone()
        assert there == (sum(count > 0 for count in words),)
        assert chunk_lab.cover(CHUNKED).share == 1.0

    holds()


# Locks of the application ------------------------------------------------------------------------------------------


def test_a_locked_row_holds_up_neither_side_for_ever(lab: Lab, model: Model, connect: Connect) -> None:
    """An application locks rows in its own order; it must never be the one that dies in a deadlock with vecmig."""
    application = connect(autocommit=False)
    locked = threading.Event()

    def lock() -> None:
        application.execute("SELECT FROM documents WHERE id = 20 FOR UPDATE")
        locked.set()

    model.before = _once(lock)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            lab.upgrade("r1", until="backfill")
        except BaseException as error:  # noqa: BLE001  # shown below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert locked.wait(60)
        thread.join(0.5)  # vecmig has its vectors and finds the row locked
        assert thread.is_alive()
        application.execute("SET lock_timeout = '8s'")
        for key in range(1, 20):
            application.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", [key])
    finally:
        application.commit()
        thread.join(30)
    assert not thread.is_alive()
    assert errors == []
    assert lab.cover(SMALL).fresh == 20


@pytest.mark.upgraded(chain=(SMALL,))
def test_a_mistake_in_where_costs_no_vector(lab: Lab, model: Model) -> None:
    """A sync with a condition that leaves everything out deletes nothing; with the right one again nothing is paid."""
    before = model.total()
    lab.write(options={"where": "id < 0"}).sync()
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    assert lab.write().sync()["documents", SMALL].fresh == 20
    assert model.total() == before


def test_a_row_that_stays_locked_is_not_paid_for_in_every_pass(
    lab: Lab, model: Model, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a row that is held is tried for a second, not for ten
    monkeypatch.setattr("vecmig.homes.partition.write_records", partial(write_records, patience=1.0))
    application = connect(autocommit=False)
    model.before = _once(lambda: application.execute("SELECT FROM documents WHERE id = 20 FOR UPDATE"))
    lab.upgrade("r1", until="backfill")
    application.rollback()
    assert lab.cover(SMALL).fresh == 19
    assert model.total() == 20 + 1
