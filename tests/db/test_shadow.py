"""Shadow reads and the ramp: a second tag is asked in the background, or serves a share, and nobody feels it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from support import embedding
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import UsageError
from vecmig.ledger.shadows import record
from vecmig.reader import AsyncReader, Reader, shadow
from vecmig.reader.shadow import MOST_WAITING
from vecmig.runner import RouteChange
from vecmig.runner.project import Project

PATIENCE = 60
CHAIN = (SMALL, LARGE)


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def question(number: int) -> str:
    """Give the very text of a record."""
    return f"title {number}\n\nbody {number}"


def kept(lab: Lab) -> int:
    """Count the shadow reads that were kept."""
    return int(lab.sql("SELECT count(*) FROM vecmig.shadow")[0][0])


@contextmanager
def hanging(model: embedding.Model, dims: int) -> Iterator[threading.Event]:
    """Let the questions of one tag hang until the block ends; the event says that one does."""
    let_go, hangs = threading.Event(), threading.Event()

    def hang(texts: list[str], vectors: Any) -> Any:
        if vectors.shape[1] == dims:
            hangs.set()
            let_go.wait(PATIENCE)
        return vectors

    model.after = hang
    try:
        yield hangs
    finally:
        let_go.set()
        model.after = lambda texts, vectors: vectors


# Shadow reads -------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r2", until="index")
def test_the_other_tag_is_asked_too_and_what_differs_is_kept(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with lab.reader() as reader:
        for number in range(1, 11):
            assert reader.search("documents", question(number), 5)[0].tag == SMALL
        # who names a tag or brings a vector is not asked again
        reader.search("documents", question(1), 5, tag=SMALL)
        reader.search_vector("documents", embedding.vector("x", 64), tag=SMALL)
        eventually(lambda: kept(lab) == 10)
        assert reader.shadow_lost == 0
    rows = lab.sql(
        "SELECT live_tag, other_tag, k, overlap, rbo, top_changed, live_ms > 0, other_ms > 0, error, query "
        "FROM vecmig.shadow"
    )
    assert len(rows) == 10
    for live, other, k, overlap, rbo, top_changed, live_ms, other_ms, error, query in rows:
        # each record is its own nearest neighbour under both tags; what comes behind it is noise
        assert (live, other, k, top_changed, live_ms, other_ms, error, query) == (
            SMALL, LARGE, 5, False, True, True, None, None,
        )  # fmt: skip
        assert 0.2 <= overlap <= 1
        assert 0 < rbo <= 1


@pytest.mark.upgraded("r2", until="index")
def test_a_share_is_asked(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=0.2))
    with lab.reader() as reader:
        for _ in range(300):
            reader.search("documents", question(1), 1)
    # drawn 300 times with a share of 0.2: beyond these once in a hundred million
    assert 25 <= kept(lab) + reader.shadow_lost <= 105


@pytest.mark.upgraded("r2", until="index")
def test_questions_are_kept_in_words_only_when_asked(lab: Lab) -> None:
    for wanted, expected in ((None, None), (True, question(3)), (False, None)):
        runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0, keep_queries=wanted))
        lab.sql("TRUNCATE vecmig.shadow")
        with lab.reader() as reader:
            reader.search("documents", question(3), 3)
            eventually(lambda: kept(lab))
        assert lab.sql("SELECT query, length(query_hash) FROM vecmig.shadow") == [(expected, 32)]


@pytest.mark.upgraded("r2", until="index")
def test_filters_hold_for_the_other_tag(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with lab.reader() as reader:
        reader.search("documents", question(1), 10, where="id IN (%s, %s)", params=[4, 9])
        eventually(lambda: kept(lab))
    assert lab.sql("SELECT overlap FROM vecmig.shadow") == [(1.0,)]


@pytest.mark.upgraded("r2", until="index")
def test_a_provider_that_hangs_is_felt_by_nobody(lab: Lab, model: embedding.Model) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with lab.reader() as reader:
        reader.search("documents", question(1), 1, tag=LARGE)
        with hanging(model, 256) as hangs:
            answered = 0
            for _ in range(MOST_WAITING + 30):
                # the LRU has the live tag's vector, and the other's provider hangs: every answer comes all the same
                answered += len(reader.search("documents", question(2), 1))
                assert hangs.wait(PATIENCE)
            assert answered == MOST_WAITING + 30
            assert reader.shadow_lost == 29
            reader.close()
            # close() gives what waits a moment, not as long as the provider hangs
            assert "vecmig-shadow" in [thread.name for thread in threading.enumerate()]
            assert reader.shadow_lost == 29 + MOST_WAITING
        eventually(lambda: "vecmig-shadow" not in [thread.name for thread in threading.enumerate()])


@pytest.mark.upgraded("r2", until="index")
def test_a_provider_that_takes_long_to_open_holds_up_no_answer(lab: Lab, model: embedding.Model) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with lab.reader() as reader:
        with hanging(model, 256) as hangs:
            reader.search("documents", question(1), 1)
            assert hangs.wait(PATIENCE)
            # a question that was never asked, by the live tag's own embedder
            assert reader.search("documents", question(2), 1)[0].key == (2,)
        eventually(lambda: kept(lab) == 2)


@pytest.mark.upgraded("r2", until="index")
def test_a_provider_that_fails_is_counted_and_named(lab: Lab, model: embedding.Model) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0, keep_queries=True))

    def fail(texts: list[str], vectors: Any) -> Any:
        return vectors if vectors.shape[1] == 64 else np.full_like(vectors, np.nan)

    model.after = fail
    with lab.reader() as reader:
        assert reader.search("documents", question(1), 1)[0].key == (1,)
        eventually(lambda: kept(lab))
    rows = lab.sql("SELECT overlap, rbo, top_changed, other_ms, error FROM vecmig.shadow")
    assert [row[:4] for row in rows] == [(None, None, None, None)]
    assert rows[0][4].endswith("Error")
    (found,) = runner.compare(lab.config, "documents")
    assert (found.questions, found.overlap, sum(found.pair.errors.values())) == (0, None, 1)


@pytest.mark.upgraded("r2", until="index")
def test_a_role_that_may_not_keep_them_stops_asking(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    role = f"shadowless_{os.getpid()}"
    lab.sql(f"CREATE ROLE {role} LOGIN")
    try:
        lab.sql(f"GRANT SELECT ON documents, documents_vectors TO {role}; GRANT USAGE ON SCHEMA vecmig TO {role}")
        lab.sql(f"GRANT SELECT ON vecmig.schema_version, vecmig.collection, vecmig.tag, vecmig.route TO {role}")
        runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
        with caplog.at_level(logging.WARNING, "vecmig.reader"), _as(lab, role) as reader:
            assert reader.search("documents", question(1), 1)[0].key == (1,)
            eventually(lambda: reader.shadow_lost == 1)
            for number in range(2, 6):
                assert reader.search("documents", question(number), 1)[0].key == (number,)
            assert reader.shadow_lost == 5
            messages = [record.message for record in caplog.records if record.name == "vecmig.reader"]
            assert len(messages) == 1
            assert "permission denied for table shadow" in messages[0]
            # granted, it goes on as soon as the route is set anew
            lab.sql(f"GRANT INSERT ON vecmig.shadow TO {role}")
            runner.route(lab.config, "documents", RouteChange(share=0.99999))
            eventually(lambda: reader.search("documents", question(7), 1) and kept(lab))
    finally:
        lab.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _as(lab: Lab, role: str) -> Reader:
    return lab.reader(lab.url.replace("postgres@", f"{role}@"))


@pytest.mark.upgraded("r2", until="index")
def test_both_searches_are_prepared(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[str] = []

    def look(connection: Any, schema: str, found: Any) -> None:
        prepared.extend(row[0] for row in connection.execute("SELECT statement FROM pg_prepared_statements"))
        record(connection, schema, found)

    monkeypatch.setattr(shadow, "record", look)
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with lab.reader() as reader:
        reader.search("documents", question(1), 3)
        eventually(lambda: kept(lab))
        with reader._own.pool._pool.connection() as connection:
            live = [row[0] for row in connection.execute("SELECT statement FROM pg_prepared_statements")]
    assert {statement.replace(LARGE, SMALL).replace("256", "64") for statement in prepared} == set(live)


class _Clock:
    """Stands still unless it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.mark.upgraded("r2", until="index")
