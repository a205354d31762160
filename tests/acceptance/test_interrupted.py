"""Runs cut short by a signal, by the database or by another runner: the next one goes on and loses nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, new_project, partition, script, tag
from support.postgres import Postgres
from support.project import Project, Result
from support.provider import Provider, vector
from support.stamps import text_hash
from support.waiting import wait_for

TAG = tag("fake", 8)
COUNT, BATCH, FLYING = 300, 5, 3
RESUME = "Nothing that was committed is lost. When the database is back, run the same command again."


@pytest.fixture(autouse=True)
def _at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches these runs, but they wait as where somebody does."""
    monkeypatch.setenv("VECMIG_PROVIDER_WAIT", "unlimited")


@pytest.fixture
def slow() -> Iterator[Provider]:
    """A provider that takes 30 ms for each request."""
    with Provider(dims=8, latency=0.03) as server:
        yield server


@pytest.fixture
def backfilling(project: Project, slow: Provider) -> Project:
    """A project whose backfill takes 60 requests of 5 records, 3 at a time."""
    prepare(project, slow)
    return project


def prepare(project: Project, provider: Provider, **service: Any) -> None:
    """Write the one revision whose backfill is then cut short."""
    make_documents(project, COUNT)
    prepare_again(project, provider, **service)


def prepare_again(project: Project, provider: Provider, **service: Any) -> None:
    """Write its files, with another recipe."""
    recipe = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe | service})
    script(project, "aaaa", TAG)


def end(process: subprocess.Popen[str]) -> Result:
    """Wait for the end of a process."""
    out, err = process.communicate(timeout=60)
    return Result((), process.returncode, out, err)


def records(texts: list[str]) -> list[str]:
    """Leave the canaries out."""
    return [text for text in texts if text.startswith("title")]


def assert_complete(project: Project, provider: Provider) -> None:
    """Look at every vector: there, fresh, and the one of its text."""
    made = text_hash("title || ' ' || body")
    rows = project.sql(
        f"SELECT title || ' ' || body, source_hash = {made}, v.embedding::text "
        "FROM documents_vectors v JOIN documents USING (id)"
    )
    assert len(rows) == COUNT
    assert all(fresh for _, fresh, _ in rows)
    for text, _, embedding in rows[::17]:
        assert np.allclose(np.fromstring(embedding[1:-1], sep=","), vector(text, 8), atol=1e-6)


