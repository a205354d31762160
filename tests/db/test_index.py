"""An index build takes what it may, tells how it goes and for whom it waits, and leaves nothing that stays broken."""

from __future__ import annotations

import re
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from support.lab import LARGE, SMALL, Lab, recipe
from support.postgres import Connect, Postgres
from support.waiting import wait_for
from vecmig.errors import Blocked, DatabaseUnreachable
from vecmig.events import Event, IndexProgress, Listener, Waiting, Warned
from vecmig.homes import IndexBuild, IndexLimits, home_over, index, index_build
from vecmig.homes.index import vectors_in, wanted_memory_mb

BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
WIDE = "toy@1/dim-1536/chunk-none/norm-l2"
#: Vectors of ``LARGE`` that are worth parallel workers: more than 8 MB.
MANY = 9_000
QUICK = {"hnsw": {"m": 4, "ef_construction": 8}}


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_build, "_TICK", 0.02)


def filled(lab: Lab, tag: str, count: int, **options: Any) -> Lab:
    """Take a project to the point where its vectors are there and its index is not."""
    lab = lab.write(chain=(tag,), options=QUICK | options)
    lab.upgrade(until="expand")
    dims = tag.split("/dim-")[1].split("/", maxsplit=1)[0]
    lab.sql(
        "INSERT INTO documents_vectors (tag, id, embedding, source_hash) SELECT %s, n, l2_normalize(("
        f"SELECT array_agg(random() - 0.5 + 0 * n * i) FROM generate_series(1, {dims}) i)::vector), md5('')::uuid "
        "FROM generate_series(1, %s) n",
        tag,
        count,
    )
    lab.events.clear()
    return lab


def build(
    lab: Lab, limits: IndexLimits | None = None, listener: Listener | None = None, *, lock_wait: float | None = None
) -> IndexBuild | None:
    """Build the index of the last tag; the vectors are not counted where they may be locked."""
    stamps, database = lab.stamps(lab.chain[-1]), replace(lab.database, lock_wait=lock_wait)
    rows = 200 if lock_wait else lab.sql("SELECT count(*) FROM documents_vectors")[0][0]
    with database.session() as connection:
        home = home_over(connection, stamps)
    return home.build_index(database, vectors=rows, limits=limits or IndexLimits(), listener=listener or lab.listen)


def state(lab: Lab) -> str:
    """What the catalogue says of that index."""
    with lab.opened(lab.chain[-1]) as (connection, stamps):
        return home_over(connection, stamps).index().word


def at_first(kind: type[Event], act: Callable[[Any], object]) -> Listener:
    """Listen, and act on the first event of a kind."""
    seen: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, kind) and not seen:
            seen.append(event)
            act(event)

    return listen


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the processes that are started here write no file beyond a size, as a container's small /dev/shm does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def warnings(lab: Lab) -> list[str]:
    """What was warned of."""
    return [event.message for event in lab.events if isinstance(event, Warned)]


# Memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "m", "type_"),
    [
        (SMALL, 16, "vector"),
        (LARGE, 4, "vector"),
        (LARGE, 40, "vector"),
        (LARGE, 16, "halfvec"),
        (LARGE, 4, "bit"),
        (LARGE, 40, "bit"),
    ],
)
def test_the_memory_that_is_asked_for_holds_the_graph(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tag: str, m: int, type_: str
) -> None:
    monkeypatch.setattr(index, "_SMALLEST_MEMORY_MB", 1)
    lab = lab.write(recipes={tag: recipe(tag, index={"type": type_})})
    lab = filled(lab, tag, 2_000, hnsw={"m": m, "ef_construction": 2 * m})
    built = build(lab)
    assert built is not None
    assert built.memory_mb == wanted_memory_mb(lab.stamps(tag), 2_000) < 20
    assert warnings(lab) == []


def test_too_little_memory_is_told_before_and_when_it_runs_out(lab: Lab) -> None:
    lab = filled(lab, LARGE, 3_000)
    fit = vectors_in(2, lab.stamps(LARGE))
    built = build(lab, IndexLimits(memory_mb=2))
    assert built is not None
    assert built.memory_mb == 2
    before, during = warnings(lab)
    assert lab.events.index(Warned(before)) == 0
    assert before == (
        f"The index of {LARGE} takes about 64 MB of maintenance_work_mem while it is built, and "
        f"maintenance_work_mem_mb allows 2 MB: after about {fit:,} of 3,000 vectors it is built on disk, many times "
        "slower. If the server has the memory, set maintenance_work_mem_mb = 64 in vecmig.ini."
    )
    text, _, rest = during.partition(" after ")
    assert text == f"The index of {LARGE} no longer fits into maintenance_work_mem (2 MB)"
    assert int(rest.split(" of ")[0].replace(",", "")) == pytest.approx(fit, rel=0.05)
    assert rest.endswith(
        " of 3,000 vectors: the rest is built on disk, many times slower. To have it in memory, interrupt this "
        "(Ctrl-C), set maintenance_work_mem_mb = 64 in vecmig.ini, and run it again."
    )