def test_waiting_for_a_connection_does_not_count(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))
    with Reader(lab.url, recipes=Project(lab.config).collections.recipes, connections=1) as reader:
        reader.search("documents", question(1), 3, tag=SMALL)
        pool = reader._own.pool._pool
        clock = _Clock(monkeypatch)
        thread = threading.Thread(target=reader.search, args=["documents", question(1), 3])
        with pool.connection():
            thread.start()
            eventually(lambda: pool.get_stats()["requests_waiting"])
            clock.now += 1_000
        thread.join()
        eventually(lambda: kept(lab))
    assert lab.sql("SELECT live_ms, other_ms FROM vecmig.shadow") == [(0, 0)]


@pytest.mark.upgraded("r2", until="index")
def test_waiting_for_a_connection_does_not_count_where_it_is_awaited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0))

    async def ask() -> None:
        recipes = Project(lab.config).collections.recipes
        async with AsyncReader(lab.url, recipes=recipes, connections=1) as reader:
            await reader.search("documents", question(1), 3, tag=SMALL)
            pool = reader._own.pool._pool
            clock = _Clock(monkeypatch)
            async with pool.connection():
                asked = asyncio.create_task(reader.search("documents", question(1), 3))
                await asyncio.to_thread(eventually, lambda: pool.get_stats()["requests_waiting"])
                clock.now += 1_000
            await asked
            await asyncio.to_thread(eventually, lambda: kept(lab))

    asyncio.run(ask())
    assert lab.sql("SELECT live_ms, other_ms FROM vecmig.shadow") == [(0, 0)]


