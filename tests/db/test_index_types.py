"""A tag's index is a choice of its own: of what type it is, searches find as much, and the live view stays exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.adopting import adopts, give_vectors, literal
from support.embedding import Model
from support.embedding import vector as model_vector
from support.lab import LARGE, SMALL, Lab, create_documents, recipe
from support.waiting import wait_for
from vecmig import runner
from vecmig.errors import ConfigError
from vecmig.events import StepDone
from vecmig.homes import home_over
from vecmig.postgres.sessions import Connection

COUNT = 400
#: Of each type, what the catalogue says that the index is over.
OVER = {
    "halfvec": "((embedding)::halfvec(256)) halfvec_cosine_ops",
    "bit": "((binary_quantize(embedding))::bit(256)) bit_hamming_ops",
}
IN_PLACE = 'm.adopt("embedding", home="column")'


def indexed(lab: Lab, tag: str, **index: Any) -> Lab:
    """Write the project with one tag that has an index of its own."""
    return lab.write(chain=(tag,), recipes={tag: recipe(tag, index=index)})


def text(number: int) -> str:
    return f"title {number}\n\nbody {number}"


def uses(connection: Connection) -> int:
    """How many searches have used a vector index so far."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid "
        "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def definitions(lab: Lab) -> list[str]:
    rows = lab.sql("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%' ORDER BY 1")
    return [definition.replace("public.", "").split(" USING hnsw ")[1] for (definition,) in rows]


@pytest.fixture
def many(bare_lab: Lab, connection: Connection) -> Lab:
    create_documents(connection, COUNT)
    # the planner rightly reads so few rows without an index
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET enable_seqscan = off')
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET seq_page_cost = 1e9')
    return bare_lab


@pytest.mark.parametrize("kind", OVER)
def test_reader_function_and_home_search_by_the_index_and_rank_exactly(many: Lab, kind: str) -> None:
    lab = indexed(many, LARGE, type=kind)
    lab.upgrade()
    (definition,) = definitions(lab)
    assert definition.startswith(f"({OVER[kind]})")
    with lab.opened(LARGE) as (connection, stamps):
        home = home_over(connection, stamps)
        assert (home.index().usable, home.plan()) == (True, (True, True))
        before = uses(connection)
        vectors = [one.vector for one in home.sample(20)]
        exact, found = home.search_each(vectors, 10, exact=True), home.search_each(vectors, 10)
        assert uses(connection) > before
        for right, given in zip(exact, found, strict=True):
            assert [hit.distance for hit in given] == sorted(hit.distance for hit in given)
            assert given[0].key == right[0].key
            distances = {hit.key: hit.distance for hit in right}
            same = [hit for hit in given if hit.key in distances]
            # these vectors are random, the worst for what has one bit of each number
            assert len(same) >= (10 if kind == "halfvec" else 5)
            assert all(hit.distance == pytest.approx(distances[hit.key], abs=1e-7) for hit in same)
        with lab.reader() as reader:
            hits = reader.search("documents", text(7), k=3)
            assert (hits[0].text, round(hits[0].distance, 6)) == (text(7), 0)
            within = reader.search("documents", text(7), k=5, where="id > %s", params=[COUNT - 20])
            assert len(within) == 5
        before = uses(connection)
        rows = lab.sql("SELECT id, distance FROM documents_search(%s::text::vector, 5)", literal(text(9), 256))
        assert (rows[0][0], len(rows)) == (9, 5)
        # a session counts when it ends, which nobody waits for
        wait_for(lambda: uses(connection) > before)


@pytest.mark.parametrize("kind", OVER)
def test_the_live_view_answers_exactly_without_it(many: Lab, kind: str) -> None:
    lab = indexed(many, LARGE, type=kind)
    lab.upgrade()
    query = literal(text(11), 256)
    ids = [id_ for (id_,) in lab.sql("SELECT id FROM documents_live ORDER BY embedding <=> %s::vector LIMIT 10", query)]
    right = lab.sql("SELECT id FROM documents_vectors ORDER BY (embedding <=> %s::vector) + 0 LIMIT 10", query)
    assert ids == [id_ for (id_,) in right]


def test_a_search_keeps_as_many_candidates_as_it_ranks_again_and_leaves_the_setting(many: Lab) -> None:
    lab = indexed(many, LARGE, type="bit", rerank=40)
    lab.upgrade()
    with lab.opened(LARGE) as (connection, stamps):
        # all there are, so that nothing is lost
        (given,) = home_over(connection, stamps).search_each(
            [next(iter(home_over(connection, stamps).sample(1))).vector], 10
        )
        assert len(given) == 10
    kept = lab.sql(
        "SELECT set_config('hnsw.ef_search', '70', false), "
        "(SELECT count(*) FROM documents_search(%s::text::vector, 10)), current_setting('hnsw.ef_search')",
        literal(text(1), 256),
    )
    assert kept == [("70", 10, "70")]


