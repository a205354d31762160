"""A fleet on a real Ray cluster: workers come and go, and the backfill does as it does in one process."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.lab import TINY, Lab, recipe
from support.postgres import Connect
from support.stamps import text_hash
from vecmig import runner
from vecmig.backfill import Needs
from vecmig.backfill.cluster import Cluster
from vecmig.errors import Blocked, BudgetSpent, TerminalEmbedderError, UsageError, VecmigError
from vecmig.events import Event, Progress, Waiting, Warned

pytest.importorskip("ray", reason="the extra ray is not installed: pip install -e '.[dev]'")

COUNT, BATCH, WORKERS = 2_000, 8, 2
MODEL = """\
import hashlib, os, time
from pathlib import Path
import numpy as np
from vecmig.errors import PoisonInputError

LOG = Path(__file__).with_suffix(".log")


def embed(texts):
    asked = [text for text in texts if text.startswith("title")]
    with LOG.open("a") as log:
        log.write("".join(f"{{os.getpid()}} {{text.splitlines()[0]}}\\n" for text in asked))
    {behaviour}
    return [vector(text) for text in texts]


def vector(text):
    seed = int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(4)
"""
SLOWLY = "time.sleep(0.02 * bool(asked))"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster on this host with room for two workers, as ``--engine ray`` starts one."""
    with Cluster("local", Needs(), WORKERS):
        yield


@dataclass(frozen=True, slots=True)
class FleetLab:
    """A project whose model is a module of its own that logs which process was sent which text."""

    lab: Lab
    log: Path

    def upgrade(self, listener: Callable[[Event], None] = lambda _event: None, **options: Any) -> None:
        """Run the backfill on two workers."""

        def listen(event: Event) -> None:
            self.lab.listen(event)
            listener(event)

        options = dict[str, Any](engine="ray", workers=WORKERS) | options
        runner.upgrade(self.lab.config, until="backfill", listener=listen, **options)

    def in_background(self, **options: Any) -> Future[None]:
        """Run the backfill in a thread."""
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self.upgrade, **options)
        pool.shutdown(wait=False)
        return future

    def sent(self) -> Counter[str]:
        """Count how often each record was sent to the model."""
        return Counter(line.split(" ", 1)[1] for line in self._lines())

    def pids(self) -> set[str]:
        """Name the processes that were asked for vectors."""
        return {line.split(" ", 1)[0] for line in self._lines()}

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def runs(self) -> list[tuple[Any, ...]]:
        """Read how the workers stand: pid, state, requests in flight, when it was seen."""
        if self.lab.sql("SELECT to_regclass('vecmig.run')") == [(None,)]:
            return []
        return self.lab.sql("SELECT pid, state, concurrency, seen_at FROM vecmig.run ORDER BY pid")

    def assert_complete(self) -> None:
        """Look at every record: there, once, with the hash of its text."""
        made = text_hash("s.title || E'\\n\\n' || s.body")
        lies = f"SELECT count(*), count(*) FILTER (WHERE v.source_hash = {made}) "
        found = self.lab.sql(f"{lies} FROM documents s JOIN documents_vectors v USING (id)")
        assert found == [(COUNT, COUNT)]
        assert self.lab.cover(TINY).share == 1.0


#: ``make("time.sleep(1)", budget_usd=2)``: the lab whose model does that, with a recipe that says so.
MakeFleet = Callable[..., FleetLab]


@pytest.fixture
def make(
    cluster: None, bare_lab: Lab, make_source: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeFleet]:
    """Give a project on COUNT documents; its model does what a line of Python says."""
    name = f"model_{uuid.uuid4().hex}"

    def make_fleet(behaviour: str = "", **service: Any) -> FleetLab:
        make_source(COUNT)
        monkeypatch.syspath_prepend(str(bare_lab.path))
        (bare_lab.path / f"{name}.py").write_text(MODEL.format(behaviour=behaviour))
        made = recipe(TINY, callable=f"{name}:embed", max_batch=BATCH, **service)
        return FleetLab(bare_lab.write(chain=(TINY,), recipes={TINY: made}), bare_lab.path / f"{name}.log")

    yield make_fleet
    sys.modules.pop(name, None)


