"""A text is bought once under a tag, however many records and chunks have it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from support.embedding import Model
from support.lab import CHUNKED, SMALL, Lab
from vecmig import runner
from vecmig.backfill import LocalEngine, RunOptions, TagBackfill
from vecmig.backfill.batches import whole_source
from vecmig.embedders import open_embedder
from vecmig.errors import TerminalEmbedderError, VecmigError
from vecmig.events import ignore
from vecmig.runner.project import Project

#: Each text has one vector in all records that have it.
_MIXED = (
    "SELECT count(*) FROM (SELECT body FROM documents_live GROUP BY 1 HAVING count(DISTINCT embedding::text) > 1) x"
)


def _same_texts(lab: Lab, texts: int, records: int = 60) -> None:
    """Make so many records with so many texts."""
    lab.sql("DELETE FROM documents")
    lab.sql(
        "INSERT INTO documents (id, title, body) "
        "SELECT i, 'ticket', 'answer ' || mod(i, %s) FROM generate_series(1, %s) i",
        texts,
        records,
    )


def _each_once(model: Model) -> bool:
    return set(model.embedded.values()) == {1}


@pytest.fixture
def chunked(lab: Lab) -> Lab:
    """A project whose tag cuts texts into chunks of ten characters."""
    return lab.write(chain=(CHUNKED,), text="body")


def test_sixty_records_with_ten_texts_are_ten_inputs(lab: Lab, model: Model) -> None:
    _same_texts(lab, 10)
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (10, 60)
    assert lab.sql(_MIXED) == [(0,)]


def test_many_texts_are_looked_up_in_one_gathering(lab: Lab, model: Model) -> None:
    """More records than are looked up at once."""
    _same_texts(lab, 2_500, 7_500)
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (2_500, 7_500)
    assert lab.sql(_MIXED) == [(0,)]


def test_what_an_earlier_run_bought_serves_the_next(lab: Lab, model: Model) -> None:
    _same_texts(lab, 10)
    lab.upgrade("r1", until="expand")
    for _ in range(3):
        lab.backfill(limit=7)
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (10, 60)


def test_a_run_that_fails_half_way_buys_nothing_twice(lab: Lab, model: Model) -> None:
    _same_texts(lab, 40, 80)
    left = [3]

    def fail(_: list[str]) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise TerminalEmbedderError("gone")

    lab.upgrade("r1", until="expand")
    model.before = fail
    with pytest.raises(VecmigError):
        lab.backfill()
    model.before = lambda texts: None
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (40, 80)
    assert _each_once(model)


def test_a_new_record_takes_the_vector_of_an_older_one(lab: Lab, model: Model) -> None:
    _same_texts(lab, 10)
    lab.upgrade("r1")
    lab.sql("INSERT INTO documents (id, title, body) VALUES (100, 'ticket', 'answer 3'), (101, 'ticket', 'answer 99')")
    lab.sql("UPDATE documents SET body = 'answer 4' WHERE id = 1")
    lab.sync()
    assert (model.total(), lab.cover(SMALL).fresh) == (11, 62)
    assert lab.sql(_MIXED) == [(0,)]


def test_where_the_first_of_a_text_goes_the_others_have_theirs(lab: Lab, model: Model) -> None:
    """It is deleted while its vector is made: that one is lost, and another record buys it again."""
    _same_texts(lab, 1, 5)

    def delete(_: list[str]) -> None:
        lab.sql("DELETE FROM documents WHERE id = 1")

    model.before = delete
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (2, 4)


def test_chunks_are_shared_between_records(chunked: Lab, model: Model) -> None:
    chunked.sql("DELETE FROM documents")
    chunked.sql(
        "INSERT INTO documents (id, title, body) "
        "SELECT i, '', 'disclaimer' || lpad(i::text, 10, '0') || 'disclaimer' FROM generate_series(1, 30) i"
    )
    chunked.upgrade("r1")
    assert chunked.cover(CHUNKED).fresh == 30
    assert chunked.sql("SELECT count(*) FROM documents_vectors") == [(90,)]
    assert (model.total(), _each_once(model)) == (31, True)


def test_an_edited_record_keeps_the_vectors_of_its_other_chunks(chunked: Lab, model: Model) -> None:
    chunked.sql("DELETE FROM documents")
    body = " ".join(f"sentence{i}" for i in range(8))
    chunked.sql("INSERT INTO documents (id, title, body) VALUES (1, '', %s)", body)
    chunked.upgrade("r1")
    bought = model.total()
    before = dict(chunked.sql("SELECT chunk, embedding::text FROM documents_vectors"))
    chunked.sql("UPDATE documents SET body = replace(body, 'sentence3', 'SENTENCE3') WHERE id = 1")
    chunked.sync()
    after = dict(chunked.sql("SELECT chunk, embedding::text FROM documents_vectors"))
    assert (bought, model.total()) == (8, 9)
    assert {chunk for chunk, vector in after.items() if vector != before[chunk]} == {3}
    assert chunked.cover(CHUNKED).fresh == 1


def test_what_is_rejected_is_so_for_each_record_that_has_it(lab: Lab, model: Model) -> None:
    _same_texts(lab, 3, 12)
    asked: list[str] = []

    def spoil(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.extend(texts)
        vectors[[text.endswith("answer 1") for text in texts]] = float("nan")
        return vectors

    model.after = spoil
    lab.upgrade("r1", until="backfill")
    assert lab.sql("SELECT count(*) FROM vecmig.rejected") == [(4,)]
    assert lab.cover(SMALL).fresh == 8
    assert sum(text.endswith("answer 2") for text in asked) == 1


def test_a_role_without_temporary_tables_backfills_all_the_same(lab: Lab, model: Model) -> None:
    _same_texts(lab, 2_500, 5_000)
    database = lab.sql("SELECT current_database()")[0][0]
    lab.upgrade("r1", until="expand")
    lab.sql("CREATE ROLE plain_runner LOGIN")
    try:
        lab.sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        for schema in ("public", "vecmig"):
            lab.sql(f"GRANT ALL ON SCHEMA {schema} TO plain_runner")
            lab.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO plain_runner")
            lab.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO plain_runner")
        lab.sql("ALTER ROLE plain_runner BYPASSRLS")
        config = replace(lab.config, database_url=lab.url.replace("//postgres@", "//plain_runner@"))
        runner.backfill(config)
    finally:
        lab.sql("DROP OWNED BY plain_runner CASCADE")
        lab.sql("DROP ROLE plain_runner")
    assert lab.cover(SMALL).fresh == 5_000
    # the first 2,000 that wait were looked up without one
    assert 2_500 < model.total() <= 3_000


def test_a_plan_counts_the_texts_that_are_bought(lab: Lab) -> None:
    _same_texts(lab, 10)
    (first, _) = runner.estimate(lab.config)
    assert (first.pending, first.texts, first.chunks) == (60, 10, 10)
    lab.upgrade("r1")
    lab.sql("INSERT INTO documents (id, title, body) SELECT i, 'ticket', 'answer 3' FROM generate_series(100, 104) i")
    lab.upgrade("r1", until="backfill")
    assert runner.estimate(lab.config)[0].texts == 10


def test_without_a_whole_pass_a_record_keeps_its_own_chunks(chunked: Lab, model: Model) -> None:
    """As where an edit is taken from the outbox."""
    chunked.sql("DELETE FROM documents")
    chunked.sql("INSERT INTO documents (id, title, body) VALUES (1, '', 'sentence0 sentence1 sentence2')")
    chunked.upgrade("r1")
    chunked.sql("UPDATE documents SET body = 'sentence0 another01 sentence2' WHERE id = 1")
    stamps = chunked.stamps(CHUNKED)
    with closing(open_embedder(CHUNKED, Project(chunked.config).collections.recipe(CHUNKED))) as embedder:
        backfill = TagBackfill(chunked.database, stamps, embedder, RunOptions(), ignore)
        with LocalEngine(backfill) as engine:
            engine.one_pass(whole_source(stamps), whole=False)
    assert (model.total(), chunked.cover(CHUNKED).fresh) == (4, 1)


def test_a_text_without_a_vector_is_no_example_of_one_that_has_it(lab: Lab, model: Model) -> None:
    """Two texts are asked for together, time and again, one of which never gets a vector."""
    lab.sql("DELETE FROM documents")
    lab.sql(
        "INSERT INTO documents (id, title, body) "
        "SELECT i, '', CASE WHEN mod(i, 2) = 0 THEN 'good' ELSE 'NOTHING' END FROM generate_series(1, 400) i"
    )

    def spoil(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors[["NOTHING" in text for text in texts]] = float("nan")
        return vectors

    model.after = spoil
    lab.upgrade("r1", until="backfill")
    assert (lab.cover(SMALL).fresh, lab.cover(SMALL).rejected) == (200, 200)


def test_chunks_that_edited_records_share_are_not_bought_again(chunked: Lab, model: Model) -> None:
    """There are more of them than are looked up at once, and each record is replaced in turn."""
    chunked.sql("DELETE FROM documents")
    chunked.sql(
        "INSERT INTO documents (id, title, body) "
        "SELECT i, '', 'disclaimer' || lpad(i::text, 10, '0') FROM generate_series(1, 1500) i"
    )
    chunked.upgrade("r1")
    bought = model.total()
    chunked.sql("UPDATE documents SET body = 'disclaimer' || lpad((id + 5000)::text, 10, '0')")
    chunked.sync()
    assert chunked.cover(CHUNKED).fresh == 1_500
    assert (bought, model.total()) == (1_501, 3_001)
