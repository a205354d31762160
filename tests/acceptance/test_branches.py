"""Collections that are independent: each on its own branch, upgraded and rolled back alone; and two heads of one."""

from __future__ import annotations

import json

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