def once(act: Callable[[], Any]) -> Callable[[Event], None]:
    """Act when the backfill tells for the first time that it got on."""
    done: list[bool] = []

    def listener(event: Event) -> None:
        if isinstance(event, Progress) and 0 < event.done < event.total and not done:
            done.append(True)
            act()

    return listener


def wait_for(condition: Callable[[], bool], running: Future[None]) -> None:
    """Wait until something holds while the run goes on."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        assert not running.done(), running.result()
        time.sleep(0.05)


def test_two_workers_embed_each_record_once(make: MakeFleet) -> None:
    fleet = make(SLOWLY)
    seen: list[int] = []
    fleet.upgrade(lambda event: seen.append(len(fleet.runs())) if isinstance(event, Progress) else None)
    fleet.assert_complete()
    assert set(fleet.sent().values()) == {1}
    assert len(fleet.pids()) == WORKERS
    assert str(os.getpid()) not in fleet.pids()
    assert max(seen) == WORKERS, "each worker shows itself"
    assert fleet.runs() == [], "and takes itself off the list"
    last = [event for event in fleet.lab.events if isinstance(event, Progress)][-1]
    assert (last.done, last.total, last.coverage) == (COUNT, COUNT, 1.0)
    fleet.upgrade()
    assert len(fleet.sent()) == sum(fleet.sent().values()), "a complete tag is not embedded again"


def test_the_range_of_a_killed_worker_is_filled_by_another_process(make: MakeFleet) -> None:
    fleet = make(SLOWLY)
    fleet.upgrade(once(lambda: os.kill(fleet.runs()[0][0], signal.SIGKILL)))
    fleet.assert_complete()
    twice = sum(times - 1 for times in fleet.sent().values())
    assert twice <= BATCH, "one request was in flight in each worker, and what was written is not sent again"
    assert len(fleet.pids()) == WORKERS + 1
    (lost,) = (event.message for event in fleet.lab.events if isinstance(event, Warned))
    assert "was lost" in lost


def test_a_poison_record_is_rejected_and_the_others_go_on(make: MakeFleet) -> None:
    fleet = make("if any('poison' in text for text in texts): raise PoisonInputError('The model cannot read it.')")
    fleet.lab.sql("UPDATE documents SET body = 'poison' WHERE id IN (7, 1500)")
    fleet.upgrade()
    assert fleet.lab.cover(TINY).fresh == COUNT - 2
    assert sorted(found.key for found in runner.rejected(fleet.lab.config)) == [[7], [1500]]
    warnings = [event.message for event in fleet.lab.events if isinstance(event, Warned)]
    assert sorted(warnings) == [
        f"Record {key} of documents is rejected: The model cannot read it." for key in (1500, 7)
    ]


def test_pause_and_tune_reach_every_worker(make: MakeFleet) -> None:
    fleet = make(SLOWLY)
    config = fleet.lab.config
    running = fleet.in_background()
    wait_for(lambda: len(fleet.runs()) == WORKERS and len(fleet.pids()) == WORKERS, running)
    assert [concurrency for _, _, concurrency, _ in fleet.runs()] == [1, 1], "they share what the recipe says"
    runner.pause(config)
    wait_for(lambda: [state for _, state, _, _ in fleet.runs()] == ["paused"] * WORKERS, running)
    runner.tune(config, {"concurrency": 6})
    wait_for(lambda: [concurrency for _, _, concurrency, _ in fleet.runs()] == [3, 3], running)
    sent = sum(fleet.sent().values())
    looked = [seen for *_, seen in fleet.runs()]
    wait_for(lambda: all(now > then for (*_, now), then in zip(fleet.runs(), looked, strict=True)), running)
    assert sum(fleet.sent().values()) == sent < COUNT, "nothing is sent while it is paused"
    runner.resume(config)
    running.result(timeout=60)
    fleet.assert_complete()
    assert set(fleet.sent().values()) == {1}


def test_one_budget_stops_all_workers(make: MakeFleet) -> None:
    fleet = make(price_per_million_tokens=1_000.0)
    with pytest.raises(BudgetSpent, match="is spent") as stopped:
        fleet.upgrade(max_cost=1.0)
    ((spent,),) = fleet.lab.sql("SELECT sum(usd) FROM vecmig.spend")
    assert 0.9 < spent <= 1.0
    written = fleet.lab.cover(TINY).fresh
    assert stopped.value.state == f"{written:,} records were embedded by this run, and stay."
    assert 0 < written < COUNT
    assert sum(fleet.sent().values()) == written, "what was paid for is written"
    fleet.upgrade(max_cost=1_000.0)
    fleet.assert_complete()
    assert set(fleet.sent().values()) == {1}


def test_what_ends_one_worker_ends_the_run_as_what_it_is(make: MakeFleet) -> None:
    fleet = make("assert not any('title 1500' in text for text in texts), 'no such weights'")
    with pytest.raises(TerminalEmbedderError, match="raised AssertionError: no such weights") as stopped:
        fleet.upgrade()
    written = fleet.lab.cover(TINY).fresh
    assert stopped.value.exit_code == 7
    assert stopped.value.state == f"{written:,} records were embedded by this run, and stay."


def test_a_worker_with_another_model_embeds_nothing(make: MakeFleet) -> None:
    fleet = make(f"if os.getpid() != {os.getpid()}: return [vector(text + '!') for text in texts]")
    with pytest.raises(TerminalEmbedderError, match="is not the one that made its vectors"):
        fleet.upgrade()
    assert fleet.lab.cover(TINY).fresh == 0
    assert not fleet.sent()


def test_workers_say_who_holds_the_vectors_and_give_up(make: MakeFleet, connect: Connect) -> None:
    fleet = make(SLOWLY)
    fleet.lab.write(lock_wait=1.0)
    holder = connect(autocommit=False, application_name="forgotten")
    locked = "LOCK TABLE vecmig.documents_vectors IN ACCESS EXCLUSIVE MODE"
    who = f"is held by pid {holder.info.backend_pid} (postgres, forgotten, idle in transaction, "
    with pytest.raises(Blocked, match=re.escape(who)):
        fleet.upgrade(once(lambda: holder.execute(locked)))
    assert any(who in event.reason for event in fleet.lab.events if isinstance(event, Waiting))
    holder.rollback()
    fleet.upgrade()
    fleet.assert_complete()


def test_a_limit_holds_for_all_workers_together(make: MakeFleet) -> None:
    fleet = make()
    runner.upgrade(fleet.lab.config, until="expand")
    covered = runner.backfill(fleet.lab.config, limit=600, engine="ray", workers=WORKERS)
    assert covered["documents"].fresh == 600
    assert sum(fleet.sent().values()) == 600


def test_records_that_are_added_meanwhile_are_embedded_too(make: MakeFleet) -> None:
    fleet = make(SLOWLY)
    added = "INSERT INTO documents SELECT n, 'title ' || n, 'late' FROM generate_series(-5, 0) n"
    fleet.upgrade(once(lambda: fleet.lab.sql(added)))
    assert fleet.lab.cover(TINY).fresh == COUNT + 6


def test_a_worker_that_does_not_fit_is_told_of(make: MakeFleet) -> None:
    fleet = make(num_gpus=1)
    with pytest.raises(UsageError, match=r"has CPU 2, GPU 0; one worker needs num_cpus 1 and num_gpus 1\.") as refused:
        fleet.upgrade(workers=None)
    assert "ray_address" in refused.value.hint
    assert isinstance(refused.value, VecmigError)
