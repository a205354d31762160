"""The patience after a cutover, as its operator sees it: way back, trust, and the end of the old tag."""

from __future__ import annotations

import signal

import psycopg
import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, partition, script, tag
from support.cli import write_hashing as write_models
from support.project import Project
from support.terminal import in_terminal, plain
from support.waiting import wait_for

A, B = tag("old", 16), tag("new", 32)
PRICED = {"price_per_million_tokens": 1000.0}


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project)
    write_models(project, 16, 32)
    describe(project, {"documents": documents_collection(B)}, {A: local(16) | PRICED, B: local(32)})
    script(project, "aaaa", A)
    path = script(project, "bbbb", B, old=A, down="aaaa")
    text = path.read_text().replace("import Gate,", "import Gate, Trust,")
    path.write_text(text.replace("gate = Gate()", "gate = Gate()\ntrust = Trust(days=3, eval_days=0)"))
    vecmig("upgrade", "head")


#: What ``switched`` stands on.
BEGINNINGS = {"switched": _prepare}


@pytest.fixture
def switched(project: Project) -> Project:
    """From A to B a moment ago; three days are asked for, and no evals."""
    return project


def age(project: Project, days: int) -> None:
    """Let the cutover be so many days older."""
    project.sql(f"UPDATE vecmig.revision SET live_at = live_at - interval '{days} days'")
    project.sql(f"UPDATE vecmig.route SET changed_at = changed_at - interval '{days} days'")


def relation(project: Project, name: str) -> bool:
    """Whether there is one of this name."""
    return project.sql("SELECT to_regclass(%s) IS NOT NULL", name) == [(True,)]


def test_the_story_of_an_old_tag(switched: Project, vecmig: Vecmig) -> None:
    shown = vecmig("status").stdout
    assert f"  rollback  to {A}, 100 % covered, < 1 s: vecmig downgrade -1\n" in shown
    assert "  trust     live 0 of 3 days, retire from 20" in shown
    shown = vecmig("status", "-v").stdout
    assert "  trust     live for 0 days, 3 asked for\n" in shown
    assert f"  retire    {A} possible from 20" in shown

    switched.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    refused = vecmig("downgrade", "-1", code=3).stderr
    assert f"The gate refuses the rollback: {A} lacks 1 of 40 records" in refused
    assert "Run: vecmig sync" in refused
    assert f"refused: {A} lacks 1 of 40 records, 97.5 % covered; run: vecmig sync" in vecmig("status").stdout
    vecmig("sync")

    refused = vecmig("retire", "documents", A, "--yes", code=3).stderr
    assert f"{B} has not earned the trust yet that lets {A} go: days live." in refused
    assert "Nothing was changed." in refused
    age(switched, 3)
    assert f"  retire    now: vecmig retire documents {A}\n" in vecmig("status").stdout

    asked = vecmig("retire", "documents", A, code=2)
    assert "  goes            40 vectors of 40 records, " in asked.stdout
    assert "everything is embedded again: about " in asked.stdout
    assert " tokens, $" in asked.stdout
    assert "To retire it without being asked, add --yes" in asked.stderr
    assert relation(switched, partition("documents", A))

    done = vecmig("retire", "documents", A, "--yes", "--reason", "out of disk")
    assert f"{A} is retired; " in done.stdout
    assert not relation(switched, partition("documents", A))
    shown = vecmig("status").stdout
    assert f"  rollback  none: {A} was retired; to have it again: vecmig revision --to-tag {A}\n" in shown
    assert "  trust " not in shown
    assert f"the vectors of {A} were retired" in vecmig("downgrade", "-1", code=1).stderr
    assert vecmig("check").stdout == "Nothing is pending.\n"


def test_the_way_back_keeps_its_command_beside_a_candidate(switched: Project, vecmig: Vecmig) -> None:
    describe(switched, {"documents": documents_collection(A)}, {A: local(16), B: local(32)})
    script(switched, "cccc", A, old=B, down="bbbb")
    vecmig("upgrade", "--until", "expand")
    line = f"  rollback  to {A}, 100 % covered, < 1 s: vecmig downgrade aaaa (rolls back cccc too)\n"
    assert line in vecmig("status").stdout
    (found,) = vecmig("status", "--json").json["collections"]
    assert found["rollback"]["command"] == "vecmig downgrade aaaa"
    vecmig("downgrade", "aaaa")
    (found,) = vecmig("status", "--json").json["collections"]
    assert (found["live_tag"], found["candidate_tag"]) == (A, None)