def test_without_shared_memory_the_index_is_built_without_workers(own_postgres: Postgres, bare_lab: Lab) -> None:
    lab = bare_lab.write(url=own_postgres.url(own_postgres.create_database()))
    lab.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    lab = filled(lab, LARGE, MANY)
    own_postgres.stop()
    with files_of_at_most(2**25):
        own_postgres.start()
    built = build(lab, IndexLimits(workers=2))
    assert built is not None
    assert (built.workers, state(lab)) == (0, "valid")
    (told,) = warnings(lab)
    assert told == (
        "The server has too little shared memory (/dev/shm) for a parallel index build with 64 MB, so the index is "
        "built without parallel workers, which takes longer. Give the server's container more (docker run "
        "--shm-size=128m), or set index_workers = 0 in vecmig.ini."
    )


# Workers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "seen"), [(0, 0), (1, 1), (3, 3), (None, 2)])
def test_as_many_parallel_workers_as_allowed(lab: Lab, workers: int | None, seen: int) -> None:
    lab = filled(lab, LARGE, MANY)
    built = build(lab, IndexLimits(workers=workers))
    assert built is not None
    assert built.workers == seen


def test_vectors_that_are_stored_out_of_line_get_workers_too(lab: Lab) -> None:
    lab = filled(lab, WIDE, 1_500)
    assert lab.sql("SELECT max(pg_relation_size(inhrelid)) < 2^20 FROM pg_inherits") == [(True,)]
    built = build(lab, IndexLimits(workers=1))
    assert built is not None
    assert built.workers == 1


def test_a_small_table_gets_none(lab: Lab) -> None:
    lab = filled(lab, SMALL, 2_000)
    built = build(lab, IndexLimits(workers=4))
    assert built is not None
    assert built.workers == 0


def test_the_step_says_what_the_index_took(lab: Lab) -> None:
    (lab.path / "vecmig.ini").write_text((lab.path / "vecmig.ini").read_text() + "\nindex_workers = 1\n")
    assert lab.config.index_workers == 1
    lab.upgrade("r1")
    (summary,) = [
        event.summary for event in lab.events if getattr(event, "step", "") == "index" and hasattr(event, "summary")
    ]
    assert summary.startswith("20 vectors, ")
    assert re.search(r" [kM]B; built with at most 64 MB of memory$", summary)
    (figures,) = lab.sql("SELECT data FROM vecmig.event WHERE kind = 'index'")[0]
    assert {"vectors", "bytes", "memory_mb", "workers", "seconds"} <= set(figures)


# Progress ----------------------------------------------------------------------------------------------------------


def test_progress_goes_forward_only_and_counts_the_vectors(lab: Lab) -> None:
    lab = filled(lab, LARGE, MANY)
    build(lab)
    told = [event for event in lab.events if isinstance(event, IndexProgress)]
    loading = [event for event in told if event.phase == "loading tuples"]
    assert len(loading) > 3
    assert {(event.collection, event.tag, event.total) for event in loading} == {("documents", LARGE, MANY)}
    assert [event.done for event in loading] == sorted(event.done for event in loading)
    assert 0 <= loading[0].share < loading[-1].share <= 1
    assert any(event.eta for event in loading)
    assert all(event.done <= event.total for event in told)


