"""Collections that are independent: each on its own branch, upgraded and rolled back alone; and two heads of one."""

from __future__ import annotations

import json
import re

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.project import Project

A, B, C = tag("hashing", 16), tag("hashing", 32), tag("hashing", 48)
RECIPES = {A: local(16), B: local(32), C: local(48)}


def ask_for(project: Project, documents: str, notes: str) -> None:
    """Make collections.yaml ask for a tag of each collection."""
    described = {"source": "notes", "key": ["id"], "text": "note", "tag": notes}
    describe(project, {"documents": documents_collection(documents), "notes": described}, RECIPES)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    project.sql("CREATE TABLE notes (id text PRIMARY KEY, note text)")
    project.sql("INSERT INTO notes SELECT 'n' || i, 'note about subject ' || i FROM generate_series(1, 12) AS i")
    write_hashing(project, 16, 32, 48)
    ask_for(project, A, A)
    vecmig("revision", "--collection", "documents", "--rev-id", "aaaa")
    vecmig("revision", "--collection", "notes", "--rev-id", "nnnn")
    vecmig("upgrade", "head")


#: What ``both`` stands on.
BEGINNINGS = {"both": _prepare}


@pytest.fixture
def both(project: Project) -> Project:
    """A project of two collections, each live by the first revision of a branch of its own."""
    return project


def live(project: Project) -> dict[str, str]:
    """Give the live tag of each collection."""
    return dict(project.sql("SELECT collection, live FROM vecmig.route"))


def notes_as_they_are(project: Project) -> list[tuple[object, ...]]:
    """Give what the ledger knows of the notes, and all of their vectors."""
    return [
        *project.sql("SELECT * FROM vecmig.revision WHERE collection = 'notes' ORDER BY id"),
        *project.sql("SELECT * FROM vecmig.route WHERE collection = 'notes'"),
        *project.sql("SELECT * FROM vecmig.event WHERE collection = 'notes' ORDER BY id"),
        *project.sql("SELECT tag, id, embedded_at FROM notes_vectors ORDER BY 1, 2"),
    ]


def test_two_who_move_one_collection_hear_the_same_from_every_command(both: Project, vecmig: Vecmig) -> None:
    script(both, "bbbb", B, old=A, down="aaaa")
    script(both, "cccc", C, old=A, down="aaaa")
    ask_for(both, B, A)
    said = "documents has 2 heads, bbbb, cccc: each moves it, and neither follows the other.\n"
    advised = (
        "Let one that is not applied follow the other, by its down_revision and old_tag: "
        "vecmig edit bbbb, or vecmig edit cccc\n"
    )
    before = both.ledger()
    for command in (
        ["upgrade"],
        ["upgrade", "heads"],
        ["upgrade", "documents@head"],
        ["upgrade", "--sql"],
        ["plan"],
        ["merge", "heads"],
        ["merge", "bbbb", "cccc"],
        ["check"],
        ["check", "--offline"],
        ["current", "--check-heads"],
        ["show", "head"],
        ["stamp", "head"],
        ["revision", "--collection", "documents"],
        ["revision", "--autogenerate"],
    ):
        assert vecmig(*command, code=2).stderr == said + advised, command
    shown = vecmig("heads")
    assert shown.stdout == "bbbb (documents) (head)\ncccc (documents) (head)\nnnnn (notes) (head)\n"
    assert shown.stderr == said + advised
    status = vecmig("status").stdout
    assert f"{said}{advised}".replace("\n", " ").strip() in " ".join(status.split())
    assert "merge" not in status
    assert vecmig("status", "--check", code=4).stderr.startswith("Something is pending.\n")
    assert json.loads(vecmig("check", "--json", code=2).stdout)["conflicts"] == [
        {"name": "documents", "revisions": ["bbbb", "cccc"]}
    ]
    assert len(both.versions) == 4
    assert both.ledger() == before
    # the other collection goes on, and what was advised is enough
    vecmig("upgrade", "notes@head")
    path = next(path for path in both.versions if path.name.startswith("cccc"))
    path.write_text(path.read_text().replace("'aaaa'", "'bbbb'").replace(repr(A), repr(B)))
    ask_for(both, C, A)
    vecmig("upgrade")
    assert live(both) == {"documents": C, "notes": A}
    assert vecmig("heads").stderr == ""
    assert vecmig("status", "--check").stderr == ""


def take_to(project: Project, vecmig: Vecmig, documents: str, notes: str) -> None:
    """Write a revision of each collection, ``bbbb`` and ``mmmm``."""
    ask_for(project, documents, notes)
    vecmig("revision", "--collection", "documents", "--rev-id", "bbbb")
    vecmig("revision", "--collection", "notes", "--rev-id", "mmmm")