def told(process: subprocess.Popen[str], beginning: str) -> str:
    """Read what a process says until a line begins so, and give that line."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(beginning):
            return line
    raise AssertionError(f"it never said {beginning!r}: {said}")


def interrupt(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> list[str]:
    """Send a signal, expect the exit code of an interruption, and give what was said from then on."""
    process.send_signal(how)
    assert process.stderr is not None
    assert process.wait(60) == 130, process.stderr.read()
    return process.stderr.read().splitlines()


def nothing_paid_is_lost(project: Project, provider: Provider) -> None:
    """What the provider has embedded is in the database, and nothing was embedded twice; asked before any gate."""
    written = project.sql("SELECT count(*) FROM documents_vectors")[0][0]
    paid = records(provider.paid())
    assert len(paid) == len(set(paid)) == written


WRITTEN = "What was in flight was finished and written; nothing is paid for twice."


def test_kill_9_during_the_backfill(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    moments = (4, 23, 41)
    for requests in moments:
        with project.running("upgrade") as process:
            wait_for(lambda requests=requests: len(slow.requests()) >= requests, process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            assert end(process).code == -signal.SIGKILL
    done = vecmig("upgrade", "--until", "index")
    assert done.stdout == "aaaa  indexed  revision aaaa\n"
    assert_complete(project, slow)
    sent = Counter(records([text for request in slow.requests() for text in request["inputs"]]))
    assert len(sent) == COUNT
    twice = sum(times - 1 for times in sent.values())
    assert twice <= len(moments) * FLYING * BATCH


def test_ctrl_c_during_the_backfill(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    with project.running("upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 12, process)
        process.send_signal(signal.SIGINT)
        stopped = end(process).expect(130)
    written = project.sql("SELECT count(*) FROM documents_vectors")[0][0]
    assert 0 < written < COUNT
    assert stopped.stdout == ""
    assert stopped.stderr.splitlines()[-3:] == [
        f"Interrupted after {written} records.",
        "What was in flight was finished and written; nothing is paid for twice.",
        "To go on, run the same command again.",
    ]
    assert len(records(slow.paid())) == written, "what was in flight was written"
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    assert len(records(slow.paid())) == COUNT, "nothing was paid for twice"


def test_ctrl_c_while_the_provider_hangs(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    slow.faults({"mode": "hang", "skip": 6})
    with project.running("upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 8, process)
        process.send_signal(signal.SIGINT)
        told(process, "  waiting: what is in flight is being finished; Ctrl-C again leaves it")
        said = interrupt(process)
    assert said[-1] == "To go on, run the same command again."
    slow.faults()
    vecmig("upgrade")
    assert_complete(project, slow)


def test_one_runner_at_a_time(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    slow.faults({"mode": "hang", "skip": 4})
    with project.running("upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 5, process)
        for command in (["upgrade"], ["downgrade", "-1"], ["backfill"], ["stamp", "head"]):
            refused = vecmig(*command, code=5)
            first, *rest = refused.stderr.splitlines()
            assert first.startswith("Another runner works on collection documents: vecmig upgrade ")
            assert f" {process.pid} (pid " in first
            assert rest == ["Nothing was changed.", "Wait for it to end; watch it with: vecmig status --watch"]
        looked = vecmig("status")
        assert "aaaa (expanded)" in looked.stdout
    slow.faults()
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    assert_complete(project, slow)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_backs_off(backfilling: Project, slow: Provider, vecmig: Vecmig, how: signal.Signals) -> None:
    project = backfilling
    slow.faults({"mode": "429", "skip": 8, "retry_after": "3600"})
    with project.running("upgrade") as process:
        assert told(process, "  waiting: ").endswith(" is busy (HTTP 429): Refused with 429, next try in 1 h\n")
        assert interrupt(process, how)[-2:] == [WRITTEN, "To go on, run the same command again."]
    nothing_paid_is_lost(project, slow)
    slow.faults()
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


def test_stopped_before_anything_was_embedded(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    slow.faults({"mode": "429", "retry_after": "3600"})
    with backfilling.running("upgrade") as process:
        told(process, "  waiting: ")
        assert interrupt(process)[-1] == "To go on, run the same command again."
    slow.faults()
    vecmig("upgrade")


def test_stopped_while_it_is_paused(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    vecmig("upgrade", "--until", "expand")
    vecmig("pause", "documents")
    with project.running("upgrade") as process:
        told(process, "  waiting: paused by ")
        assert interrupt(process)[-1] == "To go on, run the same command again."
    assert records(slow.paid()) == []
    vecmig("resume", "documents")
    vecmig("upgrade", "--until", "index")
    nothing_paid_is_lost(project, slow)


@pytest.mark.parametrize("limit", ["headers", "minute"])
def test_stopped_while_the_rate_is_limited(project: Project, slow: Provider, vecmig: Vecmig, limit: str) -> None:
    if limit == "headers":
        left = {"limit": "1", "remaining": "0", "reset": "30s"}
        headers = {f"x-ratelimit-{name}-requests": value for name, value in left.items()}
        slow.faults({"mode": "none", "skip": 5, "headers": headers})
        prepare(project, slow)
    else:
        prepare(project, slow, requests_per_minute=7)
    why = {"headers": "the provider's rate limit is used up", "minute": "at most 7 requests a minute"}[limit]
    with project.running("upgrade") as process:
        assert told(process, "  waiting: ") == f"  waiting: {why}\n"
        assert interrupt(process)[-2:] == [WRITTEN, "To go on, run the same command again."]
    nothing_paid_is_lost(project, slow)
    slow.faults()
    prepare_again(project, slow)
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


def test_one_request_in_five_waits_for_an_hour_and_the_others_go_on(
    backfilling: Project, slow: Provider, vecmig: Vecmig
) -> None:
    """A provider that asks some requests to wait does not thereby get fewer of the others."""
    project = backfilling
    batches = COUNT // BATCH
    slow.faults({"mode": "429", "every": 5, "times": batches // 5, "retry_after": "3600"})
    with project.running("upgrade") as process:
        rest = COUNT - batches // 5 * BATCH
        wait_for(lambda: len(slow.requests()) >= 5, process)
        wait_for(lambda: project.sql("SELECT count(*) FROM documents_vectors") == [(rest,)], process)
        interrupt(process)
    assert len(slow.requests()) == 1 + batches, "no request was sent again before its hour is over"
    nothing_paid_is_lost(project, slow)
    slow.faults()
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


# The database --------------------------------------------------------------------------------------------------------

END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%%'"


def test_the_database_ends_the_connections_and_the_run_goes_on(backfilling: Project, slow: Provider) -> None:
    project = backfilling
    with project.running("upgrade", "--until", "index") as process:
        for requests in (8, 20, 32):
            wait_for(lambda requests=requests: len(slow.requests()) >= requests, process)  # type: ignore[misc]
            project.sql(END_ALL)
        done = end(process).expect(0)
    assert done.stdout == "aaaa  indexed  revision aaaa\n"
    assert re.search(r" cannot be reached: .*, next try in ", done.stderr)
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


def test_the_database_ends_the_connections_and_nobody_wants_to_wait(
    backfilling: Project, slow: Provider, vecmig: Vecmig
) -> None:
    project = backfilling
    project.ini.write_text(f"{project.ini.read_text()}reconnect_wait = 0\n")
    with project.running("upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 10, process)
        project.sql(END_ALL)
        stopped = end(process).expect(6)
    first, *rest = stopped.stderr.splitlines()[-3:]
    # the server's last word may be lost when the connection is just being written to
    assert first.startswith(f"The database at {project.database_url} cannot be reached: ")
    assert rest == [
        RESUME,
        "Check database_url (vecmig.ini or VECMIG_DATABASE_URL) and that the server accepts connections.",
    ]
    assert "Traceback" not in stopped.stderr
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    sent = Counter(records(slow.paid()))
    assert sum(times - 1 for times in sent.values()) <= FLYING * BATCH


def test_the_database_goes_down_and_comes_back(own_postgres: Postgres, tmp_path: Path, slow: Provider) -> None:
    url = own_postgres.url(own_postgres.create_database())
    project = new_project(tmp_path / "project", url)
    prepare(project, slow)
    with project.running("upgrade", "--until", "index") as process:
        wait_for(lambda: len(slow.requests()) >= 10, process)
        own_postgres.stop()
        told(process, f"  waiting: The database at {url} cannot be reached: ")
        down = project.vecmig("upgrade").expect(6)
        assert down.stderr.splitlines()[0].startswith(f"The database at {url} cannot be reached: ")
        assert project.vecmig("status", "--json").expect(6).stdout == ""
        own_postgres.start()
        assert end(process).expect(0).stdout == "aaaa  indexed  revision aaaa\n"
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


def test_stopped_while_it_waits_for_the_database(own_postgres: Postgres, tmp_path: Path, slow: Provider) -> None:
    url = own_postgres.url(own_postgres.create_database())
    project = new_project(tmp_path / "project", url)
    prepare(project, slow, price_per_million_tokens=0.02)
    with project.running("upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 10, process)
        own_postgres.stop()
        told(process, f"  waiting: The database at {url} cannot be reached: ")
        said = interrupt(process)
    assert said[-1] == "To go on, run the same command again."
    assert said[-2] == WRITTEN or said[-2].endswith(
        " embedded records could not be written, and are sent again next time."
    )
    own_postgres.start()
    project.vecmig("upgrade", "--until", "index").expect()
    assert_complete(project, slow)
    sent = Counter(records(slow.paid()))
    assert sum(times - 1 for times in sent.values()) <= FLYING * BATCH


def test_another_runner_takes_the_lock_when_its_connection_breaks(
    backfilling: Project, slow: Provider, vecmig: Vecmig
) -> None:
    project = backfilling
    held = """
        SELECT pid, (classid::bigint << 32) | objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    slow.faults({"mode": "429", "skip": 10, "retry_after": "3600"})
    with (
        psycopg.connect(project.database_url, autocommit=True, application_name="the other one") as other,
        project.running("upgrade") as process,
    ):
        told(process, "  waiting: ")
        ((pid, key),) = project.sql(held)
        # it stands in the queue when the lock is let go, so there is no moment at which the first could take it again
        waiting = threading.Thread(target=other.execute, args=("SELECT pg_advisory_lock(%s)", [key]))
        waiting.start()
        blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: project.sql(blocked) == [(1,)], process)
        project.sql("SELECT pg_terminate_backend(%s)", pid)
        waiting.join(60)
        stopped = end(process).expect(5)
    first, lost, hint = stopped.stderr.splitlines()[-3:]
    assert first.startswith("Another runner works on collection documents: the other one (pid ")
    assert lost == "The connection that held this run's lock broke, and they have it now; what was committed stays."
    assert hint == "Wait for it to end; watch it with: vecmig status --watch"
    nothing_paid_is_lost(project, slow)
    slow.faults()
    vecmig("upgrade", "--until", "index")
    assert_complete(project, slow)
    nothing_paid_is_lost(project, slow)