@pytest.mark.parametrize(
    ("begin", "phase"),
    [
        ("UPDATE documents_vectors SET chunk_text = 'x' WHERE id = 1", "writers before build"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM documents", "old snapshots"),
    ],
)
def test_who_keeps_the_build_waiting_is_named(lab: Lab, connect: Connect, begin: str, phase: str) -> None:
    lab = filled(lab, SMALL, 200)
    holder = connect(autocommit=False, application_name="report")
    holder.execute(begin)
    told: list[str] = []

    def let_go(event: Waiting) -> None:
        told.append(event.reason)
        holder.rollback()

    assert build(lab, listener=at_first(Waiting, let_go)) is not None
    # a transaction of the server's own may be open as well
    assert re.match(
        rf"the index waits for {phase}( \(1 of \d\))?: pid {holder.info.backend_pid} "
        r"\(postgres, report, idle in transaction, transaction open for 00:00:0",
        told[0],
    )
    assert state(lab) == "valid"


# Cut short ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_build_ends_on_the_server_and_the_next_one_replaces_it(lab: Lab) -> None:
    lab = filled(lab, LARGE, MANY, hnsw={"m": 64, "ef_construction": 400})

    def interrupt(event: IndexProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(lab, listener=at_first(IndexProgress, interrupt))
    assert lab.sql(BUILDING) == []
    assert state(lab) == "invalid"
    lab = lab.write(options=QUICK)
    assert build(lab) is not None
    assert state(lab) == "valid"
    assert build(lab) is None, "a valid index is left as it is"


def test_an_interrupt_while_it_waits_ends_it_too(lab: Lab, connect: Connect) -> None:
    lab = filled(lab, SMALL, 200)
    holder = connect(autocommit=False)
    holder.execute("UPDATE documents_vectors SET chunk_text = 'x' WHERE id = 1")

    def interrupt(event: Waiting) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(lab, listener=at_first(Waiting, interrupt))
    assert lab.sql(BUILDING) == []
    holder.rollback()
    assert build(lab) is not None


def _end(lab: Lab, which: str) -> Callable[[Event], None]:
    def end(event: Event) -> None:
        lab.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            f"AND application_name = 'vecmig' AND datname = current_database() AND pid {which} ({BUILDING})"
        )

    return end


def test_a_lost_connection_is_the_databases_and_the_next_run_builds_anew(lab: Lab) -> None:
    lab = filled(lab, LARGE, MANY, hnsw={"m": 32, "ef_construction": 200})
    with pytest.raises(DatabaseUnreachable):
        build(lab, listener=at_first(IndexProgress, _end(lab, "IN")))
    assert state(lab) == "invalid"
    lab = lab.write(options=QUICK)
    assert build(lab) is not None
    assert state(lab) == "valid"


def test_the_build_goes_on_without_the_session_that_watches_it(lab: Lab) -> None:
    lab = filled(lab, LARGE, MANY)
    assert build(lab, listener=at_first(IndexProgress, _end(lab, "NOT IN"))) is not None
    assert state(lab) == "valid"


# Gives up ----------------------------------------------------------------------------------------------------------

LOCKED = "LOCK TABLE vecmig.documents_vectors IN ACCESS EXCLUSIVE MODE"
WRITER = "UPDATE documents_vectors SET chunk_text = 'x' WHERE id = 1"
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM documents"


@pytest.mark.parametrize(
    ("begin", "waited", "left"),
    [
        (LOCKED, "a lock", "none"),
        (WRITER, "writers before build", "invalid"),
        (SNAPSHOT, "old snapshots", "none"),
    ],
)
def test_it_gives_up_and_says_who_was_in_the_way(
    lab: Lab, connect: Connect, begin: str, waited: str, left: str
) -> None:
    lab = filled(lab, SMALL, 200)
    holder = connect(autocommit=False, application_name="forgotten")
    holder.execute(begin)
    with pytest.raises(Blocked) as blocked:
        build(lab, lock_wait=0.3)
    said = blocked.value
    who = f"pid {holder.info.backend_pid} (postgres, forgotten, idle in transaction, transaction open for 00:00:0"
    assert said.message.startswith(f"The index of {SMALL} is not built: it waited 0.3 s for {waited}. Blocked by {who}")
    assert said.hint.endswith("pg_terminate_backend(pid); then run this again.")
    assert said.state == "The vectors are all there; the index is not." if left == "none" else "invalid" in said.state
    assert lab.sql(BUILDING) == []
    assert state(lab) == left
    holder.rollback()
    assert build(lab, lock_wait=0.3) is not None
    assert state(lab) == "valid"


@pytest.mark.parametrize("begin", [LOCKED, "SELECT FROM documents_vectors"])
def test_an_index_that_cannot_be_dropped_keeps_it_waiting_no_longer(lab: Lab, connect: Connect, begin: str) -> None:
    lab = filled(lab, SMALL, 200)
    build(lab)
    lab.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text LIKE '%%_hnsw'")
    holder = connect(autocommit=False)
    holder.execute(begin)
    with pytest.raises(Blocked, match=f"Blocked by pid {holder.info.backend_pid} "):
        build(lab, lock_wait=0.3)
    assert state(lab) == "invalid"
    holder.rollback()
    assert build(lab, lock_wait=0.3) is not None
    assert state(lab) == "valid"


def test_another_runs_build_that_waits_is_left_alone(lab: Lab, connect: Connect) -> None:
    lab = filled(lab, SMALL, 200)
    holder = connect(autocommit=False)
    holder.execute(WRITER)
    other = threading.Thread(target=build, args=[lab])
    other.start()
    try:
        wait_for(lambda: lab.sql(BUILDING) != [])
        with pytest.raises(Blocked, match=f"Blocked by pid {holder.info.backend_pid} "):
            build(lab, lock_wait=0.3)
        assert len(lab.sql(BUILDING)) == 1
    finally:
        holder.rollback()
        other.join()
    assert state(lab) == "valid"


def test_it_waits_for_as_long_as_it_has_worked_before_it_throws_that_away(lab: Lab, connect: Connect) -> None:
    lab = filled(lab, LARGE, 3_000, hnsw={"m": 16, "ef_construction": 200})
    holder = connect(autocommit=False)
    holder.execute(SNAPSHOT)
    waits: list[str] = []

    def let_go(event: Event) -> None:
        waits.extend([event.reason] if isinstance(event, Waiting) else [])
        if len(waits) == 15:
            holder.rollback()

    assert build(lab, listener=let_go, lock_wait=0.2) is not None
    assert len(waits) >= 15
    assert state(lab) == "valid"
