"""``vecmig sync --watch`` as a service, in a process of its own: beside an application, an upgrade, and trouble."""

from __future__ import annotations

import platform
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Self

import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, new_project, script, tag
from support.postgres import Postgres
from support.project import Project, Result
from support.provider import Provider
from support.stamps import text_hash
from support.waiting import wait_for
from vecmig.gate.spot import SAMPLE

OLD, NEW = tag("fake", 8), tag("other", 8)
COUNT, BATCH, FLYING = 60, 5, 2
IDLE = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE 'no change is noted; last full pass %'"
HASH = text_hash("d.title || ' ' || d.body")
#: Records of which a tag in use lacks a fresh vector.
LACKING = f"""
SELECT count(*)
FROM public.documents d, vecmig.route r, unnest(ARRAY[r.live, r.standby, r.candidate]) AS t
WHERE t IS NOT NULL AND NOT EXISTS (
    SELECT FROM documents_vectors v
    WHERE v.id = d.id AND v.tag = t AND v.source_hash = {HASH})
"""


@pytest.fixture
def slow() -> Iterator[Provider]:
    """A provider that takes 20 ms for each request."""
    with Provider(dims=8, latency=0.02) as server:
        yield server


@pytest.fixture
def live(project: Project, slow: Provider, vecmig: Vecmig) -> Project:
    """A project whose first tag is live; a second revision waits."""
    prepare(project, slow)
    vecmig("upgrade", "aaaa")
    slow.forget()
    return project


def prepare(project: Project, provider: Provider, **service: Any) -> None:
    """Write two revisions."""
    make_documents(project, COUNT)
    recipe = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(NEW)}, {OLD: recipe | service, NEW: recipe | service})
    script(project, "aaaa", OLD)
    script(project, "bbbb", NEW, old=OLD, down="aaaa", gate="Gate(coverage=0.5, freshness_budget=0.5)")


