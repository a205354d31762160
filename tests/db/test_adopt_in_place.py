"""Vectors that stay in the source's own column: stamps beside them, reads through it, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.adopting import adopts, give_vectors, kept_as_found, literal, write_one
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from support.postgres import Postgres
from vecmig import runner
from vecmig.errors import ConfigError, DatabaseError, GateRefused
from vecmig.events import Event, StepDone
from vecmig.homes import home_over
from vecmig.source.source import partition_name

ALL = 20
OWN_INDEX = "CREATE INDEX theirs ON documents USING hnsw (embedding vector_cosine_ops)"
IN_PLACE = 'm.adopt("embedding", home="column")'


def _indexes(lab: Lab) -> set[str]:
    return {name for (name,) in lab.sql("SELECT indexname FROM pg_indexes WHERE tablename = 'documents'")}


def _nearest(lab: Lab, text: str) -> int:
    (row,) = lab.sql("SELECT id FROM documents_search(%s::text::vector, 1)", literal(text))
    return int(row[0])


@pytest.fixture
def adopted(lab: Lab, model: Model) -> Lab:
    give_vectors(lab)
    lab.sql(OWN_INDEX)
    adopts(lab, IN_PLACE)
    lab.upgrade("r1")
    assert model.total() == 0
    return lab


def test_nothing_is_copied_and_the_index_that_is_there_serves(adopted: Lab) -> None:
    assert adopted.cover(SMALL).fresh == ALL
    assert adopted.sql("SELECT count(*), count(embedding) FROM documents_vectors") == [(ALL, 0)]
    assert _indexes(adopted) == {"documents_pkey", "theirs"}
    with adopted.opened(SMALL) as (connection, stamps):
        home = home_over(connection, stamps)
        assert (home.kind, home.index().usable, home.plan()[1]) == ("column", True, True)
    (tag,) = adopted.status().tags
    assert (tag.index.word, tag.verified is not None) == ("valid", True)
    assert adopted.sql("SELECT home FROM vecmig.tag") == [("column",)]


_KEYS = """
SELECT c.relname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype IN ('p', 'u') AND c.relname LIKE 'documents_vectors%' AND c.relnamespace = 'vecmig'::regnamespace
"""


def test_the_key_of_a_stamp_without_a_vector_does_without_the_tag(adopted: Lab) -> None:
    small, large = (partition_name("documents", tag) for tag in (SMALL, LARGE))
    assert adopted.sql(_KEYS) == [(small, "PRIMARY KEY (id, chunk)")]
    adopted.upgrade()
    assert (large, "PRIMARY KEY (tag, id, chunk)") in adopted.sql(_KEYS)


def test_a_vectors_table_that_has_other_partitions_keeps_its_key(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab.sql(OWN_INDEX)
    lab.upgrade("r1", until="expand")
    lab.sql("CREATE TABLE vecmig.other PARTITION OF vecmig.documents_vectors FOR VALUES IN ('other')")
    adopts(lab, IN_PLACE)
    lab.upgrade("r1")
    write_one(lab, 1, "edited", vector_of="title 1\n\nedited")
    lab.sync()
    assert (model.total(), lab.cover(SMALL).fresh) == (0, ALL)
    small = partition_name("documents", SMALL)
    assert {key for name, key in lab.sql(_KEYS) if name == small} == {
        "PRIMARY KEY (tag, id, chunk)",
        "UNIQUE (id, chunk)",
    }


def test_view_function_and_reader_read_the_column(adopted: Lab) -> None:
    shown = dict(adopted.sql("SELECT id, embedding::text FROM documents_live"))
    assert shown == dict(adopted.sql("SELECT id, embedding::text FROM documents"))
    assert _nearest(adopted, "title 3\n\nbody 3") == 3
    with adopted.reader() as reader:
        (hit,) = reader.search("documents", "title 7\n\nbody 7", k=1)
        assert (hit.key, hit.text) == ((7,), "title 7\n\nbody 7")
        (within,) = reader.search("documents", "title 7\n\nbody 7", k=1, where="id > %s", params=[7])
        assert within.key > (7,)


def test_what_the_application_writes_is_followed(adopted: Lab, model: Model) -> None:
    write_one(adopted, 1, "edited", vector_of="title 1\n\nedited")
    write_one(adopted, 21, "new", vector_of="title 21\n\nnew")
    adopted.sql("UPDATE documents SET body = 'alone' WHERE id = 2")
    adopted.sql("UPDATE documents SET embedding = NULL WHERE id = 3")
    adopted.sql("DELETE FROM documents WHERE id = 4")
    assert adopted.sql("SELECT count(*) FROM documents_live WHERE id IN (3, 4)") == [(0,)]
    adopted.sync()
    coverage = adopted.cover(SMALL)
    assert (coverage.fresh, coverage.stale, coverage.missing) == (18, 1, 1)
    assert model.total() == 0
    assert _nearest(adopted, "title 1\n\nedited") == 1


def test_a_column_without_an_index_gets_one_that_goes_again(lab: Lab, postgres: Postgres, tmp_path: Path) -> None:
    give_vectors(lab)
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    adopts(lab, IN_PLACE)
    lab.upgrade("r1")
    assert len(_indexes(lab)) == 2
    lab.downgrade("base")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before
    lab.upgrade("r1")
    assert lab.cover(SMALL).fresh == ALL


def test_the_way_to_base_leaves_the_table_as_it_was_found(
    adopted: Lab, postgres: Postgres, tmp_path: Path, model: Model
) -> None:
    adopted.downgrade("base")
    before = kept_as_found(adopted, postgres, tmp_path / "before.sql")
    assert not any("vecmig" in line for line in before)
    adopted.upgrade()
    adopted.downgrade("base")
    assert kept_as_found(adopted, postgres, tmp_path / "after.sql") == before
    assert model.total(64) == 0


def test_a_column_that_takes_any_size_goes_on_to_do_so(lab: Lab, model: Model) -> None:
    give_vectors(lab, "vector", where="id > 5")
    give_vectors(lab, "vector", dims=32, where="id <= 5")
    adopts(lab, "m.adopt('embedding', where='vector_dims(embedding) = 64', home=\"column\")")
    with pytest.raises(GateRefused, match="coverage"):
        lab.upgrade("r1")
    lab.sql("DELETE FROM documents WHERE id <= 4")
    lab.sql("UPDATE documents SET body = '', title = '' WHERE id = 5")
    lab = lab.write(text="nullif(title || E'\\n\\n' || body, E'\\n\\n')")
    adopts(lab, "m.adopt('embedding', where='vector_dims(embedding) = 64', home=\"column\")")
    lab.upgrade("r1")
    lab.sql("INSERT INTO documents VALUES (30, 'other', 'size', %s::text::vector)", literal("other", 32))
    assert _nearest(lab, "title 9\n\nbody 9") == 9
    assert lab.sql("SELECT count(*) FROM documents_live") == [(15,)]
    assert model.total() == 0


def test_a_revision_that_fills_writes_into_the_column_and_takes_it_out_again(
    lab: Lab, model: Model, postgres: Postgres, tmp_path: Path
) -> None:
    give_vectors(lab, where="id > 3")
    lab.sql(OWN_INDEX)
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    adopts(lab, 'm.adopt("embedding", home="column", fill=True)')
    lab.upgrade("r1")
    assert model.total() == 3
    assert lab.sql("SELECT count(embedding) FROM documents") == [(ALL,)]
    assert _nearest(lab, "title 2\n\nbody 2") == 2
    # what it has written itself is no news to it
    lab.sync()
    assert (model.total(), lab.waiting) == (3, [])
    lab.downgrade("base")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before


@pytest.mark.parametrize(
    ("retire", "columns", "vectors"),
    [("leave", True, ALL), ("clear", True, 0), ("drop", False, None)],
)
def test_retire_does_with_the_column_what_the_revision_says(
    lab: Lab, retire: str, columns: bool, vectors: int | None
) -> None:
    give_vectors(lab)
    adopts(lab, f'm.adopt("embedding", home="column", retire="{retire}")')
    lab.upgrade()
    _trust_at_once(lab)
    runner.retire(lab.config, "documents", SMALL)
    assert lab.sql("SELECT count(*) FROM documents") == [(ALL,)]
    names = lab.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'documents'")
    assert (("embedding",) in names) == columns
    if vectors is not None:
        assert lab.sql("SELECT count(embedding) FROM documents") == [(vectors,)]
    assert lab.cover(LARGE).fresh == ALL
    assert not any(name.endswith("_hnsw") for name in _indexes(lab))


def _trust_at_once(lab: Lab) -> None:
    path = lab.path / "migrations/versions/r2.py"
    path.write_text(
        path.read_text()
        .replace("import Gate, Migration", "import Gate, Migration, Trust")
        .replace("\n\ndef upgrade", "trust = Trust(days=0, eval_days=0)\n\n\ndef upgrade", 1)
    )


def test_a_column_that_others_use_is_not_dropped_half_way(lab: Lab) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents RENAME COLUMN embedding TO made")
    adopts(lab, 'm.adopt("made", home="column", retire="drop")')
    lab.upgrade()
    _trust_at_once(lab)
    lab.sql("CREATE VIEW report AS SELECT id, made IS NULL AS bare FROM documents")
    lab.sql("CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    lab.sql("CREATE TRIGGER tell AFTER UPDATE OF made ON documents FOR EACH ROW EXECUTE FUNCTION told()")
    with pytest.raises(DatabaseError, match=r"in use by trigger tell on table .*documents, view .*report") as refused:
        runner.retire(lab.config, "documents", SMALL)
    assert refused.value.state == "Nothing was changed."
    assert lab.cover(SMALL).fresh == ALL
    lab.sql("DROP VIEW report")
    lab.sql("DROP TRIGGER tell ON documents")
    runner.retire(lab.config, "documents", SMALL)
    assert lab.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'made'") == [(0,)]


def test_an_index_that_serves_another_collection_goes_with_the_last(
    lab: Lab, postgres: Postgres, tmp_path: Path
) -> None:
    give_vectors(lab)
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    adopts(lab, IN_PLACE)
    collections = yaml.safe_load((lab.path / "migrations/collections.yaml").read_text())
    collections["collections"]["pages"] = {**collections["collections"]["documents"], "where": "id > 5"}
    (lab.path / "migrations/collections.yaml").write_text(yaml.safe_dump(collections))
    versions = lab.path / "migrations/versions"
    second = (versions / "r1.py").read_text().replace("r1", "p1").replace("'documents'", "'pages'")
    (versions / "r2.py").unlink()
    (versions / "p1.py").write_text(second)
    lab.upgrade("r1")
    lab.upgrade("p1")
    built = {f"{partition_name('documents', SMALL)}_hnsw", f"{partition_name('pages', SMALL)}_hnsw"}
    assert _indexes(lab) & built == {f"{partition_name('documents', SMALL)}_hnsw"}
    lab.downgrade("r1@-1")
    assert _indexes(lab) & built == {f"{partition_name('pages', SMALL)}_hnsw"}
    (pages,) = (found for found in runner.status(lab.config).collections if found.name == "pages")
    assert [tag.index.usable for tag in pages.tags] == [True]
    lab.downgrade("p1@-1")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before


def test_a_discard_says_what_becomes_of_the_vectors(lab: Lab) -> None:
    give_vectors(lab)
    adopts(lab, IN_PLACE)
    lab.upgrade("r1", until="backfill")
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            said.append(event.summary)

    lab.downgrade(discard=True, listener=listen)
    assert "its stamps are gone, and its vectors are in their column as before" in said
    assert lab.sql("SELECT count(embedding) FROM documents") == [(ALL,)]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ('m.adopt("l2_normalize(embedding)", home="column")', "is no column"),
        ('m.adopt("title", home="column")', "is no column"),
        ('m.adopt("embedding", home="column", retire="clear")', "NOT NULL"),
    ],
)
def test_what_cannot_be_a_home_is_refused(lab: Lab, call: str, why: str) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents ALTER COLUMN embedding SET NOT NULL")
    adopts(lab, call)
    with pytest.raises(ConfigError, match=why):
        lab.upgrade("r1")
    assert lab.sql("SELECT count(*) FROM vecmig.revision") == [(0,)]


@pytest.mark.parametrize("home", ["partition", "column"])
def test_an_audit_finds_nothing_wrong_with_what_was_adopted(lab: Lab, home: str) -> None:
    give_vectors(lab)
    lab.sql(OWN_INDEX)
    adopts(lab, f'm.adopt("embedding", home="{home}")')
    lab.upgrade("r1")
    lab.sync()
    assert runner.audit(lab.config).findings == ()


@pytest.mark.parametrize("home", ["partition", "column"])
def test_an_uninstall_leaves_the_vectors_and_their_index(
    lab: Lab, postgres: Postgres, tmp_path: Path, home: str
) -> None:
    give_vectors(lab)
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    adopts(lab, f'm.adopt("embedding", home="{home}")')
    lab.upgrade("r1")
    runner.uninstall(lab.config)
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before
    assert lab.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'") == [(0,)]


def test_without_triggers_nothing_is_adopted_in_place(lab: Lab) -> None:
    give_vectors(lab)
    lab = lab.write(options={"change_tracking": "scan"})
    adopts(lab, IN_PLACE)
    with pytest.raises(ConfigError, match="nothing tells of changes"):
        lab.upgrade("r1")


def test_vectors_of_another_model_are_refused_by_the_spot_check(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    model.weights = "other"
    adopts(lab, IN_PLACE)
    with pytest.raises(GateRefused, match="spot check"):
        lab.upgrade("r1")


def test_a_next_tag_takes_over_and_hands_back(adopted: Lab, model: Model) -> None:
    adopted.upgrade()
    assert adopted.live == LARGE
    write_one(adopted, 5, "both", vector_of="title 5\n\nboth")
    adopted.sync()
    assert [adopted.cover(tag).fresh for tag in (SMALL, LARGE)] == [ALL, ALL]
    adopted.downgrade()
    assert (adopted.live, model.total(64)) == (SMALL, 0)
    assert _nearest(adopted, "title 5\n\nboth") == 5


# What a team has is not touched ------------------------------------------------------------------------------------


def test_fill_replaces_no_vector_that_the_team_has(lab: Lab, model: Model, postgres: Postgres, tmp_path: Path) -> None:
    give_vectors(lab, where="id > 2")
    lab.sql("ALTER TABLE documents ADD COLUMN made_by text DEFAULT 'toy'")
    lab.sql("UPDATE documents SET made_by = 'other', embedding = %s WHERE id IN (5, 6)", literal("other"))
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    lab = lab.write(coverage=0.5, budget=0.5)
    adopts(lab, "m.adopt('embedding', where=\"made_by = 'toy'\", home='column', fill=True)")
    lab.upgrade("r1")
    assert model.total() == 2
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 9")
    lab.sync()
    assert (model.total(), lab.cover(SMALL).stale) == (2, 1)
    # what vecmig itself has put there it keeps up to date
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    lab.sync()
    assert (model.total(), lab.cover(SMALL).stale) == (3, 1)
    lab.sql("UPDATE documents SET body = 'body ' || id WHERE id IN (1, 9)")
    lab.downgrade("base")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before


def test_a_rollback_that_was_cut_short_behind_the_move_is_finished_by_the_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, tmp_path: Path
) -> None:
    give_vectors(lab, where="id > 3")
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    adopts(lab, 'm.adopt("embedding", home="column", fill=True)')
    lab.upgrade("r1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr("vecmig.homes.column.source_column.take_out", killed)
        with pytest.raises(KeyboardInterrupt):
            lab.downgrade("base")
    lab.downgrade("base")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before


def test_a_vector_that_was_taken_away_counts_as_no_fresh_one(adopted: Lab) -> None:
    adopted.sql("UPDATE documents SET embedding = NULL WHERE id = 3")
    assert (adopted.cover(SMALL).fresh, adopted.cover(SMALL).stale) == (19, 1)
    adopted.sync()
    assert (adopted.cover(SMALL).fresh, adopted.cover(SMALL).missing) == (19, 1)


def test_what_no_trigger_told_of_is_found_by_a_full_pass(adopted: Lab) -> None:
    adopted.sql("SET session_replication_role = replica; UPDATE documents SET embedding = NULL WHERE id = 3")
    adopted.sync()
    assert (adopted.cover(SMALL).fresh, adopted.cover(SMALL).missing) == (19, 1)


def test_a_column_is_named_as_sql_names_it(lab: Lab) -> None:
    give_vectors(lab)
    lab.sql('ALTER TABLE documents ADD COLUMN "Embedding" vector(64)')
    lab.sql('UPDATE documents SET "Embedding" = %s', literal("all alike"))
    adopts(lab, 'm.adopt("Embedding", home="column")')
    lab.upgrade("r1")
    assert _nearest(lab, "title 3\n\nbody 3") == 3


def test_an_index_on_a_part_of_the_rows_does_not_serve(lab: Lab) -> None:
    give_vectors(lab)
    lab.sql("CREATE INDEX part ON documents USING hnsw (embedding vector_cosine_ops) WHERE id > 10")
    adopts(lab, IN_PLACE)
    assert lab.upgrade("r1") == ["live"]
    assert len(_indexes(lab)) == 3


def test_nulls_keep_the_gate_shut_only_as_far_as_it_says(lab: Lab) -> None:
    give_vectors(lab, where="id > 1")
    lab = lab.write(coverage=0.9, budget=0.1)
    adopts(lab, IN_PLACE)
    assert lab.upgrade("r1") == ["live"]


def test_a_generated_column_is_filled_by_nobody_else(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents ADD COLUMN embedding vector(64) GENERATED ALWAYS AS (NULL::vector) STORED")
    adopts(lab, 'm.adopt("embedding", home="column", fill=True)')
    with pytest.raises(ConfigError, match="is generated by PostgreSQL"):
        lab.upgrade("r1")


def test_a_partitioned_source_without_an_index_is_refused_before_anything_is_made(lab: Lab) -> None:
    lab.sql("ALTER TABLE documents RENAME TO plain")
    lab.sql("CREATE TABLE documents (LIKE plain) PARTITION BY RANGE (id)")
    lab.sql("CREATE TABLE documents_1 PARTITION OF documents (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (1000)")
    lab.sql("ALTER TABLE documents ADD PRIMARY KEY (id)")
    lab.sql("INSERT INTO documents SELECT * FROM plain")
    give_vectors(lab)
    adopts(lab, IN_PLACE)
    with pytest.raises(ConfigError, match="is partitioned, and embedding has no index"):
        lab.upgrade("r1")
    lab.sql("CREATE INDEX ON documents USING hnsw (embedding vector_cosine_ops)")
    assert lab.upgrade("r1") == ["live"]
    assert _nearest(lab, "title 3\n\nbody 3") == 3
