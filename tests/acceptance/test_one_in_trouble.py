"""Several collections of which one cannot go on: the others do, the end says which failed and why."""

from __future__ import annotations

import pytest

from support.cli import Vecmig, describe, local, script, tag, write_hashing
from support.project import Project

A, B = tag("hashing", 16), tag("hashing", 32)
RECIPES = {A: local(16), B: local(32)}
NAMES = ("notes_1", "notes_2", "notes_3")
GONE = "DROP TABLE notes_2 CASCADE"
SWAPPED = "ALTER TABLE notes_2 RENAME TO gone; CREATE TABLE notes_2 (LIKE gone INCLUDING ALL)"
WITHOUT_TEXT = "ALTER TABLE notes_2 DROP COLUMN note CASCADE"
#: What becomes of the collection in the middle, and the exit code that says so.
TROUBLES = {GONE: 2, SWAPPED: 1, WITHOUT_TEXT: 2}


def ask_for(project: Project, wanted: str) -> None:
    """Make collections.yaml ask for a tag of each collection."""
    described = {name: {"source": name, "key": ["id"], "text": "note", "tag": wanted} for name in NAMES}
    describe(project, described, RECIPES)


def _prepare(project: Project, vecmig: Vecmig) -> None:
    for name in NAMES:
        project.sql(f"CREATE TABLE {name} (id text PRIMARY KEY, note text)")
        project.sql(f"INSERT INTO {name} SELECT 'n' || i, 'note about subject ' || i FROM generate_series(1, 12) AS i")
    write_hashing(project, 16, 32)
    ask_for(project, A)
    script(project, "aaaa", A, collection="notes_*")
    vecmig("upgrade", "head")
    ask_for(project, B)
    script(project, "bbbb", B, old=A, down="aaaa", collection="notes_*")


#: What ``three`` stands on.
BEGINNINGS = {"three": _prepare}


@pytest.fixture
def three(project: Project) -> Project:
    """Three tables that are alike, live under one script over a pattern; another script leads to the next tag."""
    return project


def live(project: Project) -> dict[str, str]:
    """Give the live tag of each collection."""
    return dict(project.sql("SELECT collection, live FROM vecmig.route"))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_upgrade_takes_the_others_forward(three: Project, vecmig: Vecmig, trouble: str) -> None:
    three.sql(trouble)
    failed = vecmig("upgrade", "head", code=TROUBLES[trouble])
    assert live(three) == {"notes_1": B, "notes_2": A, "notes_3": B}
    said = failed.stderr.splitlines()
    assert "Revision bbbb_notes_1 of notes_1 is live." in said
    assert "Revision bbbb_notes_3 of notes_3 is live." in said
    # once where it happens, and once in the end
    assert len([line for line in said if "notes_2" in line and ("does not" in line or "is another" in line)]) == 2
    # in the history, too, of that collection alone
    assert three.sql("SELECT DISTINCT collection FROM vecmig.event WHERE kind = 'failed'") == [("notes_2",)]
    again = vecmig("upgrade", "head", code=TROUBLES[trouble])
    assert "is live." not in again.stderr


def test_each_command_goes_on_with_the_others(three: Project, vecmig: Vecmig) -> None:
    write_suites(three)
    vecmig("upgrade", "head", "--until", "expand")
    three.sql(GONE)
    why = 'Collection notes_2: the source "notes_2" does not exist in this database.'
    # what each says of the others
    others = {
        ("plan",): ("bbbb_notes_1  ", "bbbb_notes_3  "),
        ("backfill",): ("notes_1: 12 of 12", "notes_3: 12 of 12"),
        ("sync",): (f"notes_1, {A}: 12 of 12", f"notes_3, {B}: 12 of 12"),
        ("gate",): ("notes_1: gate of bbbb_notes_1", "notes_3: gate of bbbb_notes_3"),
        ("eval",): ("suite_1: 1 query to notes_1", "suite_3: 1 query to notes_3"),
        ("upgrade", "--sql"): ("-- revision bbbb_notes_1", "-- revision bbbb_notes_3"),
    }
    for command, said in others.items():
        failed = vecmig(*command, code=2)
        assert why in failed.stderr, command
        for text in said:
            assert text in failed.stdout, command
    # a document of JSON stays one
    assert {one["collection"] for one in vecmig("plan", "--json", code=2).json} == {"notes_1", "notes_3"}
    assert {one["collection"] for one in vecmig("gate", "--json", code=2).json} == {"notes_1", "notes_3"}
    assert {one["collection"] for one in vecmig("eval", "--json", code=2).json["suites"]} == {"notes_1", "notes_3"}
    # those that only look
    checked = vecmig("check", code=2).stderr
    assert why in checked
    assert "Revisions are pending: bbbb_notes_3, bbbb_notes_1." in checked
    assert "Run: vecmig upgrade head" in checked
    status = vecmig("status").stdout
    assert why in status
    assert "\nnotes_3  PENDING" in status
    audit = vecmig("audit", "--no-embedder", code=4).stdout
    assert "notes_2: unreadable source (error)" in audit


def test_the_worst_decides_about_the_exit_code(three: Project, vecmig: Vecmig) -> None:
    three.sql(GONE)
    # what was asked for cannot be, a source was replaced, and there is nothing to be done about the third
    three.sql("ALTER TABLE notes_1 RENAME TO gone; CREATE TABLE notes_1 (LIKE gone INCLUDING ALL)")
    failed = vecmig("upgrade", code=1).stderr
    assert "public.notes_1 is another table than the one whose vectors notes_1 has" in failed
    assert 'Revision bbbb_notes_2 of notes_2 failed too: Collection notes_2: the source "notes_2" does not' in failed
    assert "Revision bbbb_notes_3 of notes_3 is live." in failed
    assert live(three) == {"notes_1": A, "notes_2": A, "notes_3": B}


def test_on_a_line_that_collections_share_what_rests_on_a_failure_waits(three: Project, vecmig: Vecmig) -> None:
    for path in three.versions:
        if path.name.startswith("bbbb"):
            path.unlink()
    script(three, "b1", B, old=A, down="aaaa_notes_1", collection="notes_1")
    script(three, "b2", B, old=A, down=("b1", "aaaa_notes_2"), collection="notes_2")
    script(three, "b3", B, old=A, down=("b2", "aaaa_notes_3"), collection="notes_3")
    three.sql(GONE)
    failed = vecmig("upgrade", code=2).stderr
    assert live(three) == {"notes_1": B, "notes_2": A, "notes_3": A}
    assert "Revision b3 of notes_3 was not begun: it rests on b2." in failed


def test_what_somebody_dropped_of_the_others_is_made_again(three: Project, vecmig: Vecmig) -> None:
    ask_for(three, A)
    next(path for path in three.versions if path.name.startswith("bbbb")).unlink()
    three.sql("DROP TABLE notes_1 CASCADE")
    three.sql("DROP VIEW notes_3_live")
    assert 'the source "notes_1" does not exist' in vecmig("upgrade", code=2).stderr
    assert three.sql("SELECT count(*) FROM notes_3_live") == [(12,)]


def write_suites(project: Project) -> None:
    """Write a suite for each collection."""
    (project.path / "evals").mkdir()
    for number, name in enumerate(NAMES, start=1):
        suite = f"collection: {name}\nqueries:\n  - {{query: subject 3, relevant: [n3]}}\n"
        (project.path / "evals" / f"suite_{number}.yaml").write_text(suite)
