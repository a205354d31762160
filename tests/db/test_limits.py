"""What a run holds at once, and how much of a provider it uses: batches, requests in flight, memory, order."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from support.embedding import Model
from support.lab import SMALL, Lab, recipe
from support.provider import Provider
from support.waiting import try_again_at_once
from vecmig.backfill.batches import batch_size
from vecmig.backfill.embed import Answer
from vecmig.backfill.group_commit import GroupCommit
from vecmig.embedders import BaseEmbedder, Kind, Reply
from vecmig.errors import DatabaseUnreachable, Interrupted, TerminalEmbedderError, TransientEmbedderError
from vecmig.freshness.pending import PendingRecord, read_page
from vecmig.homes import EmbeddedRecord
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.postgres.reconnecting import ReconnectingSession

Connection = psycopg.Connection[Any]

FAKE = "fake@1/dim-8/chunk-none/norm-l2"
IN_FLIGHT_BYTES = 48 * 2**20


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of 8 dimensions."""
    with Provider(dims=8) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried at once."""
    try_again_at_once(monkeypatch)


def asking(lab: Lab, provider: Provider, **fields: Any) -> Lab:
    """A project whose vectors come from a provider."""
    made = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": 5, "concurrency": 4} | fields
    made = {name: value for name, value in made.items() if value is not None}
    return lab.write(chain=(FAKE,), recipes={FAKE: made})


def sizes(provider: Provider) -> Counter[int]:
    """Count the requests for records by how many texts they held."""
    return Counter(len(r["inputs"]) for r in provider.requests() if r["inputs"][0].startswith("title"))


# Batches -------------------------------------------------------------------------------------------------------------


class Large(BaseEmbedder):
    """Takes as many inputs at once as OpenAI does."""

    default_max_batch = 2_048

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        return Reply(np.ones((len(texts), self.recipe.dims)))


def large(dims: int, **fields: Any) -> Large:
    made = Tag.parse(f"m@1/dim-{dims}/chunk-none/norm-l2")
    return Large(str(made), Recipe.from_mapping(made, {"provider": "openai", "dims": dims} | fields))


@pytest.mark.parametrize("dims", [8, 384, 1_536, 3_072])
@pytest.mark.parametrize("concurrency", [1, 4, 16, 64])
def test_batches_are_cut_so_that_their_vectors_stay_within_the_memory_that_is_meant_for_them(
    dims: int, concurrency: int
) -> None:
    size = batch_size(large(dims), concurrency)
    assert 16 <= size <= 2_048
    # each is held some four times over on its way
    assert size == 16 or size * concurrency * 4 * 4 * dims <= IN_FLIGHT_BYTES
    assert batch_size(large(dims, max_batch=1_000), concurrency) == 1_000, "what the recipe says is the recipe's doing"


def test_a_provider_that_takes_thousands_is_sent_what_fits(bare_lab: Lab, make_source: Any, provider: Provider) -> None:
    make_source(600)
    lab = asking(bare_lab, provider, max_batch=None, max_batch_tokens=500)
    lab.upgrade(until="backfill")
    asked = sizes(provider)
    # five tokens each, by the estimate
    assert max(asked) <= 100
    assert sum(size * times for size, times in asked.items()) == 600


def test_the_recipe_s_batch_is_what_is_sent(bare_lab: Lab, make_source: Any, provider: Provider) -> None:
    make_source(600)
    asking(bare_lab, provider, max_batch=150).upgrade(until="backfill")
    assert sizes(provider) == {150: 4}


def test_no_more_requests_are_in_flight_than_the_recipe_says(
    bare_lab: Lab, make_source: Any, provider: Provider
) -> None:
    make_source(300)
    lab = asking(bare_lab, provider, concurrency=3)
    with provider.failing("hang", seconds=0.02):
        lab.upgrade()
    assert provider.most_in_flight() == 3


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_fifth_refused_costs_a_fifth_more_requests_and_no_more(
    bare_lab: Lab, make_source: Any, provider: Provider
) -> None:
    """Not four times as many, and every record is paid for once."""
    make_source(1_000)
    lab = asking(bare_lab, provider, concurrency=8)
    with provider.failing("429", share=0.2, retry_after="1"):
        lab.upgrade(until="backfill")
    requests = provider.requests()
    refused = sum(request["status"] == 429 for request in requests)
    assert len(requests) - refused == 1 + 1_000 // 5
    assert refused <= 0.4 * len(requests)
    paid = Counter(text for text in provider.paid() if text.startswith("title"))
    assert len(paid) == sum(paid.values()) == 1_000


def test_refused_batches_hold_up_no_other(lab: Lab, model: Model) -> None:
    """Nine of ten batches are refused until the tenth, which comes last, was written."""
    written = threading.Event()

    def before(texts: list[str]) -> None:
        if any(text.endswith("body 20") for text in texts):
            written.set()
        elif not written.is_set():
            raise TransientEmbedderError("Busy.", retry_after=1)

    model.before = before
    lab = lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, max_batch=2, concurrency=2)})
    lab.upgrade(until="backfill")
    assert set(model.embedded.values()) == {1}


# What ends a run -----------------------------------------------------------------------------------------------------


def test_the_first_failure_lets_no_other_request_begin(bare_lab: Lab, make_source: Any, model: Model) -> None:
    make_source(400)
    lab = bare_lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, max_batch=2, concurrency=2)})
    calls = itertools.count(1)

    def before(texts: list[str]) -> None:
        if next(calls) >= 5:
            raise TerminalEmbedderError("The key was withdrawn.")

    model.before = before
    with pytest.raises(TerminalEmbedderError, match="withdrawn") as caught:
        lab.upgrade()
    assert next(calls) <= 4 + 2 * 2 + 1, "what was at hand, and nothing beyond it"
    assert caught.value.state == "8 records were embedded by this run, and stay."
    assert lab.cover(SMALL).fresh == model.total() == 8


@pytest.mark.upgraded("r1", until="expand")
def test_an_interruption_says_what_could_not_be_written(
    lab: Lab, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the database is away: it is not claimed that everything was written."""
    reached = threading.Barrier(2)

    def write(writers: GroupCommit, answer: Answer) -> int:
        reached.wait(60)
        raise DatabaseUnreachable("The database is away.")

    monkeypatch.setattr(GroupCommit, "write", write)
    monkeypatch.setattr("vecmig.backfill.pipeline.Pipeline.run", _interrupted_run(reached))
    with pytest.raises(Interrupted) as caught:
        lab.upgrade("r1")
    assert caught.value.state == (
        "What was written stays; 8 embedded records could not be written, and are sent again next time."
    )