def test_what_retiring_still_takes_is_a_sentence(switched: Project, vecmig: Vecmig) -> None:
    path = switched.path / "migrations" / "versions" / "bbbb_test.py"
    path.write_text(path.read_text().replace("eval_days=0", "eval_days=1"))
    first = (
        "run vecmig eval on 1 day; or, where there are no suites, say so in the revision: from vecmig import Trust; "
        "trust = Trust(days=3, eval_days=0)\n"
    )
    assert ", evals on 0 of 1, retire not before 20" in vecmig("status").stdout
    assert f", but first: {first}" in vecmig("status", "-v").stdout
    age(switched, 3)
    assert "  trust     live 3 of 3 days, evals on 0 of 1\n" in vecmig("status").stdout
    assert f"  retire    not yet; first {first}" in vecmig("status", "-v").stdout


def test_the_json_has_the_way_back_and_the_trust(switched: Project, vecmig: Vecmig) -> None:
    (found,) = vecmig("status", "--json").json["collections"]
    assert found["rollback"] == {
        "to": A,
        "revision": "bbbb",
        "coverage": 1.0,
        "lacking": 0,
        "budget": 0.005,
        "ready": True,
        "retired": False,
        "command": "vecmig downgrade -1",
    }
    trust = found["trust"]
    assert (trust["revision"], trust["old_tag"], trust["holds"]) == ("bbbb", A, False)
    assert (trust["days_required"], trust["eval_days_required"], trust["eval_days"]) == (3, 0, 0)
    assert [(check["name"], check["passed"]) for check in trust["checks"]] == [
        ("days live", False),
        ("eval days", True),
        ("shadow", True),
    ]
    age(switched, 3)
    vecmig("retire", "documents", A, "--yes")
    (found,) = vecmig("status", "--json").json["collections"]
    assert (found["rollback"]["retired"], found["rollback"]["ready"], found["rollback"]["command"]) == (
        True,
        False,
        None,
    )


def test_on_a_terminal_the_name_has_to_be_typed(switched: Project) -> None:
    age(switched, 3)
    shown = plain(in_terminal(switched, "retire", "documents", A, columns=200, typed=f"{B}\n"))
    assert "To delete it, type the tag's name" in shown
    assert "That is not the tag's name." in shown
    assert relation(switched, partition("documents", A))
    shown = plain(in_terminal(switched, "retire", "documents", A, columns=200, typed=f"{A}\n"))
    assert f"{A} is retired" in shown
    assert not relation(switched, partition("documents", A))


def test_killed_while_it_waits_for_a_reader_the_next_run_finishes(switched: Project, vecmig: Vecmig) -> None:
    age(switched, 3)
    with psycopg.connect(switched.database_url) as reader:
        reader.execute("SELECT count(*) FROM documents_vectors")
        with switched.start("retire", "documents", A, "--yes", "--reason", "first") as process:
            pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
            wait_for(lambda: switched.sql(pending) == [(1,)])
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert reader.execute("SELECT count(*) FROM documents_live").fetchone() == (40,)
    assert f"  half retired  {A}; to finish it: vecmig retire documents {A}\n" in vecmig("status").stdout
    shown = vecmig("retire", "documents", A, "--yes").stdout
    assert "an earlier run began it and was cut short" in shown
    assert not relation(switched, partition("documents", A))
    assert "half retired" not in vecmig("status").stdout
    events = switched.sql("SELECT kind, data ->> 'reason' FROM vecmig.event WHERE kind LIKE 'retire%%' ORDER BY id")
    assert events == [("retire", "first"), ("retired", None)]


def test_a_running_service_lets_go_of_the_tag_and_goes_on(switched: Project, vecmig: Vecmig) -> None:
    age(switched, 3)
    idle = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE 'no change is noted; last full pass %'"
    with switched.start("sync", "--watch", "--every", "0.1") as service:
        try:
            wait_for(lambda: switched.sql(idle) == [(2,)])
            switched.sql("UPDATE documents SET body = body || ' edited'")
            vecmig("retire", "documents", A, "--yes")
            switched.sql("INSERT INTO documents VALUES (41, 'after', 'it went')")
            wait_for(lambda: switched.sql("SELECT count(*) FROM documents_live") == [(41,)])
            wait_for(lambda: switched.sql("SELECT count(*) FROM vecmig.change") == [(0,)])
            service.send_signal(signal.SIGTERM)
            _, told = service.communicate(timeout=60)
        finally:
            service.kill()
    assert service.returncode == 0, told
    assert not relation(switched, partition("documents", A))