def test_each_goes_forward_and_one_is_rolled_back_alone(both: Project, vecmig: Vecmig) -> None:
    take_to(both, vecmig, B, B)
    assert vecmig("heads").stdout == "bbbb (documents) (head)\nmmmm (notes) (head)\n"
    assert vecmig("check", code=4).stderr.endswith("Run: vecmig upgrade head\n")
    assert {step["revision"] for step in vecmig("plan", "--json").json} == {"bbbb", "mmmm"}
    vecmig("upgrade", "documents@head")
    assert live(both) == {"documents": B, "notes": A}
    assert vecmig("current").stdout == (
        "bbbb  live (head)  documents: 16 to 32 dimensions\nnnnn  live  notes: first tag, 16 dimensions\n"
    )
    vecmig("upgrade", "notes@+1")
    assert live(both) == {"documents": B, "notes": B}
    assert vecmig("current", "--check-heads").code == 0
    notes = notes_as_they_are(both)

    bare = vecmig("downgrade", "-1", code=2)
    assert bare.stderr == (
        "'-1' is ambiguous: it could mean documents@-1, notes@-1.\n"
        "Run: vecmig downgrade documents@-1\n"
        "or:  vecmig downgrade notes@-1\n"
    )
    assert {c["name"]: c["rollback"]["command"] for c in vecmig("status", "--json").json["collections"]} == {
        "documents": "vecmig downgrade documents@-1",
        "notes": "vecmig downgrade notes@-1",
    }
    assert vecmig("downgrade", "documents@-1").stdout == (
        f"bbbb  rolled back  documents: 16 to 32 dimensions\n  reads of documents use {A}\n"
    )
    assert live(both) == {"documents": A, "notes": B}
    assert vecmig("upgrade").stdout.startswith("bbbb  on hold  "), "and no deploy undoes it"
    assert live(both) == {"documents": A, "notes": B}
    vecmig("downgrade", "documents@base")
    assert live(both) == {"documents": None, "notes": B}
    assert [row["revision"] for row in vecmig("current", "--json").json] == ["mmmm"]
    assert notes_as_they_are(both) == notes, "the other collection was not touched"
    vecmig("upgrade")
    assert live(both) == {"documents": B, "notes": B}
    assert notes_as_they_are(both) == notes


def test_history_and_show_of_one(both: Project, vecmig: Vecmig) -> None:
    take_to(both, vecmig, B, B)
    assert vecmig("history", "-r", "documents@base:documents@head").stdout == (
        "aaaa -> bbbb (documents) (head), documents: 16 to 32 dimensions\n"
        "<base> -> aaaa (documents), documents: first tag, 16 dimensions\n"
    )
    assert vecmig("show", "notes@head", "--json").json[0]["revision"] == "mmmm"
    assert {one["revision"] for one in vecmig("show", "head", "--json").json} == {"bbbb", "mmmm"}


def test_a_candidate_is_given_up_alone(both: Project, vecmig: Vecmig) -> None:
    take_to(both, vecmig, B, B)
    stopped = vecmig("upgrade", "head", "--until", "backfill")
    assert sorted(stopped.stdout.splitlines()) == [
        "bbbb  backfilled  documents: 16 to 32 dimensions",
        "mmmm  backfilled  notes: 16 to 32 dimensions",
    ]
    notes = notes_as_they_are(both)
    assert "Run: vecmig downgrade documents@-1\n" in vecmig("downgrade", "-1", "--discard", code=2).stderr
    vecmig("downgrade", "documents@-1", "--discard")
    assert both.sql("SELECT tag FROM vecmig.tag WHERE collection = 'documents'") == [(A,)]
    assert notes_as_they_are(both) == notes
    vecmig("upgrade", "notes@head")
    assert live(both) == {"documents": A, "notes": B}


def test_a_gate_that_refuses_holds_up_its_collection_alone(both: Project, vecmig: Vecmig) -> None:
    take_to(both, vecmig, B, B)
    script(both, "b2", C, old=B, down="bbbb")
    refuse(both, "bbbb")
    refused = vecmig("upgrade", code=3)
    assert live(both) == {"documents": A, "notes": B}
    assert "Revision mmmm of notes is live." in refused.stderr
    assert "b2" not in refused.stderr, "what rests on it is not begun"
    assert both.sql("SELECT id FROM vecmig.revision WHERE id = 'b2'") == []
    refuse(both, "bbbb", again=False)
    vecmig("upgrade")
    assert live(both) == {"documents": C, "notes": B}


def test_two_gates_that_refuse_are_both_told_of(both: Project, vecmig: Vecmig) -> None:
    take_to(both, vecmig, B, B)
    for revision in ("bbbb", "mmmm"):
        refuse(both, revision)
    refused = vecmig("upgrade", code=3).stderr
    assert live(both) == {"documents": A, "notes": A}
    assert len([line for line in refused.splitlines() if "was refused too" in line]) == 1


