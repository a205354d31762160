"""An adoption that is killed in its middle, or that an application writes beside: nothing is bought or lost."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from support.cli import Vecmig
from support.embedded_documents import CALLS, DIFFERENT, ORPHANED, UNSTAMPED, change_vector, prepare_adoption, write
from support.held_writes import HELD, hold_at
from support.project import Project
from support.provider import Provider
from support.waiting import wait_for
from vecmig.gate.spot import SAMPLE

#: Two full pages and a rest. The second page is held where its statement has written all of it, before its commit.
COUNT, PAGE, HELD_AT = 5_000, 2_000, 3_000
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'vecmig%%'"
_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'deletes' AND wait_event_type = 'Lock'"


@pytest.fixture(params=CALLS)
def ready(request: pytest.FixtureRequest, project: Project, provider: Provider, vecmig: Vecmig) -> Project:
    """A project with room for the first tag, whose adoption will be held in its middle; for each home."""
    prepare_adoption(project, provider, request.param, COUNT, gate="Gate(coverage=0.9, freshness_budget=0.1)")
    vecmig("upgrade", "--until", "expand")
    project.sql(hold_at(HELD_AT))
    provider.forget()
    return project


@contextmanager
def held(project: Project, process: subprocess.Popen[str]) -> Iterator[None]:
    """Hold an upgrade in the second page of its adoption for as long as the block runs."""
    with psycopg.connect(project.database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        wait_for(lambda: project.sql(HELD) == [(1,)], process)
        assert project.sql("SELECT count(*) FROM documents_vectors") == [(PAGE,)]
        yield


def is_complete(project: Project, vecmig: Vecmig, count: int) -> None:
    """Check that each record has one stamp, of its text, and the vector that the application has put there."""
    assert project.sql("SELECT count(*), count(DISTINCT id) FROM documents_vectors") == [(count, count)]
    assert [project.sql(query) for query in (UNSTAMPED, ORPHANED, DIFFERENT)] == [[(0,)]] * 3
    (tag,) = vecmig("status", "--json").json["collections"][0]["tags"]
    assert (tag["coverage"], tag["fresh"], tag["stale"], tag["missing"]) == (1.0, count, 0, 0)


def only_checked(provider: Provider) -> None:
    """Check that the provider was asked for nothing but one sample, and a long text with another end."""
    sent = {text for request in provider.requests() for text in request["inputs"] if text.startswith("title")}
    assert len(sent) <= SAMPLE + 2


def test_killed_in_the_middle_it_goes_on_and_buys_nothing(ready: Project, provider: Provider, vecmig: Vecmig) -> None:
    with ready.running("upgrade") as process, held(ready, process):
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    wait_for(lambda: ready.sql(_SESSIONS) == [(0,)])
    # the server ends what was asked of it before, and nobody asks for more
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(2 * PAGE,)]
    assert provider.requests() == []

    ready.sql("DROP FUNCTION hold CASCADE")
    vecmig("upgrade")
    is_complete(ready, vecmig, COUNT)
    only_checked(provider)
    (details,) = ready.sql("SELECT data FROM vecmig.event WHERE kind = 'adopt'")
    assert (details[0]["adopted"], details[0]["written"]) == (COUNT - 2 * PAGE, 0)


def delete_aside(project: Project, key: int) -> threading.Thread:
    """Delete a record that the adoption has locked, in a session of its own."""

    def delete() -> None:
        with psycopg.connect(project.database_url, autocommit=True, application_name="deletes") as connection:
            connection.execute("DELETE FROM documents WHERE id = %s", [key])

    thread = threading.Thread(target=delete)
    thread.start()
    return thread


def test_what_the_application_writes_meanwhile_is_there_after_one_sync(
    ready: Project, provider: Provider, vecmig: Vecmig
) -> None:
    with ready.running("upgrade") as process:
        with held(ready, process), psycopg.connect(ready.database_url, autocommit=True) as application:
            # records that are adopted, that are being adopted, and that are not read yet
            for done in (0, PAGE, 2 * PAGE):
                change_vector(application, done + 10)
                write(application, done + 11, f"edited {done}")
            for new in (-1, COUNT + 1):
                write(application, new, "new")
            for gone in (12, 2 * PAGE + 12):
                application.execute("DELETE FROM documents WHERE id = %s", [gone])
            deletion = delete_aside(ready, HELD_AT)
            wait_for(lambda: ready.sql(_WAITS) == [(1,)], process)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        deletion.join(60)
        assert not deletion.is_alive()
    only_checked(provider)
    provider.forget()
    vecmig("sync")
    is_complete(ready, vecmig, COUNT + 2 - 3)
    only_checked(provider)
    assert ready.sql("SELECT count(*) FROM vecmig.change") == [(0,)]
