"""Runs cut short by a signal, by the database or by another runner: the next one goes on and loses nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, new_project, partition, script, tag
from support.postgres import Postgres
from support.project import Project, Result
from support.provider import Provider, vector

TAG = tag("fake", 8)
COUNT, BATCH, FLYING = 300, 5, 3
RESUME = "Nothing that was committed is lost. When the database is back, run the same command again."


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
    recipe = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe | service})
    script(project, "aaaa", TAG)


@contextmanager
def running(project: Project, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run vecmig in the background; it is killed at the end at the latest."""
    with project.start(*args) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something holds; the process must not end before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def end(process: subprocess.Popen[str]) -> Result:
    """Wait for the end of a process."""
    out, err = process.communicate(timeout=60)
    return Result((), process.returncode, out, err)


def records(texts: list[str]) -> list[str]:
    """Leave the canaries out."""
    return [text for text in texts if text.startswith("title")]


def assert_complete(project: Project, provider: Provider) -> None:
    """Look at every vector: there, fresh, and the one of its text."""
    rows = project.sql(
        "SELECT title || ' ' || body, source_hash = md5(title || ' ' || body)::uuid, v.embedding::text "
        "FROM documents_vectors v JOIN documents USING (id)"
    )
    assert len(rows) == COUNT
    assert all(fresh for _, fresh, _ in rows)
    for text, _, embedding in rows[::17]:
        assert np.allclose(np.fromstring(embedding[1:-1], sep=","), vector(text, 8), atol=1e-6)


def test_kill_9_during_the_backfill(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    moments = (4, 23, 41)
    for requests in moments:
        with running(project, "upgrade") as process:
            wait_for(lambda requests=requests: len(slow.requests()) >= requests, process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            assert end(process).code == -signal.SIGKILL
    done = vecmig("upgrade")
    assert done.stdout == "aaaa  live  revision aaaa\n"
    assert_complete(project, slow)
    sent = Counter(records([text for request in slow.requests() for text in request["inputs"]]))
    assert len(sent) == COUNT
    twice = sum(times - 1 for times in sent.values())
    assert twice <= len(moments) * FLYING * BATCH


def test_ctrl_c_during_the_backfill(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    with running(project, "upgrade") as process:
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
    vecmig("upgrade")
    assert_complete(project, slow)
    assert len(records(slow.paid())) == COUNT, "nothing was paid for twice"


def test_ctrl_c_while_the_provider_hangs(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    slow.faults({"mode": "hang", "skip": 6})
    with running(project, "upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 8, process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        stopped = end(process).expect(130)
    assert stopped.stderr.splitlines()[-1] == "To go on, run the same command again."
    slow.faults()
    vecmig("upgrade")
    assert_complete(project, slow)


def test_one_runner_at_a_time(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    slow.faults({"mode": "hang", "skip": 4})
    with running(project, "upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 5, process)
        for command in (["upgrade"], ["downgrade", "-1"], ["backfill"], ["sync"], ["stamp", "head"]):
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


def test_the_database_ends_the_connections(backfilling: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = backfilling
    with running(project, "upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 10, process)
        project.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%%'")
        stopped = end(process).expect(6)
    assert stopped.stderr.splitlines()[-3:] == [
        (
            f"The database at {project.database_url} cannot be reached: "
            "terminating connection due to administrator command"
        ),
        RESUME,
        "Check database_url (vecmig.ini or VECMIG_DATABASE_URL) and that the server accepts connections.",
    ]
    assert "Traceback" not in stopped.stderr
    vecmig("upgrade")
    assert_complete(project, slow)


def test_the_database_goes_down_and_comes_back(own_postgres: Postgres, tmp_path: Path, slow: Provider) -> None:
    url = own_postgres.url(own_postgres.create_database())
    project = new_project(tmp_path / "project", url)
    prepare(project, slow)
    with running(project, "upgrade") as process:
        wait_for(lambda: len(slow.requests()) >= 10, process)
        own_postgres.stop()
        stopped = end(process).expect(6)
    assert RESUME in stopped.stderr.splitlines()
    down = project.vecmig("upgrade").expect(6)
    assert down.stderr.splitlines()[0].startswith(f"The database at {url} cannot be reached: ")
    assert project.vecmig("status", "--json").expect(6).stdout == ""
    own_postgres.start()
    project.vecmig("upgrade").expect()
    assert_complete(project, slow)


# The index ---------------------------------------------------------------------------------------------------------

NOISE = """\
import numpy as np


def embed(texts):
    return np.random.default_rng(len(texts)).standard_normal((len(texts), 128))
"""
BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
INDEX = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{}_hnsw')"


@pytest.fixture
def indexing(project: Project) -> Project:
    """A project that is about to build an index for which PostgreSQL takes seconds."""
    new = tag("noise", 128)
    make_documents(project, 2_000)
    (project.path / "noise.py").write_text(NOISE)
    hnsw = {"m": 60, "ef_construction": 500}
    recipe = {"provider": "python", "callable": "noise:embed", "dims": 128}
    describe(project, {"documents": documents_collection(new, hnsw=hnsw)}, {new: recipe})
    script(project, "aaaa", new)
    project.vecmig("upgrade", "--until", "backfill").expect()
    return project


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "terminated"])
def test_cut_short_during_the_index_build(indexing: Project, vecmig: Vecmig, how: str) -> None:
    project = indexing
    index = INDEX.format(partition("documents", tag("noise", 128)))
    with running(project, "upgrade") as process:
        wait_for(lambda: bool(project.sql(BUILDING)), process)
        if how == "terminated":
            project.sql(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS building")
        else:
            process.send_signal(getattr(signal, how))
        stopped = end(process)
    assert stopped.code == {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "terminated": 6}[how], stopped
    assert "Traceback" not in stopped.stderr
    if how != "SIGKILL":  # PostgreSQL goes on building for a client that is gone
        assert project.sql(index) == [(False,)]
    done = vecmig("upgrade")
    assert project.sql(index) == [(True,)]
    assert "backfill  0 records embedded" in done.stderr
    assert done.stdout == "aaaa  live  revision aaaa\n"
