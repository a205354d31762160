"""What status says, for programs and for people; and how everything looks in a terminal and without one."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    script,
    tag,
    write_hashing,
)
from support.project import Project
from support.terminal import in_terminal, plain
from vecmig.cli import progress

A = tag("text-embedding-of-a-long-name", 16, chunk="512")
B = tag("text-embedding-of-a-long-name", 32, chunk="512")
CHUNKS = {"chunk": {"size": 512, "unit": "characters", "overlap": 64}}
RECIPES = {A: local(16) | CHUNKS, B: local(32) | CHUNKS}


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 400)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(B)}, RECIPES)
    script(project, "aaaa", A)
    script(project, "bbbb", B, old=A, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "100")
    project.sql("UPDATE documents SET body = 'edited' WHERE id < 3")


#: What ``halfway`` stands on.
BEGINNINGS = {"halfway": _prepare}


@pytest.fixture
def halfway(project: Project) -> Project:
    """A project on its way from A to B: 100 of 400 records are embedded, and two were edited since."""
    return project


def test_the_documented_json(halfway: Project, vecmig: Vecmig) -> None:
    found = vecmig("status", "--json").json
    assert {"database", "current", "heads", "pending", "collections"} <= found.keys()
    assert found["database"] == halfway.database_url
    assert (found["current"], found["heads"], found["pending"]) == (["aaaa"], ["bbbb"], ["bbbb"])
    (collection,) = found["collections"]
    assert {name: collection[name] for name in ("name", "live_tag", "standby_tag", "candidate_tag")} == {
        "name": "documents",
        "live_tag": A,
        "standby_tag": None,
        "candidate_tag": B,
    }
    assert (collection["records"], collection["eligible"]) == (400, 400)
    live, building = collection["tags"]
    documented = ("tag", "state", "dims", "records", "vectors", "fresh", "stale", "missing", "rejected", "coverage")
    assert {name: building[name] for name in (*documented, "index", "evals")} == {
        "tag": B,
        "state": "building",
        "dims": 32,
        "records": 100,
        "vectors": 100,
        "fresh": 98,
        "stale": 2,
        "missing": 300,
        "rejected": 0,
        "coverage": 0.245,
        "index": "none",
        "evals": [],
    }
    assert (live["state"], live["fresh"], live["stale"], live["index"]) == ("live", 398, 2, "valid")
    gate = collection["gate"]
    assert (gate["revision"], gate["passed"]) == ("bbbb", False)
    assert gate["checks"][0] == {
        "name": "coverage",
        "passed": False,
        "value": 0.245,
        "required": 0.995,
        "detail": "302 of 400 records have no fresh vector",
    }
    assert [check["name"] for check in gate["checks"]] == [
        *("coverage", "freshness", "unexplained", "vectors", "index", "index used", "rollback", "canary", "spot check"),
    ]


def test_coverage_is_never_rounded_up(project: Project, vecmig: Vecmig) -> None:
    count = 3000
    make_documents(project, count)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    vecmig("upgrade")
    project.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    assert " 99.96 %" in vecmig("status").stdout
    project.sql("INSERT INTO documents SELECT i, 't', NULL FROM generate_series(10000, 10010) AS i")
    assert "\n  3,011 records, 11 without text\n" in vecmig("status").stdout
    vecmig("sync")
    assert "  100 %  3,000 " in vecmig("status").stdout


def test_reading_commands_write_nothing(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 5)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    for command, code in (("status", 0), ("current", 0), ("gate", 0), ("check", 4)):
        vecmig(command, code=code)
    vecmig("search", "documents", "x", code=2)
    assert project.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'") == [(0,)]


def test_a_source_that_does_not_exist_yet(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    write_hashing(project, 16)
    wanted = {"documents": documents_collection(A), "papers": documents_collection(A, source="papers")}
    describe(project, wanted, RECIPES)
    script(project, "aaaa", A)
    vecmig("upgrade")
    shown = vecmig("status").stdout.split("\n\n")
    assert shown[1].startswith("documents  OK  live text-embedding-of-a-long-name/dim-16, 0 behind\n  20 records\n")
    assert shown[2] == (
        "papers  ATTENTION  no tag yet\n"
        '  Collection papers: the source "papers" does not exist in this database.\n'
        "  Correct source: in collections.yaml, or check that database_url names the right database."
    )
    assert shown[3] == "next      vecmig revision\n"
    documents, papers = vecmig("status", "--json").json["collections"]
    assert (documents["problem"], documents["eligible"]) == (None, 20)
    assert (papers["problem"], papers["tags"], papers["gate"]) == (
        'Collection papers: the source "papers" does not exist in this database.',
        [],
        None,
    )
    assert vecmig("status", "--check", code=4).stderr == "Something is pending.\nRun: vecmig revision\n"
    describe(project, wanted | {"papers": documents_collection(None, source="papers")}, RECIPES)
    lost = vecmig("status", "--check", code=4)
    assert lost.stdout.splitlines()[-1] == "next      correct what stands above"
    assert lost.stderr == "Something is pending.\nRun: vecmig status\n"
    # the first revision of a collection may create its source
    steps = {"upgrade": "m.execute('CREATE TABLE papers AS SELECT * FROM documents WHERE id < 9')\nm.expand()"}
    script(project, "bbbb", A, collection="papers", down="aaaa", **steps)
    vecmig("upgrade")
    assert vecmig("status", "--check").code == 0


def test_next_is_sync_when_only_the_old_tag_is_in_the_way(halfway: Project, vecmig: Vecmig) -> None:
    halfway.sql("UPDATE documents SET body = 'edited' WHERE id < 9")
    refused = vecmig("upgrade", code=3)
    assert refused.stderr.splitlines()[-3:] == [
        f"The gate of documents refuses the cutover to {B}: rollback.",
        "Nothing was changed: reads go on as before.",
        "Run: vecmig sync",
    ]
    assert vecmig("status").stdout.splitlines()[-1] == "next      vecmig sync"
    vecmig("sync")
    assert vecmig("status").stdout.splitlines()[-1] == "next      vecmig upgrade head"
    vecmig("upgrade")


def test_triggers_that_are_gone(halfway: Project, vecmig: Vecmig) -> None:
    halfway.sql("ALTER TABLE documents DISABLE TRIGGER ALL")
    refused = vecmig("gate", code=3)
    assert "the triggers that tell of changes are gone or disabled" in refused.stdout
    shown = vecmig("status").stdout
    assert "Of documents, triggers on the source are gone or disabled." in shown
    vecmig("sync")
    assert "gone or disabled" not in vecmig("status").stdout
    vecmig("upgrade")


def test_what_somebody_dropped_is_seen_and_made_anew(halfway: Project, vecmig: Vecmig) -> None:
    halfway.sql("DROP VIEW documents_live")
    halfway.sql("DROP FUNCTION documents_search")
    ((index,),) = halfway.sql(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid::regclass::text ~ 'hnsw'"
    )
    halfway.sql(f"DROP INDEX {index}")
    (collection,) = vecmig("status", "--json").json["collections"]
    for word in ("the live view is gone", "the search function is gone", "the index of the live tag"):
        assert word in collection["problem"]
    vecmig("status", "--check", code=4)
    vecmig("sync")
    (collection,) = vecmig("status", "--json").json["collections"]
    assert collection["problem"] is None
    assert halfway.sql("SELECT count(*) > 0 FROM documents_live") == [(True,)]


# For people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 200])
def test_status_in_a_terminal(halfway: Project, columns: int) -> None:
    shown = in_terminal(halfway, "status", columns=columns)
    assert "\x1b[1;33mdocuments  PENDING  live " in shown, "what is pending is yellow"
    text = plain(shown)
    heads = ["state", "coverage", "fresh", "stale", "missing", "rejected", "vectors", "index", "tag"]
    lines = text.splitlines()
    assert max(map(len, lines[5:])) <= columns
    at = next(number for number, line in enumerate(lines) if line.split()[:1] == ["state"])
    verdict = next(line for line in lines if line.startswith("documents  "))
    figures = ["+", "building", "24.5", "%", "98", "2", "300"]
    if columns == 200:
        long = "text-embedding-of-a-long-name"
        assert verdict == f"documents  PENDING  live {long}/dim-16, {long}/dim-32 expanded at 24.5 %, 2 behind"
        assert lines[at].split() == heads
        assert lines[at + 2].split() == [*figures, "0", "100", "none", B]
    else:
        assert verdict == "documents  PENDING  live …/dim-16, …/dim-32 expanded at 24.5 %, 2 behind"
        assert lines[at].split() == heads
        assert lines[at + 1].startswith("→  live")
        assert lines[at + 2].split() == [*figures, "0", "100", "none", "…/dim-32"]
    assert "2 records changed, the oldest " in text
    told = " ".join(text.split())
    names = "coverage, freshness, unexplained, index, index used"
    assert f"gate of bbbb: not before vecmig upgrade has seen to {names}; 2 checks passed" in told
    assert lines[-1] == "next      vecmig upgrade head"


def test_on_a_narrow_terminal_what_says_nothing_gives_way(halfway: Project) -> None:
    lines = plain(in_terminal(halfway, "status", columns=75)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:1] == ["state"])
    assert lines[at].split() == ["state", "coverage", "fresh", "stale", "missing", "vectors", "index", "tag"]
    assert lines[at + 2].split() == ["+", "building", "24.5", "%", "98", "2", "300", "100", "none", "…/dim-32"]
    lines = plain(in_terminal(halfway, "status", columns=60)).splitlines()
    assert "   text-embedding-of-a-long-name/dim-32" in lines, "and then the tag stands below its figures"


def test_verbose_says_all_of_it(halfway: Project, vecmig: Vecmig) -> None:
    shown = vecmig("status", "--verbose").stdout
    assert "\n  gate of bbbb: refuses\n" in shown
    checks = [
        "coverage",
        "freshness",
        "unexplained",
        "vectors",
        "index",
        "index used",
        "rollback",
        "canary",
        "spot check",
    ]
    assert re.findall(r"^  (?:ok|NO|\?) +(\S+(?: \S+)?)", shown, re.MULTILINE) == checks
    narrow = plain(in_terminal(halfway, "status", "-v", columns=80)).splitlines()
    assert f"   {B}" in narrow, "tags in full, below their figures"


def test_what_is_trusted_is_said_in_a_line(halfway: Project, vecmig: Vecmig) -> None:
    halfway.sql("UPDATE documents SET body = body")
    vecmig("sync")
    vecmig("upgrade")
    shown = vecmig("status").stdout
    live = "documents  OK  live text-embedding-of-a-long-name/dim-32, rollback ready, 0 behind"
    assert live in shown.splitlines()
    assert re.search(
        r"^  trust +live 0 of 21 days, evals on 0 of 3, retire not before \d{4}-\d\d-\d\d$",
        shown,
        re.MULTILINE,
    )
    assert "  retire " not in shown
    assert re.search(
        r"^  retire +\S+ possible from .*, but first: run vecmig eval ", vecmig("status", "-v").stdout, re.MULTILINE
    )


def test_only_the_collections_that_are_named(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    write_hashing(project, 16)
    both = {"documents": documents_collection(A), "papers": documents_collection(A, source="papers")}
    describe(project, both, RECIPES)
    script(project, "aaaa", A)
    vecmig("upgrade")
    assert "papers" not in vecmig("status", "documents").stdout
    assert vecmig("status", "documents", "--check").code == 0
    vecmig("status", "--check", code=4)
    assert [one["verdict"] for one in vecmig("status", "--json").json["collections"]] == ["OK", "ATTENTION"]
    (papers,) = vecmig("status", "papers", "--json").json["collections"]
    assert (papers["name"], papers["why"]) == ("papers", papers["problem"])
    assert "has no collection 'papes'" in vecmig("status", "papes", code=2).stderr


def test_the_gate_in_a_narrow_terminal(halfway: Project) -> None:
    lines = plain(in_terminal(halfway, "gate", columns=80)).splitlines()
    table = lines[1:-3]
    assert max(map(len, table)) <= 80
    assert table[1].split()[:2] == ["NO", "coverage"]
    assert lines[-2:] == ["Run: vecmig backfill", "Run: vecmig upgrade head --until index"]


def test_a_run_in_a_terminal(halfway: Project) -> None:
    shown = in_terminal(halfway, "upgrade", "--until", "index", columns=80)
    assert "\x1b[?25l" in shown, "something moves"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "and the cursor is back"
    steps = [line for line in plain(shown).splitlines() if re.match(r"  (backfill|index)  ", line)]
    assert len(steps) == 2
    assert "bbbb  indexed  revision bbbb" in shown


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour(halfway: Project, variables: dict[str, str]) -> None:
    for command in (["status"], ["gate"], ["upgrade", "--until", "backfill"]):
        shown = in_terminal(halfway, *command, columns=80, env=variables)
        assert "\x1b[1" not in shown
        assert "\x1b[3" not in shown


def test_without_a_terminal(halfway: Project, vecmig: Vecmig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    done = vecmig("upgrade", "--until", "backfill")
    assert "\x1b" not in done.stdout + done.stderr
    moving = [line for line in done.stderr.splitlines() if line.startswith("  backfill ") and "coverage" in line]
    assert moving
    assert re.fullmatch(r"  backfill 302 of 302, [\d,]+/s, coverage 100 %", moving[-1])
    quiet = vecmig("-q", "upgrade", "--until", "index")
    assert (quiet.stdout, quiet.stderr) == ("bbbb  indexed  revision bbbb\n", "")


def test_json_is_one_document_and_progress_is_not_in_it(halfway: Project, vecmig: Vecmig) -> None:
    for command in (["status", "--json"], ["current", "--json"], ["search", "documents", "record 7", "--json"]):
        result = vecmig(*command)
        json.loads(result.stdout)
        assert result.stderr == ""
    refused = vecmig("gate", "--json", code=3)
    assert refused.json[0]["collection"] == "documents"


def test_a_terminal_without_our_characters(halfway: Project) -> None:
    plain_ascii = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    shown = halfway.vecmig("status", env=plain_ascii).expect()
    assert "\n?  live" in shown.stdout
    halfway.vecmig("upgrade", env=plain_ascii).expect()


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream(halfway: Project, closed: int) -> None:
    command = f'exec "$0" -m vecmig upgrade {closed}>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], cwd=halfway.path, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert halfway.sql("SELECT DISTINCT tag FROM documents_live") == [(B,)]
