"""Rows that come under ``where``: their own vectors are taken over, unless the text was edited while it was outside."""

from __future__ import annotations

import psycopg
import pytest
import yaml

from support.adopting import TEXT, adopts, give_vectors, lies, literal
from support.embedding import Model
from support.lab import SMALL, Lab
from vecmig import runner

HOMES = {"partition": 'm.adopt("embedding")', "column": 'm.adopt("embedding", home="column")'}
OUT = "UPDATE documents SET state = 'out' WHERE id = {id}"
DRAFT = "UPDATE documents SET state = 'draft' WHERE id = {id}"
INSERTED = "INSERT INTO documents VALUES ({id}, 'title {id}', 'made', {made}, 'draft')"
BARE = "INSERT INTO documents VALUES ({id}, 'title {id}', 'made', NULL, 'draft')"
EDITED = "UPDATE documents SET body = 'edited' WHERE id = {id}"
VECTOR = "UPDATE documents SET embedding = {edited} WHERE id = {id}"
NEW = "UPDATE documents SET body = 'new', embedding = {new} WHERE id = {id}"
OLD_TEXT = "UPDATE documents SET body = 'was' WHERE id = {id}"
OLD = "UPDATE documents SET body = 'was', embedding = {was} WHERE id = {id}"

#: What an application does, transaction by transaction, and whether the record is without a vector of its text then.
_STORIES = {
    "a draft is published": ([INSERTED, OUT], False),
    "a draft is published at once": ([f"{INSERTED}; {OUT}"], False),
    "a draft gets its vector, and is published": ([BARE, VECTOR.replace("edited", "made"), OUT], False),
    "a draft gets text and vector, and is published": ([INSERTED, NEW, OUT], False),
    "a draft is edited, gets its vector, and is published": ([INSERTED, EDITED, VECTOR, OUT], False),
    "a draft is edited and gets its vector at once, and is published": ([INSERTED, f"{EDITED}; {VECTOR}", OUT], False),
    "a draft is edited and published": ([INSERTED, EDITED, OUT], True),
    "a draft is edited and published at once": ([INSERTED, f"{EDITED}; {OUT}"], True),
    "a draft is published and edited at once": ([INSERTED, f"{OUT}; {EDITED}"], True),
    "a draft is edited and published by one statement": ([INSERTED, EDITED.replace("SET", "SET state = 'out',")], True),
    "a draft is published with its text by one statement": ([BARE, NEW.replace("SET", "SET state = 'out',")], False),
    "a draft is published, and edited": ([INSERTED, OUT, EDITED], True),
    "a draft is edited, and is out, in and out again": ([INSERTED, EDITED, OUT, DRAFT, OUT], True),
    "a draft without a vector is published": ([BARE, OUT], True),
    "a record is out and in again": ([DRAFT, OUT], False),
    "a record is edited outside": ([DRAFT, EDITED, OUT], True),
    "a record is edited inside, and is out and in again": ([EDITED, DRAFT, OUT], True),
    "a record gets text and vector outside": ([DRAFT, NEW, OUT], False),
    "a record gets its vector outside, after its text": ([DRAFT, EDITED, VECTOR, OUT], False),
    "a record gets text and vector outside, and is edited": ([DRAFT, NEW, EDITED, OUT], True),
    "a record gets text and vector outside, and its old text": ([DRAFT, NEW, OLD_TEXT, OUT], True),
    "a record gets text and vector outside, and its old ones": ([DRAFT, NEW, OLD, OUT], False),
}
_FIRST = 101


def _adopted(lab: Lab, home: str, *, where: str = "state <> 'draft'") -> Lab:
    """Adopt the vectors of a table in which each story has its record; a draft is not there yet."""
    lab.sql("ALTER TABLE documents ADD COLUMN embedding vector(64), ADD COLUMN state text NOT NULL DEFAULT 'out'")
    for key, story in enumerate(_STORIES, _FIRST):
        if story.startswith("a record"):
            lab.sql("INSERT INTO documents (id, title, body) VALUES (%s, %s, 'was')", key, f"title {key}")
    give_vectors(lab)
    lab.write(options={"where": where})
    adopts(lab, HOMES[home])
    lab.upgrade("r1")
    return lab


def _filled_in(statements: str, key: int) -> str:
    vectors = {body: f"'{literal(f'title {key}{chr(10) * 2}{body}')}'" for body in ("made", "edited", "new", "was")}
    return statements.format(id=key, **vectors)


def _fresh(lab: Lab) -> set[int]:
    """Return the records whose stamp is of their text, and that have a vector."""
    digest = f"encode(substr(sha256(convert_to({TEXT}, 'UTF8')), 1, 16), 'hex')::uuid"
    rows = lab.sql(
        f"SELECT id FROM documents JOIN documents_vectors v USING (id) WHERE v.source_hash = {digest} "
        "AND id IN (SELECT l.id FROM documents_live l)"
    )
    return {key for (key,) in rows}


