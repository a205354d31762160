"""What happened, for whoever is on call: in words, in JSON, and as it happens."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import AbstractContextManager

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.postgres import Postgres
from support.project import Project
from support.terminal import in_terminal, plain
from support.waiting import wait_for

A, B = tag("model", 16), tag("model", 32)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 40)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(B)}, {A: local(16), B: local(32)})
    script(project, "aaaa", A)
    script(project, "bbbb", B, old=A, down="aaaa")
    vecmig("upgrade")


#: What ``live`` stands on.
BEGINNINGS = {"live": _prepare}


@pytest.fixture
def live(project: Project) -> Project:
    """A project that went to A, and from there to B."""
    return project


def _told(stdout: str) -> list[str]:
    """Return what happened, without when and by whom."""
    return [re.sub(r"^\S+ \S+ UTC  postgres on \S+\s+", "", line) for line in stdout.splitlines()]


def _old(project: Project, kind: str, data: str = "{}", collection: str | None = "documents") -> None:
    project.sql(
        "INSERT INTO vecmig.event (at, kind, collection, host, version, data) "
        "VALUES ('2026-01-02 03:04:05+00', %s, %s, 'ci-7', '0.0.9', %s)",
        kind,
        collection,
        data,
    )


def following(project: Project, *args: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Follow in the background; it is killed at the end at the latest."""
    return project.running("events", "--follow", *args)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_what_happened_in_words(live: Project, vecmig: Vecmig) -> None:
    vecmig("pause", "--reason", "the site is slow")
    vecmig("resume")
    live.sql("SELECT vecmig.view_detach('documents')")
    vecmig("view", "attach", "documents")
    vecmig("downgrade", "-1")
    shown = vecmig("events")
    assert shown.stderr == ""
    told = _told(shown.stdout)
    assert re.fullmatch(r"documents  expanded for model/dim-16: 16 dimensions \(revision aaaa.*\)", told[0])
    assert re.match(
        r"documents  backfilled model/dim-16: 40 records embedded in .*, coverage 100 % \(revision", told[1]
    )
    assert re.match(r"documents  index of model/dim-16 built: 40 vectors, ", told[2])
    assert told[3].startswith("documents  cutover: reads moved from no tag to model/dim-16, at a coverage of 100 %")
    assert told[7].startswith("documents  cutover: reads moved from model/dim-16 to model/dim-32, at a coverage of 100")
    assert told[8:10] == ["documents  paused: the site is slow", "documents  resumed"]
    assert re.fullmatch(r"\S+ \S+ UTC  postgres by SQL\s+documents  live view detached", told[10])
    assert told[11] == "documents  live view attached"
    assert told[12].startswith("documents  rollback: reads moved from model/dim-32 back to model/dim-16")
    assert len(told) == 13


def test_what_happened_as_json(live: Project, vecmig: Vecmig) -> None:
    found = vecmig("events", "documents", "--json").json
    assert [event["kind"] for event in found] == ["expand", "backfill", "index", "cutover"] * 2
    assert found[-1].keys() == {
        *("id", "at", "kind", "collection", "revision", "tag", "role", "host", "git_commit", "version", "data")
    }
    assert (found[-1]["tag"], found[-1]["data"]["from"], found[-1]["revision"]) == (B, A, "bbbb")


def test_a_failure_and_a_kind_of_another_version(live: Project, vecmig: Vecmig) -> None:
    _old(live, "failed", '{"what": "upgrade", "error": "The key was\\nrefused.", "exit_code": 7}')
    _old(live, "teleport", '{"colour": "\\u001b[31mred"}', None)
    shown = vecmig("events", "--since", "2026-01-01").stdout
    failed, teleported = shown.splitlines()[-2:]
    assert failed.endswith("  documents  upgrade failed (exit code 7): The key was refused.")
    assert failed.startswith("2026-01-02 03:04:05 UTC  postgres on ci-7 ")
    assert teleported.endswith('  -          teleport {"colour": "\\u001b[31mred"}')


def test_where_nothing_happened_the_newest_event_before_is_named(live: Project, vecmig: Vecmig) -> None:
    _old(live, "resume", collection="papers")
    first, event = vecmig("events", "papers", "--since", "7d").stdout.splitlines()
    assert first == "No event in the last 7d. The newest one before:"
    assert event == "2026-01-02 03:04:05 UTC  postgres on ci-7  papers  resumed"
    assert vecmig("events", "--collection", "papers", "--json").stdout == "[]\n"
    assert vecmig("events", "papers", "--since", "2026-01-02T03:04").stdout == f"{event}\n"
    assert vecmig("events", "papes", code=2).stderr.startswith("migrations/collections.yaml has no collection 'papes'")
    assert vecmig("events", "papers", "--collection", "documents", code=2).stderr.startswith(
        "Two collections are named"
    )
    assert vecmig("events", "--since", "yesterday", code=2).stderr.startswith("--since yesterday: this is no time.\n")


def test_before_anything_happened(project: Project, vecmig: Vecmig) -> None:
    assert vecmig("events").stdout == "Nothing happened here yet.\n"
    assert vecmig("events", "--json").json == []
    assert project.sql("SELECT to_regnamespace('vecmig')") == [(None,)]
    make_documents(project, 3)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    with following(project) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Nothing happened here yet.\n"
        vecmig("upgrade", "--until", "expand")
        assert "documents  expanded for model/dim-16" in _line(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_happens_is_followed_until_it_is_asked_to_end(live: Project, vecmig: Vecmig, number: int) -> None:
    with following(live, "--since", "0s") as process:
        wait_for(lambda: _asked(live) > 0, process)
        vecmig("pause", "--reason", "the site is slow")
        assert _line(process).endswith("  documents  paused: the site is slow")
        vecmig("resume")
        assert _line(process).endswith("  documents  resumed")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_line_of_json_each(live: Project, vecmig: Vecmig) -> None:
    with following(live, "--json") as process:
        kinds = [json.loads(_line(process))["kind"] for _ in range(8)]
        vecmig("pause")
        last = json.loads(_line(process))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert kinds == ["expand", "backfill", "index", "cutover"] * 2
    assert (last["kind"], last["data"]) == ("pause", {})


def test_a_database_that_went_away_is_waited_for(live: Project, vecmig: Vecmig, postgres: Postgres) -> None:
    with following(live, "--since", "0s") as process:
        wait_for(lambda: _asked(live) > 0, process)
        ((ended,),) = live.sql(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert ended
        vecmig("pause")
        assert _line(process).endswith("  documents  paused")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "waiting: The database at " in err


def _asked(project: Project) -> int:
    """Count the sessions that have asked the history for what is new."""
    ((count,),) = project.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%' "
        "AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    return int(count)


@pytest.mark.parametrize("columns", [80, 200])
def test_events_in_a_terminal(live: Project, columns: int) -> None:
    shown = in_terminal(live, "events", columns=columns)
    assert "\x1b[32m" in shown, "a cutover is green"
    lines = plain(shown).splitlines()
    assert max(map(len, lines)) <= columns
    assert (len(lines) == 8) == (columns == 200)
    assert "\x1b" not in in_terminal(live, "events", columns=columns, env={"NO_COLOR": "1"})
