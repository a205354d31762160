"""Killed at any instant, many times over: nothing wrong is ever there, and little is paid for twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider, vector
from support.stamps import text_hash
from support.waiting import wait_for

TAG, NEXT = tag("fake", 8), tag("next", 8)
COUNT, BATCH, FLYING, KILLS = 600, 4, 4, 6
#: US dollars for a million tokens.
PRICE = 1_000.0


@pytest.fixture
def slow() -> Iterator[Provider]:
    """A provider that takes 20 ms for each request."""
    with Provider(dims=8, latency=0.02) as server:
        yield server


@pytest.fixture
def paid_for(project: Project, slow: Provider, vecmig: Vecmig) -> Project:
    """A project with room for the first tag, whose backfill takes 150 requests."""
    make_documents(project, COUNT)
    recipe = {"provider": "openai", "dims": 8, "base_url": slow.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe | {"price_per_million_tokens": PRICE}})
    script(project, "aaaa", TAG)
    vecmig("upgrade", "--until", "expand")
    return project


def kill_when(project: Project, slow: Provider, draw: random.Random) -> int:
    """Start a backfill, and kill it some requests and a random moment later; give its exit code."""
    already = len(slow.requests())
    wanted = already + draw.randint(0, 9)
    with project.start("backfill") as process:
        try:
            while process.poll() is None and len(slow.requests()) < wanted:
                time.sleep(0.005)
            time.sleep(draw.random() * 0.06)
        finally:
            process.send_signal(signal.SIGKILL)
        process.wait(60)
        wait_until_gone(project)
        return process.returncode


def wait_until_gone(project: Project) -> None:
    """Wait until the server has noticed that its clients are gone, and has finished what they had begun."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%%'"
    deadline = time.monotonic() + 60
    while project.sql(sessions) != [(0,)]:
        assert time.monotonic() < deadline, "the server keeps the sessions of a client that is gone"
        time.sleep(0.01)


def wrong(project: Project) -> list[object]:
    """Look at every vector that is there: fresh, whole, and the one of its text."""
    made = text_hash("title || ' ' || body")
    rows = project.sql(
        f"SELECT id, title || ' ' || body, source_hash = {made}, v.embedding::text, chunk "
        "FROM documents_vectors v LEFT JOIN documents USING (id)"
    )
    assert len({row[0] for row in rows}) == len(rows)
    return [
        (key, text)
        for key, text, fresh, embedding, chunk in rows
        if not fresh or chunk or not np.allclose(np.fromstring(embedding[1:-1], sep=","), vector(text, 8), atol=1e-6)
    ]


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments_of_the_backfill(paid_for: Project, slow: Provider, vecmig: Vecmig, seed: int) -> None:
    project = paid_for
    draw = random.Random(seed)
    kills = 0
    for _ in range(KILLS):
        kills += kill_when(project, slow, draw) == -signal.SIGKILL
        assert wrong(project) == []
    vecmig("upgrade", "--until", "index")
    assert wrong(project) == []
    assert project.sql("SELECT count(*) FROM documents_vectors") == [(COUNT,)]
    assert vecmig("status", "--json").json["collections"][0]["tags"][0]["coverage"] == 1.0

    sent = Counter(text for request in slow.requests() for text in request["inputs"] if text.startswith("title"))
    assert len(sent) == COUNT
    assert kills > KILLS // 2, "most of them were killed before they came to their end"
    assert sum(times - 1 for times in sent.values()) <= kills * FLYING * BATCH

    # the ledger knows of every token that was charged for, also of those whose answer nobody read any more
    ((tokens, usd),) = project.sql("SELECT tokens, usd FROM vecmig.spend")
    assert tokens >= slow.tokens()
    assert float(usd) == pytest.approx(tokens * PRICE / 1e6)
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"


def live_tag(project: Project) -> object:
    """Say what reads use: by the route, by the view and by the search function, which must agree."""
    ((live,),) = project.sql("SELECT live FROM vecmig.route")
    ((there,),) = project.sql("SELECT to_regclass('documents_live') IS NOT NULL")
    if live is None:
        assert not there
        return None
    assert project.sql("SELECT DISTINCT tag FROM documents_live") == [(live,)]
    some = "(SELECT embedding FROM documents_live LIMIT 1)"
    assert project.sql(f"SELECT count(*) FROM documents_search({some}, 5, %s)", live) == [(5,)], "or it is refused"
    return live


#: Where a switch of reads can be killed, as a trigger that waits there; and whether what was begun comes to its end.
_INSTANTS = {
    "TRIGGER held AFTER UPDATE ON vecmig.route FOR EACH ROW WHEN (OLD.live <> NEW.live)": False,
    "TRIGGER held AFTER INSERT ON vecmig.event FOR EACH ROW WHEN (NEW.kind IN ('cutover', 'rollback'))": False,
    "CONSTRAINT TRIGGER held AFTER INSERT ON vecmig.event DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
    "WHEN (NEW.kind IN ('cutover', 'rollback'))": True,
}
#: Locks have a timeout, sleep has none.
_HOLD = """
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT pg_try_advisory_xact_lock(7) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NULL;
END $$"""


@pytest.fixture
def candidate(project: Project, provider: Provider, vecmig: Vecmig) -> Project:
    """A project in which TAG is live, and everything is done for NEXT but the cutover."""
    make_documents(project)
    recipe = {"provider": "openai", "dims": 8, "base_url": provider.url}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe, NEXT: recipe})
    script(project, "aaaa", TAG)
    script(project, "bbbb", NEXT, old=TAG, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "--until", "index")
    return project


def test_killed_inside_the_cutover_and_inside_the_rollback(candidate: Project, vecmig: Vecmig) -> None:
    """The flip is one transaction: whenever the process ends, reads use one tag or the other."""
    project = candidate
    for command, before, after in ((("upgrade", "head"), TAG, NEXT), (("downgrade", "-1", "--no-hold"), NEXT, TAG)):
        assert live_tag(project) == before
        for instant, comes_to_its_end in _INSTANTS.items():
            project.sql(_HOLD)
            project.sql(f"CREATE {instant} EXECUTE FUNCTION public.hold()")
            kill_where_it_is_held(project, *command)
            project.sql("DROP FUNCTION public.hold CASCADE")
            assert live_tag(project) == (after if comes_to_its_end else before)
        vecmig(*command)
        assert live_tag(project) == after


def kill_where_it_is_held(project: Project, *command: str) -> None:
    """Run vecmig until the trigger holds it, kill it there, and let the server find out."""
    held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    with psycopg.connect(project.database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        with project.start(*command) as process:
            wait_for(lambda: project.sql(held) == [(1,)], process)
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
    wait_until_gone(project)


@contextmanager
def locked(project: Project) -> Iterator[None]:
    """Be the application that has read the live view in a transaction which it left open."""
    with psycopg.connect(project.database_url) as connection:
        connection.execute("SELECT FROM documents_live LIMIT 1")
        yield


def test_killed_while_the_cutover_waits_for_a_lock(candidate: Project, vecmig: Vecmig) -> None:
    project = candidate
    # the view is to be replaced, for which it must be free
    project.sql("ALTER VIEW documents_live RESET (security_invoker)")
    with project.start("upgrade") as process, locked(project):
        assert process.stderr is not None
        assert any(line.startswith("  waiting: a lock is taken by ") for line in process.stderr)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        wait_until_gone(project)
        assert live_tag(project) == TAG
    vecmig("upgrade")
    assert live_tag(project) == NEXT