@pytest.mark.upgraded("r2", until="index")
def test_the_comparison_goes_on_after_the_cutover_with_the_parts_exchanged(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=0.5, ramp=10, keep_queries=True))
    lab.upgrade()
    now = runner.route(lab.config, "documents")
    assert (now.live, now.shadow, now.shadow_share, now.keep_queries, now.ramp_share) == (LARGE, SMALL, 0.5, True, 0)
    lab.downgrade()
    back = runner.route(lab.config, "documents")
    assert (back.live, back.shadow, back.ramp_share) == (SMALL, None, 0)


@pytest.mark.upgraded("r2", until="index")
def test_a_revision_that_is_taken_back_takes_shadow_and_ramp_along(lab: Lab) -> None:
    with lab.reader() as reader:
        reader.search("documents", question(1), 1)
        runner.route(lab.config, "documents", RouteChange(shadow=LARGE, ramp=100))
        eventually(lambda: reader.search("documents", question(1), 1)[0].tag == LARGE)
        lab.downgrade(discard=True)
        # never an empty answer, though the candidate's vectors are gone
        assert reader.search("documents", question(1), 1)[0].tag == SMALL
        now = runner.route(lab.config, "documents")
        assert (now.candidate, now.shadow, now.ramp_share) == (None, None, 0)
        lab.upgrade(until="index")
        assert runner.route(lab.config, "documents").ramp_share == 0


# The ramp -----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r2", until="index")
def test_a_share_of_the_callers_is_served_by_the_candidate_and_keeps_it(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(ramp=30))
    callers = [f"user {number}" for number in range(120)]
    with lab.reader() as reader, lab.reader() as another:

        def served(by: Reader) -> dict[str, str]:
            return {caller: by.search("documents", question(1), 1, caller=caller)[0].tag for caller in callers}

        first = served(reader)
        assert served(reader) == first == served(another)
        # drawn 120 times with a share of 0.3
        assert 15 <= Counter(first.values())[LARGE] <= 60
        assert reader.live_tag("documents") == SMALL
        runner.route(lab.config, "documents", RouteChange(ramp=60))
        eventually(lambda: Counter(served(reader).values())[LARGE] > Counter(first.values())[LARGE])
        # who had the candidate keeps it while the ramp goes up
        assert {caller for caller, tag in first.items() if tag == LARGE} <= {
            caller for caller, tag in served(reader).items() if tag == LARGE
        }
        runner.route(lab.config, "documents", RouteChange(ramp=0))
        eventually(lambda: set(served(reader).values()) == {SMALL})


@pytest.mark.upgraded("r2", until="index")
def test_without_a_caller_each_search_is_drawn(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(ramp=50))
    with lab.reader() as reader:
        tags = Counter(reader.search("documents", question(1), 1)[0].tag for _ in range(100))
    assert 20 <= tags[LARGE] <= 80


