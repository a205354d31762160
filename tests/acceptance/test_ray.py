"""``--engine ray`` as an operator meets it: signals, secrets, what it prints, and Ray itself missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project, Result
from support.provider import Provider
from support.waiting import wait_for

pytestmark = pytest.mark.long

TAG = tag("fake", 8)
COUNT, BATCH, WORKERS = 1_000, 5, 2
KEY, PASSWORD = "sk-not-for-any-log", "not-for-any-log-either"
ENVIRON = {"FAKE_KEY": KEY}
UPGRADE = ("upgrade", "--until", "backfill", "--engine", "ray", "--workers", str(WORKERS))


@pytest.fixture
def slow() -> Iterator[Provider]:
    """A provider that wants a key, and takes 30 ms for each request."""
    with Provider(dims=8, latency=0.03, key=KEY) as server:
        yield server


@pytest.fixture
def distributed(project: Project, slow: Provider) -> Project:
    """A project whose backfill takes 200 requests of 5 records, one at a time by each of two workers."""
    make_documents(project, COUNT)
    service = {"base_url": slow.url, "api_key_env": "FAKE_KEY", "max_batch": BATCH, "concurrency": WORKERS}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: {"provider": "openai", "dims": 8} | service})
    script(project, "aaaa", TAG)
    with_password = project.database_url.replace("postgres@", f"postgres:{PASSWORD}@")
    assert with_password != project.database_url
    project.ini.write_text(project.ini.read_text().replace(project.database_url, with_password))
    return project


@pytest.fixture
def ray_files() -> Iterator[Path]:
    """Where Ray keeps its files; the path is short, because it puts sockets there."""
    pytest.importorskip("ray", reason="the extra ray is not installed: pip install -e '.[dev]'")
    place = Path(tempfile.mkdtemp(prefix="vecmig-ray-", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def running(project: Project, ray_files: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the upgrade in the background, in a process group of its own; it is killed at the end at the latest."""
    with project.start(*UPGRADE, env=environ(ray_files), own_group=True) as process:
        try:
            yield process
        finally:
            process.kill()


def environ(ray_files: Path) -> dict[str, str]:
    """Give the variables that a run needs."""
    return ENVIRON | {"RAY_TMPDIR": str(ray_files)}


def sent(provider: Provider) -> Counter[str]:
    """Count how often each record was sent."""
    texts = (text for request in provider.requests() for text in request["inputs"])
    return Counter(text for text in texts if text.startswith("title"))


def alive(ray_files: Path) -> list[int]:
    """Find the processes that still work with Ray's files. A worker has a title in place of its command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (entry / "cmdline").read_bytes()
            if said.startswith(b"ray::Worker"):
                said = (entry / "environ").read_bytes()
            if str(ray_files).encode() in said:
                found.append(int(entry.name))
    return found


def written(project: Project) -> int:
    """Count the vectors."""
    return int(project.sql("SELECT count(*) FROM documents_vectors")[0][0])


def test_a_run_prints_what_it_prints_without_ray_and_no_secret_lies_about(
    distributed: Project, slow: Provider, ray_files: Path
) -> None:
    done = distributed.vecmig(*UPGRADE, env=environ(ray_files)).expect()
    assert done.stdout == "aaaa  backfilled  revision aaaa\n"
    first, *lines, last = done.stderr.splitlines()
    assert first == "aaaa  documents"
    assert last.startswith(f"  backfill  {COUNT:,} records embedded")
    # on a busy machine it takes Ray a while
    waiting = "  waiting: the workers are being started", "  waiting: Ray has started no worker yet"
    known = "  expand ", *waiting, "  backfill "
    assert [line for line in lines if not line.startswith(known)] == []
    assert set(sent(slow).values()) == {1}
    assert not alive(ray_files)
    files = [path for path in ray_files.rglob("*") if path.is_file()]
    assert files, "Ray has kept its files here"
    for secret in (KEY, PASSWORD):
        assert secret not in done.stderr
        assert not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("whole_group", [False, True], ids=["SIGTERM to vecmig", "Ctrl-C to all"])
def test_a_signal_lets_the_workers_finish_what_is_in_flight(
    distributed: Project, slow: Provider, ray_files: Path, whole_group: bool
) -> None:
    with running(distributed, ray_files) as process:
        wait_for(lambda: len(slow.requests()) >= 40, process)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        stopped = Result((), process.returncode, out, err).expect(130)
    there = written(distributed)
    assert BATCH < there < COUNT
    assert stopped.stderr.splitlines()[-3:] == [
        f"Interrupted after {there} records.",
        "What was in flight was finished and written; nothing is paid for twice.",
        "To go on, run the same command again.",
    ]
    assert sum(sent(slow).values()) == there
    wait_for(lambda: not alive(ray_files))
    distributed.vecmig("upgrade", "--until", "index", env=ENVIRON).expect()
    assert written(distributed) == COUNT
    assert set(sent(slow).values()) == {1}


def test_killing_vecmig_takes_the_workers_along(distributed: Project, slow: Provider, ray_files: Path) -> None:
    with running(distributed, ray_files) as process:
        wait_for(lambda: len(slow.requests()) >= 40, process)
        process.kill()
        process.wait()
        wait_for(lambda: not alive(ray_files))
    distributed.vecmig("upgrade", "--until", "index", env=ENVIRON).expect()
    assert written(distributed) == COUNT
    twice = sum(times - 1 for times in sent(slow).values())
    assert twice <= WORKERS * BATCH, "one request was in flight in each worker"


def test_without_ray_the_extra_is_named(distributed: Project, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("FAKE_KEY", KEY)
    refused = vecmig("upgrade", "--engine", "ray", code=2)
    assert refused.stderr.splitlines()[-2:] == [
        "--engine ray needs Ray, which is not installed.",
        "Run: pip install 'vecmig[ray]'",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--engine", "spark"], "--engine 'spark' is not an engine."),
        (["--workers", "2"], "--workers 2 asks for a fleet."),
    ],
)
def test_an_engine_that_does_not_exist(distributed: Project, vecmig: Vecmig, args: list[str], message: str) -> None:
    assert vecmig("upgrade", *args, code=2).stderr.splitlines()[0] == message