def _interrupted_run(reached: threading.Barrier) -> Any:
    def run(pipeline: Any, batches: Any, at_hand: Any) -> None:
        pipeline._send(next(iter(batches)))
        reached.wait(60)
        raise KeyboardInterrupt

    return run


# The database --------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1", until="expand")
def test_writers_that_wait_for_one_another_do_not_burn_the_processor(
    lab: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread writes what others brought, those are asleep, however long it takes."""
    stamps = lab.stamps(SMALL)
    with lab.database.session() as vecmig:
        pending = read_page(vecmig, stamps, None, 20).pending
    takes = itertools.count()
    take = GroupCommit._take
    monkeypatch.setattr(GroupCommit, "_take", lambda writers: (next(takes), take(writers))[1])

    written: list[int] = []

    def write(record: PendingRecord) -> None:
        vectors = np.full((1, 64), 1 / 8, dtype=np.float32)
        answer = Answer([EmbeddedRecord(record.key, record.source_hash, vectors, None)], [], 0)
        written.append(writers.write(answer))

    waiting = "SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = %s)"
    with GroupCommit(stamps, lambda prepare: ReconnectingSession(lab.database, prepare=prepare)) as writers:
        busy, writers._free = writers._free, []
        threads = [threading.Thread(target=write, args=(record,)) for record in pending]
        with connection.transaction():
            connection.execute("LOCK TABLE documents_vectors IN ACCESS EXCLUSIVE MODE")
            for thread in threads:
                thread.start()
            until(lambda: len(writers._waiting) == len(threads))
            # one of them now takes what all of them brought, and waits for the lock
            with writers._turn:
                writers._free = busy
                writers._waiting[0].changed.notify()
            until(lambda: bool(connection.execute(waiting, [connection.info.dbname]).fetchall()))
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert sum(written) == lab.cover(SMALL).fresh == 20
    assert next(takes) <= len(threads)


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_a_lost_connection_is_tried_again_until_the_patience_ends(lab: Lab) -> None:
    told: list[tuple[str, float]] = []
    slept: list[float] = []

    def patient(wait: float) -> ReconnectingSession:
        return ReconnectingSession(lab.database, wait=wait, on_wait=lambda *why: told.append(why), sleep=slept.append)

    def broken(connection: Any) -> int:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 1

    def third(connection: Any) -> int:
        return broken(connection) if len(slept) < 2 else 3

    with patient(0) as session, pytest.raises(DatabaseUnreachable):
        session.run(broken)
    assert told == []
    with patient(60) as session:
        assert session.run(third) == 3
        assert session.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    assert slept == [seconds for _, seconds in told] == [0.2, 0.4]
    assert all("terminating connection" in reason for reason, _ in told)