@pytest.mark.upgraded("r2", until="index")
def test_a_question_that_is_embedded_alone_is_not_ramped(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(ramp=100))
    with lab.reader() as reader:
        assert reader.search("documents", question(1), 1)[0].tag == LARGE
        tag, vector = reader.embed("documents", question(1))
        assert (tag, vector.shape) == (SMALL, (64,))
        # what it is for: the search function and the live view stay with the live tag
        asked = "SELECT id FROM documents_search(%s::vector, 1, %s)"
        assert lab.sql(asked, str(vector.tolist()), tag) == [(1,)]
        assert lab.sql("SELECT count(*) FROM documents_live WHERE tag = %s", tag) == [(20,)]
        assert reader.embed("documents", question(1), tag=LARGE).tag == LARGE


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reads", "problem"),
    [
        (RouteChange(shadow=SMALL), "is the live tag of documents"),
        (RouteChange(shadow="toy@9/dim-4/chunk-none/norm-l2"), "is not kept complete in documents"),
        (RouteChange(shadow="latest"), "is not a tag"),
        (RouteChange(shadow=LARGE, share=0.0), "--share 0 is not a share above 0"),
        (RouteChange(shadow=LARGE, share=1.5), "--share 1.5 is not a share above 0"),
        (RouteChange(share=0.5), "No other tag is asked too"),
        (RouteChange(keep_queries=True), "No other tag is asked too"),
        (RouteChange(ramp=101), "--ramp 101 is not a percentage"),
        (RouteChange(ramp=-1), "--ramp -1 is not a percentage"),
        (RouteChange(ramp=float("nan")), "--ramp nan is not a percentage"),
    ],
)
@pytest.mark.upgraded("r2", until="index")
def test_what_does_not_fit_is_refused_and_changes_nothing(lab: Lab, reads: RouteChange, problem: str) -> None:
    before = runner.route(lab.config, "documents")
    events = lab.sql("SELECT count(*) FROM vecmig.event")
    with pytest.raises(UsageError, match=problem):
        runner.route(lab.config, "documents", reads)
    assert runner.route(lab.config, "documents") == before
    assert lab.sql("SELECT count(*) FROM vecmig.event") == events


def test_a_candidate_that_is_not_ready_serves_nobody(lab: Lab) -> None:
    with pytest.raises(UsageError, match="Nothing of documents is searched yet"):
        runner.route(lab.config, "documents", RouteChange(ramp=10))
    lab.upgrade("r1")
    with pytest.raises(UsageError, match="No revision is in progress in documents"):
        runner.route(lab.config, "documents", RouteChange(ramp=10))
    lab.upgrade(until="backfill")
    with pytest.raises(UsageError, match="has no index"):
        runner.route(lab.config, "documents", RouteChange(ramp=10))
    with pytest.raises(UsageError, match="has no index"):
        runner.route(lab.config, "documents", RouteChange(shadow=LARGE))
    lab.upgrade(until="index")
    lab.sql("INSERT INTO documents VALUES (21, 'title 21', 'body 21')")
    with pytest.raises(UsageError, match=r"covers 95.23 % of the records .* revision r2 asks for 99.5 %"):
        runner.route(lab.config, "documents", RouteChange(ramp=10))
    lab.backfill()
    assert runner.route(lab.config, "documents", RouteChange(ramp=10)).ramp_share == pytest.approx(0.1)


@pytest.mark.upgraded("r2", until="index")
def test_each_change_bumps_the_version_and_leaves_an_event(lab: Lab) -> None:
    before = runner.route(lab.config, "documents")
    after = runner.route(lab.config, "documents", RouteChange(shadow=LARGE, ramp=5))
    assert after.version == before.version + 1
    assert after.shadow_share == pytest.approx(0.05)
    ((kind, tag, data),) = lab.sql("SELECT kind, tag, data FROM vecmig.event ORDER BY id DESC LIMIT 1")
    assert (kind, tag) == ("route", LARGE)
    assert data == {"shadow_tag": LARGE, "shadow_share": 0.05, "keep_queries": False, "ramp_share": 0.05}
    off = runner.route(lab.config, "documents", RouteChange(no_shadow=True, ramp=0))
    assert (off.shadow, off.shadow_share, off.ramp_share) == (None, 0, 0)


@pytest.mark.upgraded("r2", until="index")
def test_the_comparison_tells_averages_intervals_and_the_worst_questions(lab: Lab) -> None:
    runner.route(lab.config, "documents", RouteChange(shadow=LARGE, share=1.0, keep_queries=True))
    with lab.reader() as reader:
        for number in [*range(1, 11), 1, 1, 1]:
            reader.search("documents", question(number), 5)
        eventually(lambda: kept(lab) == 13)
    (found,) = runner.compare(lab.config, "documents", worst=3)
    assert (found.pair.live_tag, found.pair.other_tag, found.pair.samples, found.questions, found.k) == (
        SMALL, LARGE, 13, 10, 5,
    )  # fmt: skip
    assert found.overlap is not None
    assert found.rbo is not None
    assert found.top_changed is not None
    assert found.overlap.low <= found.overlap.value <= found.overlap.high
    assert found.rbo.low <= found.rbo.value <= found.rbo.high
    assert (found.top_changed.value, found.top_changed.low) == (0, 0)
    assert found.top_changed.high == pytest.approx(0.2775, abs=1e-3)
    assert [one.rbo for one in found.worst] == sorted(one.rbo for one in found.worst)
    assert len(found.worst) == 3
    assert all(one.text is not None and one.text.startswith("title") for one in found.worst)