# The index ---------------------------------------------------------------------------------------------------------

NOISE = """\
import zlib
import numpy as np


def embed(texts):
    return np.stack([np.random.default_rng(zlib.crc32(text.encode())).standard_normal(128) for text in texts])
"""
BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
INDEX = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{}_hnsw')"


@pytest.fixture
def indexing(project: Project) -> Project:
    """A project that is about to build an index for which PostgreSQL takes seconds."""
    new = tag("noise", 128)
    make_documents(project, 1_200)
    (project.path / "noise.py").write_text(NOISE)
    hnsw = {"m": 60, "ef_construction": 500}
    recipe = {"provider": "python", "callable": "noise:embed", "dims": 128}
    describe(project, {"documents": documents_collection(new, hnsw=hnsw)}, {new: recipe})
    script(project, "aaaa", new)
    project.vecmig("upgrade", "--until", "backfill").expect()
    return project


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_cut_short_during_the_index_build(indexing: Project, vecmig: Vecmig, how: str) -> None:
    project = indexing
    index = INDEX.format(partition("documents", tag("noise", 128)))
    with project.running("upgrade") as process:
        wait_for(lambda: bool(project.sql(BUILDING)), process)
        process.send_signal(getattr(signal, how))
        stopped = end(process)
    assert stopped.code == {"SIGKILL": -signal.SIGKILL, "SIGINT": 130}[how], stopped
    assert "Traceback" not in stopped.stderr
    if how != "SIGKILL":  # PostgreSQL goes on building for a client that is gone
        assert project.sql(BUILDING) == []
        assert project.sql(index) == [(False,)]
    done = vecmig("upgrade")
    assert project.sql(index) == [(True,)]
    assert "backfill  0 records embedded" in done.stderr
    assert done.stdout == "aaaa  live  revision aaaa\n"


def test_an_index_build_whose_session_is_ended_begins_anew(indexing: Project) -> None:
    project = indexing
    with project.running("upgrade") as process:
        wait_for(lambda: bool(project.sql(BUILDING)), process)
        assert project.sql(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS building") == [(True,)]
        done = end(process)
    assert done.code == 0, done
    assert "Traceback" not in done.stderr
    assert project.sql(INDEX.format(partition("documents", tag("noise", 128)))) == [(True,)]
    assert done.stdout == "aaaa  live  revision aaaa\n"


def test_who_holds_up_the_index_build_is_told(indexing: Project) -> None:
    project = indexing
    with psycopg.connect(project.database_url, application_name="nightly") as holder:
        holder.execute("UPDATE documents_vectors SET chunk_text = 'x' WHERE id = 1")
        with project.running("upgrade", "--until", "index") as process:
            assert process.stderr is not None
            told = next(line for line in process.stderr if line.startswith("  waiting: "))
            assert told.startswith("  waiting: the index waits for writers before build: ")
            assert f" pid {holder.info.backend_pid} (postgres, nightly, idle in transaction, " in told
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr.read().splitlines()[-1] == "To go on, run the same command again."
    assert project.sql(BUILDING) == []
