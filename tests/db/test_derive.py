"""A tag of fewer dims takes the first of another one's vectors: no document is embedded for it."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from support.adopting import adopts, give_vectors, literal
from support.embedding import Model, vector
from support.lab import LARGE, SMALL, Lab, recipe
from vecmig import runner
from vecmig.config.recipe_line import recipe_line
from vecmig.errors import ConfigError, GateRefused
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

ALL = 20
DERIVE = {"derive": {"from": LARGE, "dims": 64}}


@pytest.fixture
def cut(lab: Lab) -> Lab:
    """A project that goes from 256 dims to the first 64 of them."""
    return lab.write(chain=(LARGE, SMALL), recipes={SMALL: DERIVE})


def _expected(lab: Lab) -> dict[int, list[float]]:
    made = {}
    for key, text in lab.sql("SELECT id, title || E'\\n\\n' || body FROM documents"):
        first = vector(text, 256)[:64]
        made[key] = [float(x) for x in first / np.linalg.norm(first)]
    return made


def _stored(lab: Lab, tag: str) -> dict[int, list[float]]:
    rows = lab.sql("SELECT id, embedding::real[] FROM documents_vectors WHERE tag = %s", tag)
    return {key: list(found) for key, found in rows}


def _same(one: dict[int, list[float]], other: dict[int, list[float]]) -> bool:
    return one.keys() == other.keys() and all(np.allclose(one[key], other[key], atol=1e-6) for key in one)


def test_no_document_is_embedded_for_the_first_dims_of_another_tag(cut: Lab, model: Model) -> None:
    cut.upgrade("r1")
    bought = model.total()
    assert cut.upgrade() == ["live"]
    assert (bought, model.total()) == (ALL, ALL)
    assert cut.cover(SMALL).fresh == ALL
    assert _same(_stored(cut, SMALL), _expected(cut))


def test_an_edit_is_embedded_once_and_serves_both(cut: Lab, model: Model) -> None:
    cut.upgrade()
    bought = model.total()
    cut.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    cut.sql("INSERT INTO documents (id, title, body) VALUES (50, 'new', 'one')")
    cut.sync()
    assert model.total() == bought + 2
    assert [cut.cover(tag).fresh for tag in (LARGE, SMALL)] == [ALL + 1] * 2
    assert _same(_stored(cut, SMALL), _expected(cut))


def test_a_stale_vector_is_not_derived(cut: Lab, model: Model) -> None:
    cut.upgrade("r1")
    cut.upgrade("r2", until="expand")
    cut.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    cut.upgrade("r2")
    assert model.total() == ALL + 1
    assert _same(_stored(cut, SMALL), _expected(cut))


def test_a_base_whose_hashes_are_of_the_older_kind_is_derived_from(cut: Lab, model: Model) -> None:
    cut.upgrade("r1")
    cut.sql("UPDATE vecmig.tag SET text_hash = 'md5' WHERE tag = %s", LARGE)
    cut.sql(
        "UPDATE documents_vectors v SET source_hash = md5(d.title || E'\\n\\n' || d.body)::uuid "
        "FROM documents d WHERE d.id = v.id AND v.tag = %s",
        LARGE,
    )
    cut.upgrade()
    assert (model.total(), cut.cover(SMALL).fresh) == (ALL, ALL)
    assert _same(_stored(cut, SMALL), _expected(cut))


def test_a_query_is_cut_alike(cut: Lab, model: Model) -> None:
    cut.upgrade()
    with cut.reader() as reader:
        (text,) = cut.sql("SELECT title || E'\\n\\n' || body FROM documents WHERE id = 7")[0]
        (hit,) = reader.search("documents", text, k=1)
    assert hit.key == (7,)


def test_what_the_base_cannot_embed_is_rejected_here_too(cut: Lab, model: Model) -> None:
    def spoil(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors[["body of 4" in text or text.startswith("title 4\n") for text in texts]] = np.nan
        return vectors

    model.after = spoil
    cut.upgrade("r1", until="backfill")
    rejected = cut.sql("SELECT count(*) FROM vecmig.rejected WHERE tag = %s", LARGE)
    assert rejected != [(0,)]
    script = cut.path / "migrations/versions/r1.py"
    script.write_text(script.read_text().replace("coverage=0.995", "coverage=0.5"))
    script = cut.path / "migrations/versions/r2.py"
    script.write_text(script.read_text().replace("coverage=0.995", "coverage=0.5"))
    cut.upgrade("r1")
    cut.upgrade("r2", until="backfill")
    assert cut.sql("SELECT count(*) FROM vecmig.rejected WHERE tag = %s", SMALL) == rejected
    assert cut.cover(SMALL).missing == 0


def test_without_the_base_it_embeds_by_itself(cut: Lab, model: Model) -> None:
    cut.upgrade()
    script = cut.path / "migrations/versions/r2.py"
    script.write_text(
        script.read_text()
        .replace("import Gate, Migration", "import Gate, Migration, Trust")
        .replace("\n\ndef upgrade", "trust = Trust(days=0, eval_days=0)\n\n\ndef upgrade", 1)
    )
    runner.retire(cut.config, "documents", LARGE)
    cut.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    cut.sync()
    assert model.total() == ALL + 1
    assert _same(_stored(cut, SMALL), _expected(cut))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"derive": {"from": LARGE, "dims": 32}}, "dims: 32, but the tag says dim-64"),
        ({"derive": {"from": SMALL, "dims": 64}}, "has 64 dims, from which no 64 can be cut"),
        ({"derive": {"from": "toy@2/dim-256/chunk-none/norm-l2", "dims": 64}}, "the version of"),
        ({"derive": LARGE}, "must be a mapping like"),
        ({"derive": {"from": LARGE, "dims": 64}, "dims": 64}, "derive stands alone; take out dims"),
        ({"derive": {"from": "toy@1/dim-999/chunk-none/norm-l2", "dims": 64}}, "there is no recipe for"),
    ],
)
def test_what_cannot_be_derived_is_named_with_its_line(lab: Lab, said: dict[str, object], why: str) -> None:
    lab = lab.write(chain=(LARGE, SMALL), recipes={SMALL: said})
    with pytest.raises(ConfigError, match=why):
        lab.upgrade("r1")


def test_a_plan_pays_for_what_the_base_lacks_only(cut: Lab) -> None:
    cut.upgrade("r1")
    cut.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    (plan,) = runner.estimate(cut.config)
    assert (plan.derived, plan.pending) == (ALL - 1, 1)


def test_a_base_that_the_collection_never_had_is_refused_before_anything_is_made(lab: Lab, model: Model) -> None:
    lab = lab.write(chain=(SMALL,), recipes={SMALL: DERIVE})
    path = lab.path / "migrations/collections.yaml"
    data = yaml.safe_load(path.read_text())
    data["tags"][LARGE] = recipe(LARGE)
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="it was never a tag of it") as refused:
        lab.upgrade("r1")
    assert (refused.value.state, model.total()) == ("Nothing was changed.", 0)
    assert lab.sql("SELECT count(*) FROM vecmig.tag") == [(0,)]


def test_a_recorded_recipe_is_shown_as_it_is_written(cut: Lab) -> None:
    cut.upgrade()
    (recorded,) = cut.sql("SELECT recipe FROM vecmig.tag WHERE tag = %s", SMALL)[0]
    assert yaml.safe_load(recipe_line(SMALL, Recipe.from_mapping(Tag.parse(SMALL), recorded))) == {SMALL: DERIVE}


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_chunks_are_derived_with_their_texts(lab: Lab, model: Model, storage: str) -> None:
    large, small = "toy@1/dim-64/chunk-10/norm-l2", "toy@1/dim-4/chunk-10/norm-l2"
    lab = lab.write(
        chain=(large, small),
        recipes={small: {"derive": {"from": large, "dims": 4}}},
        options={"storage": storage},
        text="body",
    )
    lab.sql("UPDATE documents SET body = 'sentence0 sentence' || id || ' another' || id")
    lab.upgrade()
    bought = model.total()
    lab.sql("UPDATE documents SET body = 'sentence0 different' WHERE id = 3")
    lab.sync()
    assert model.total() == bought + 1
    assert lab.cover(small).fresh == ALL
    shown = "SELECT id, chunk, chunks, chunk_text FROM documents_vectors WHERE tag = %s ORDER BY 1, 2"
    assert lab.sql(shown, small) == lab.sql(shown, large)
    rows = lab.sql(
        "SELECT s.embedding::real[], b.embedding::real[] FROM documents_vectors s "
        "JOIN documents_vectors b USING (id, chunk) WHERE s.tag = %s AND b.tag = %s",
        small,
        large,
    )
    for own, base in rows:
        first = np.array(base[:4])
        assert np.allclose(own, first / np.linalg.norm(first), atol=2e-3)


def test_a_model_that_was_not_made_for_it_is_found_by_an_eval(cut: Lab, model: Model) -> None:
    """The first dims of all of its vectors are alike."""

    def alike(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = vectors.copy()
        vectors[:, :64] = 0.1
        return vectors

    model.drift = alike
    cut.script(2, LARGE, SMALL, more=', evals=[NoWorse("faq", "nDCG@10", tolerance=0.02)]')
    suite = cut.path / "evals" / "faq.yaml"
    suite.parent.mkdir()
    queries = [{"query": f"title {n}\n\nbody {n}", "relevant": [n]} for n in range(1, ALL + 1)]
    suite.write_text(yaml.safe_dump({"collection": "documents", "queries": queries}))
    cut.upgrade("r1")
    cut.upgrade("r2", until="index")
    runner.evaluate(cut.config, [str(suite)], tags=[LARGE, SMALL])
    with pytest.raises(GateRefused, match="eval faq"):
        cut.upgrade()
    assert cut.live == LARGE


def test_vectors_that_were_adopted_in_place_are_cut_too(cut: Lab, model: Model) -> None:
    give_vectors(cut, "vector(256)", dims=256)
    adopts(cut, 'm.adopt("embedding", home="column")')
    cut.upgrade()
    assert (model.total(), cut.cover(SMALL).fresh) == (0, ALL)
    cut.sql("UPDATE documents SET body = 'both', embedding = %s WHERE id = 3", literal("title 3\n\nboth", 256))
    cut.sync()
    assert (model.total(), cut.cover(SMALL).fresh) == (0, ALL)
    assert _same(_stored(cut, SMALL), _expected(cut))


def test_without_triggers_a_scan_derives(cut: Lab, model: Model) -> None:
    lab = cut.write(options={"change_tracking": "scan"})
    lab.upgrade()
    lab.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
    lab.sync()
    assert (model.total(), lab.cover(SMALL).fresh) == (ALL + 1, ALL)
    assert _same(_stored(lab, SMALL), _expected(lab))