@pytest.mark.parametrize(
    ("kind", "over"),
    [
        ("halfvec", "(((embedding)::halfvec(64)) halfvec_cosine_ops) WITH (m='16', ef_construction='64') WHERE "),
        ("bit", "(((binary_quantize(embedding))::bit(64)) bit_hamming_ops) WITH (m='16', ef_construction='64')"),
    ],
)
def test_a_column_that_was_adopted_in_place_has_it_too(lab: Lab, kind: str, over: str) -> None:
    give_vectors(lab)
    lab = indexed(lab, SMALL, type=kind)
    adopts(lab, IN_PLACE)
    lab.upgrade("r1")
    (definition,) = definitions(lab)
    assert definition.startswith(over)
    with lab.opened(SMALL) as (session, stamps):
        home = home_over(session, stamps)
        assert (home.index().usable, home.plan()[1]) == (True, True)
    with lab.reader() as reader:
        (hit,) = reader.search("documents", text(7), k=1)
        assert hit.key == (7,)
    # a number that half precision does not have must not fail the application's write
    lab.sql("UPDATE documents SET embedding = array_fill(1e6::real, ARRAY[64])::vector WHERE id = 3")
    lab.downgrade()
    assert definitions(lab) == []


def test_a_vector_that_half_precision_cannot_hold_fails_nothing(many: Lab, model: Model) -> None:
    def lengthen(texts: list[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors * np.array([1e7 if one == text(5) else 3 for one in texts], dtype=np.float32)[:, None]

    model.after = lengthen
    tag = LARGE.replace("norm-l2", "norm-none")
    lab = indexed(many, tag, type="halfvec")
    lab.upgrade()
    with lab.opened(tag) as (session, stamps):
        home = home_over(session, stamps)
        assert home.plan() == (True, True)
        (hit,) = home.search(model_vector(text(7), 256), 1)
        assert hit.key == (7,)
        # neither as a stored one, nor as a query
        far = model_vector(text(5), 256) * np.float32(1e7)
        near = [hit.key for hit in home.search(far, 10)]
        assert (5,) not in near
        assert near == [hit.key for hit in home.search(model_vector(text(5), 256), 10)]
        assert home.search(model_vector(text(5), 256), 10, exact=True)[0].key == (5,)


def test_another_index_before_the_cutover_stands_in_for_the_one_that_was_built(many: Lab) -> None:
    lab = indexed(many, LARGE, type="halfvec")
    lab.upgrade(until="index")
    assert definitions(lab) == [f"({OVER['halfvec']}) WITH (m='16', ef_construction='64')"]
    lab = indexed(many, LARGE, type="bit", m=8)
    lab.upgrade()
    (definition,) = definitions(lab)
    assert definition == f"({OVER['bit']}) WITH (m='8', ef_construction='64')"
    assert lab.sql("SELECT index FROM vecmig.tag") == [({"type": "bit", "m": 8},)]
    assert lab.sql("SELECT data ->> 'type' FROM vecmig.event WHERE kind = 'index' ORDER BY id") == [
        ("halfvec",),
        ("bit",),
    ]


def test_a_tag_that_says_nothing_is_indexed_as_ever(many: Lab) -> None:
    lab = many.write(chain=(LARGE,))
    lab.upgrade()
    assert definitions(lab) == ["(((embedding)::vector(256)) vector_cosine_ops) WITH (m='16', ef_construction='64')"]
    assert lab.sql("SELECT index FROM vecmig.tag") == [({},)]
    assert [one.summary for one in lab.events if isinstance(one, StepDone) and one.step == "index"]


@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        ({"type": "vector"}, {"storage": "halfvec"}, "its index is of type vector, and the collection stores halfvec"),
    ],
)
def test_what_a_tag_cannot_be_indexed_as_is_refused_before_anything_is_changed(
    lab: Lab, index: Mapping[str, Any], options: Mapping[str, Any], message: str
) -> None:
    lab = lab.write(chain=(SMALL,), recipes={SMALL: recipe(SMALL, index=dict(index))}, options=options)
    with pytest.raises(ConfigError, match=message):
        lab.upgrade()
    assert lab.sql("SELECT to_regclass('documents_vectors')") == [(None,)]


def test_a_plan_compares_the_types_and_knows_the_time_of_what_was_built_before(many: Lab) -> None:
    lab = indexed(many, LARGE, type="bit")
    (before,) = runner.estimate(lab.config)
    assert [(one.type, one.chosen) for one in before.indexes] == [("vector", False), ("halfvec", False), ("bit", True)]
    sizes = [one.bytes for one in before.indexes]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3 * sizes[2] == 3 * before.index_bytes
    assert {one.seconds for one in before.indexes} == {None}
    lab.upgrade(until="index")
    (after,) = runner.estimate(lab.config)
    assert [one.seconds is not None for one in after.indexes] == [False, False, True]


def test_a_plan_leaves_out_a_type_that_has_too_few_dims(many: Lab) -> None:
    lab = many.write(chain=(LARGE,), options={"storage": "halfvec"})
    (planned,) = runner.estimate(lab.config)
    assert [(one.type, one.chosen) for one in planned.indexes] == [("halfvec", True), ("bit", False)]