def refuse(project: Project, revision: str, *, again: bool = True) -> None:
    """Make the gate of a revision ask for more than there is, or as it did before."""
    usual, strict = "coverage=0.995, freshness_budget=0.005", "coverage=0.995, shadow=MinSamples(40)"
    (path,) = (path for path in project.versions if path.name.startswith(f"{revision}_"))
    text = path.read_text().replace("import Gate, Migration", "import Gate, Migration, MinSamples")
    path.write_text(text.replace(usual, strict) if again else text.replace(strict, usual))


def test_every_line_names_its_collection(both: Project, vecmig: Vecmig) -> None:
    both.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    both.sql("UPDATE notes SET note = 'edited' WHERE id = 'n1'")
    for line in vecmig("sync").stderr.splitlines():
        assert re.match(r"  sync +(documents|notes), ", line), line
    take_to(both, vecmig, B, B)
    vecmig("upgrade", "--until", "expand")
    steps = [line for line in vecmig("backfill").stderr.splitlines() if line.startswith("  ")]
    assert sorted(line.split(":")[0] for line in steps) == ["  backfill  documents", "  backfill  notes"]
    lines = vecmig("upgrade").stderr.splitlines()
    (second,) = (at for at, line in enumerate(lines) if line in ("bbbb  documents", "mmmm  notes") and at)
    name = lines[second].split()[1]
    assert all(line[12:].startswith(f"{name}: ") for line in lines[second + 1 :] if line.startswith("  "))


def test_a_stamp_is_about_one_branch(both: Project, vecmig: Vecmig) -> None:
    before = both.sql("SELECT * FROM vecmig.revision ORDER BY id")
    assert "reads no tag" not in vecmig("stamp", "documents@base", code=2).stderr
    assert vecmig("stamp", "documents@head").stdout == "Nothing to do: the ledger says so already.\n"
    assert vecmig("stamp", "head").stdout == "Nothing to do: the ledger says so already.\n"
    # a script that was written in another way, and is meant
    path = next(path for path in both.versions if path.name.startswith("aaaa"))
    path.write_text(path.read_text() + "\nmeant = True\n")
    assert "record it: vecmig stamp aaaa" in vecmig("upgrade", code=2).stderr
    assert vecmig("stamp", "aaaa").stdout == "Recorded: aaaa\n"
    assert vecmig("upgrade").stdout == "Nothing to do: the database is there already.\n"
    after = both.sql("SELECT * FROM vecmig.revision ORDER BY id")
    assert [row for row in after if row[0] != "aaaa"] == [row for row in before if row[0] != "aaaa"]


def test_one_line_for_two_collections_goes_on(project: Project, vecmig: Vecmig) -> None:
    """As projects have it that began before collections had branches."""
    make_documents(project, 10)
    project.sql("CREATE TABLE notes (id text PRIMARY KEY, note text)")
    project.sql("INSERT INTO notes VALUES ('n1', 'a note')")
    write_hashing(project, 16, 32, 48)
    ask_for(project, A, A)
    script(project, "aaaa", A)
    script(project, "nnnn", A, collection="notes", down="aaaa")
    vecmig("upgrade")
    ask_for(project, B, B)
    vecmig("revision", "--autogenerate")
    vecmig("revision", "--empty", "-m", "statements of our own")
    assert len(vecmig("heads").stdout.splitlines()) == 1
    vecmig("upgrade")
    assert live(project) == {"documents": B, "notes": B}
    vecmig("downgrade", "-2")
    assert live(project) == {"documents": B, "notes": A}
    vecmig("downgrade", "base")
    assert live(project) == {"documents": None, "notes": None}


def test_statements_on_one_branch_begin_again_with_it(both: Project, vecmig: Vecmig) -> None:
    vecmig("revision", "--empty", "--head", "documents@head", "--rev-id", "eeee", "-m", "a role")
    path = next(path for path in both.versions if path.name.startswith("eeee"))
    path.write_text(path.read_text().replace('pass  # m.execute("…")', 'm.execute("CREATE TABLE ours (id int)")', 1))
    assert vecmig("heads").stderr == "", "it is on the branch of documents"
    vecmig("upgrade")
    assert both.sql("SELECT to_regclass('ours') IS NULL") == [(False,)]
    both.sql("DROP TABLE ours")
    vecmig("downgrade", "documents@-1")
    assert vecmig("upgrade").stdout.startswith("eeee  on hold  ")
    vecmig("downgrade", "documents@base")
    assert live(both) == {"documents": None, "notes": A}
    vecmig("upgrade")
    assert live(both) == {"documents": A, "notes": A}
    assert both.sql("SELECT to_regclass('ours') IS NULL") == [(False,)], "its statements ran again"