@pytest.mark.parametrize("how", ["synced", "unsynced", "among many"])
@pytest.mark.parametrize("home", HOMES)
def test_a_vector_counts_for_the_text_that_it_was_made_of(lab: Lab, model: Model, home: str, how: str) -> None:
    _adopted(lab, home)
    for turn in range(max(len(steps) for steps, _ in _STORIES.values())):
        for key, (steps, _) in enumerate(_STORIES.values(), _FIRST):
            if turn < len(steps):
                with psycopg.connect(lab.url) as connection:
                    if how == "among many":
                        # behind its first two changes, the trigger gathers what it notes
                        connection.execute("UPDATE documents SET title = title || '!' WHERE id IN (11, 12, 13)")
                    for statement in _filled_in(steps[turn], key).split("; "):
                        connection.execute(statement.encode())
        if how == "synced":
            lab.sync()
    lab.sync()
    assert lies(lab) == []
    fresh, bought = _fresh(lab), {text for _, text in model.embedded}
    without = {
        story: key not in fresh or any(text.startswith(f"title {key}\n") for text in bought)
        for key, story in enumerate(_STORIES, _FIRST)
    }
    expected = {story: lacking for story, (_, lacking) in _STORIES.items()}
    if home == "partition" and how != "synced":
        # the copy is of that text
        expected["a record gets text and vector outside, and its old text"] = False
    assert without == expected
    if home == "partition":
        assert lab.cover(SMALL).share == 1


@pytest.mark.parametrize("home", HOMES)
def test_a_text_that_was_edited_outside_is_known_where_the_condition_changes(lab: Lab, model: Model, home: str) -> None:
    _adopted(lab, home)
    for step in (INSERTED, EDITED):
        lab.sql(_filled_in(step, 50))
        lab.sync()
    lab.sql(_filled_in(INSERTED, 51))
    lab.sync()
    lab = lab.write(options={"where": "true"})
    lab.sync()
    assert lies(lab) == []
    assert model.total() == (home == "partition")
    assert {50, 51} & _fresh(lab) == ({50, 51} if home == "partition" else {51})


@pytest.mark.parametrize("home", HOMES)
def test_a_row_that_moves_to_another_collection_takes_its_vector_along(lab: Lab, model: Model, home: str) -> None:
    """As in LangChain's table, which has the documents of all collections."""
    _adopted(lab, home, where="state = 'out'")
    path = lab.path / "migrations/collections.yaml"
    said = yaml.safe_load(path.read_text())
    said["collections"]["drafts"] = {**said["collections"]["documents"], "where": "state = 'draft'"}
    path.write_text(yaml.safe_dump(said))
    versions = lab.path / "migrations/versions"
    second = (versions / "r1.py").read_text().replace("r1", "p1").replace("'documents'", "'drafts'")
    (versions / "r2.py").unlink()
    (versions / "p1.py").write_text(second)
    lab.sql(_filled_in(INSERTED, 50))
    lab.upgrade("p1")
    lab.sql(DRAFT.format(id=1))
    lab.sql(OUT.format(id=50))
    lab.sync()
    assert 50 in _fresh(lab)
    assert lab.sql("SELECT id FROM drafts_live") == [(1,)]
    lab.sql(EDITED.format(id=50))
    lab.sql(DRAFT.format(id=50))
    lab.sync()
    assert model.total() == (home == "partition")
    (drafts,) = (found for found in runner.status(lab.config).collections if found.name == "drafts")
    assert (drafts.tags[0].coverage.fresh, drafts.tags[0].coverage.eligible) == (1 + (home == "partition"), 2)


def test_what_is_outside_and_about_to_go_is_left_for_the_next_time(lab: Lab) -> None:
    _adopted(lab, "partition")
    lab.sql(_filled_in(INSERTED, 50))
    lab.sync()
    lab.sql(EDITED.format(id=50))
    with psycopg.connect(lab.url) as application:
        application.execute("DELETE FROM documents WHERE id = 50")
        lab.sync()
        assert lab.waiting == ["50"]
        application.rollback()
    lab.sync()
    assert lab.waiting == []
    lab.sql(OUT.format(id=50))
    lab.sync()
    assert lies(lab) == []


def test_what_is_known_of_a_row_outside_goes_with_it(lab: Lab) -> None:
    _adopted(lab, "column")
    for step in (INSERTED, EDITED):
        lab.sql(_filled_in(step, 50))
    lab.sync()
    assert lab.sql("SELECT key ->> 0 FROM vecmig.superseded") == [("50",)]
    lab.sql("DELETE FROM documents WHERE id = 50")
    lab.sync()
    assert lab.sql("SELECT count(*) FROM vecmig.superseded") == [(0,)]