def watching(project: Project, *args: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run the service in the background; it is killed at the end at the latest."""
    return project.running("sync", "--watch", "--every", "0.1", *args)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> Result:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Result(("sync", "--watch"), process.returncode, out, err)


def idle(project: Project, tags: int = 1) -> bool:
    """Whether the service has done all there was to do."""
    return project.sql(IDLE) == [(tags,)]


def complete(project: Project) -> bool:
    """Whether every tag in use has a fresh vector of every record, and no change waits."""
    return project.sql(LACKING) == [(0,)] and project.sql("SELECT count(*) FROM vecmig.change") == [(0,)]


def sent(provider: Provider) -> Counter[str]:
    """Count how often each text of a record was sent; the canaries are left out."""
    texts = [text for request in provider.requests() for text in request["inputs"]]
    return Counter(text for text in texts if not text.startswith(("The quick", "How do I", "Über")))


class Application(threading.Thread):
    """Edits, inserts and deletes records until it is stopped; every text it writes is new."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._random = random.Random(7)  # no secret
        self._stopped = threading.Event()
        self.written = 0

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stopped.wait(0.05):
                self.written += 1
                self._change(connection)

    def _change(self, connection: psycopg.Connection[Any]) -> None:
        key, n = self._random.randint(1, COUNT), self.written
        match n % 5:
            case 0:
                connection.execute("INSERT INTO documents VALUES (%s, 'title', %s)", [COUNT + n, f"inserted {n}"])
            case 1:
                connection.execute("DELETE FROM documents WHERE id = %s", [COUNT + n - 6])
            case _:
                connection.execute("UPDATE documents SET body = %s WHERE id = %s", [f"edited {n}", key])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self.join()


def test_an_application_writes_all_along_beside_an_upgrade(live: Project, slow: Provider) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        with Application(project.database_url) as application:
            project.vecmig("upgrade").expect()
            seen = application.written
            wait_for(lambda: application.written > seen + 20, service)
        wait_for(lambda: complete(project), service)
        wait_for(lambda: idle(project, tags=2), service)
        stopped = end(service).expect()
    assert "is left to" in stopped.stderr
    assert project.sql("SELECT live, standby FROM vecmig.route") == [(NEW, OLD)]
    assert project.sql("SELECT count(DISTINCT tag) FROM documents_vectors") == [(2,)]
    twice = {text: times for text, times in sent(slow).items() if times > 2}
    # each text once for each tag; one that changed between reading and writing was paid for and not written
    # the gate's look at a sample comes on top
    assert sum(times - 2 for times in twice.values()) <= 2 * FLYING * BATCH + SAMPLE + 2


def test_each_edit_is_embedded_once_for_each_tag(live: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = live
    vecmig("upgrade")
    slow.forget()
    with watching(project) as service:
        wait_for(lambda: idle(project, tags=2), service)
        assert sent(slow) == Counter()
        for number in range(1, 6):
            project.sql(f"UPDATE documents SET body = 'edit {number}' WHERE id % 6 = {number}")
            wait_for(lambda: complete(project), service)
        stopped = end(service).expect()
    assert sent(slow) == Counter({f"title {i} edit {i % 6}": 2 for i in range(1, COUNT + 1) if i % 6})
    assert set(stopped.stdout.splitlines()) == {f"documents, {name}: 50 records embedded" for name in (NEW, OLD)}
    lines = [line for line in stopped.stderr.splitlines() if line.startswith("  sync ")]
    assert len(lines) >= 1
    assert "embedded under" in lines[0]
    assert project.sql("SELECT count(*) FROM vecmig.run") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_writes_what_is_in_flight_and_exits_with_0(live: Project, slow: Provider, number: int) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        project.sql("UPDATE documents SET body = 'edited ' || id")
        wait_for(lambda: len(sent(slow)) >= 15, service)
        end(service, number).expect()
    written = "SELECT count(*) FROM documents_vectors v JOIN documents d USING (id) "
    fresh = project.sql(written + f"WHERE v.source_hash = {HASH}")[0][0]
    assert len(sent(slow)) == fresh < COUNT, "what was sent was written"
    with watching(project) as service:
        wait_for(lambda: complete(project), service)
        end(service).expect()
    assert set(sent(slow).values()) == {1}


def test_killed_and_started_again_it_loses_nothing(live: Project, slow: Provider) -> None:
    project = live
    kills = 3
    with Application(project.database_url):
        for _ in range(kills):
            with watching(project) as service:
                before = len(sent(slow))
                wait_for(lambda before=before: len(sent(slow)) > before + 10, service)  # type: ignore[misc]
                service.kill()
                service.communicate()
    with watching(project) as service:
        wait_for(lambda: complete(project), service)
        end(service).expect()
    twice = sum(times - 1 for times in sent(slow).values())
    assert twice <= (kills + 1) * 2 * FLYING * BATCH


def test_two_at_once(live: Project, vecmig: Vecmig) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        for refused in (vecmig("sync", code=5), project.vecmig("sync", "--watch").expect(5)):
            first, *rest = refused.stderr.splitlines()
            assert first.startswith("Another sync is at work on collection documents: vecmig sync --watch ")
            assert f" {service.pid} (pid " in first
            assert rest[0] == "Nothing was changed."
            assert rest[1].startswith(f"The watch at {platform.node()} (pid {service.pid}) brings the tags up to date")
            assert rest[1].endswith("To run another sync, end it first.")
        (at_work,) = vecmig("status", "--json").json["collections"][0]["runs"]
        assert (at_work["what"], at_work["state"]) == ("sync", "waiting")
        assert at_work["reason"].startswith("no change is noted; last full pass ")
        end(service).expect()


def test_a_provider_outage_is_survived(live: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        slow.faults("503")
        project.sql("UPDATE documents SET body = 'edited' WHERE id = 3")
        wait_for(lambda: project.sql("SELECT state FROM vecmig.run") == [("waiting",)], service)
        wait_for(lambda: "503" in str(vecmig("status", "--json").json["collections"][0]["runs"]), service)
        (collection,) = vecmig("status", "--json").json["collections"]
        assert collection["lag"]["records"] == 1
        assert "  1 record changed " in vecmig("status").stdout
        slow.faults()
        wait_for(lambda: complete(project), service)
        assert vecmig("status", "--json").json["collections"][0]["lag"] == {"records": 0, "seconds": 0.0}
        stopped = end(service).expect()
    assert "waiting: " in stopped.stderr
    assert project.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]


def test_a_wrong_key_ends_it_with_7(live: Project, slow: Provider) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        slow.faults("401")
        project.sql("UPDATE documents SET body = 'edited' WHERE id = 3")
        out, err = service.communicate(timeout=60)
    Result((), service.returncode, out, err).expect(7)
    assert "(HTTP 401)" in err or "key" in err


def test_it_stands_still_while_it_is_paused(live: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = live
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        vecmig("pause", "--reason", "maintenance")
        wait_for(lambda: project.sql("SELECT state FROM vecmig.run") == [("paused",)], service)
        project.sql("UPDATE documents SET body = 'edited' WHERE id = 3")
        project.sql("UPDATE documents SET body = 'edited again' WHERE id = 4")
        # two looks later
        seen = project.sql("SELECT seen_at FROM vecmig.run")
        wait_for(lambda: project.sql("SELECT seen_at FROM vecmig.run") != seen, service)
        seen = project.sql("SELECT seen_at FROM vecmig.run")
        wait_for(lambda: project.sql("SELECT seen_at FROM vecmig.run") != seen, service)
        assert sent(slow) == Counter()
        vecmig("resume")
        wait_for(lambda: complete(project), service)
        end(service).expect()


def test_the_database_restarts(own_postgres: Postgres, tmp_path: Any, slow: Provider) -> None:
    project = new_project(tmp_path / "project", own_postgres.url(own_postgres.create_database()))
    prepare(project, slow)
    project.vecmig("upgrade", "aaaa").expect()
    slow.forget()
    with watching(project) as service:
        wait_for(lambda: idle(project), service)
        own_postgres.stop()
        time.sleep(1)
        own_postgres.start()
        project.sql("UPDATE documents SET body = 'edited' WHERE id = 3")
        wait_for(lambda: complete(project), service)
        end(service).expect()
    assert sent(slow) == Counter({"title 3 edited": 1})
