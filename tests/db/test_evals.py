"""Suites against the database: what is found, through which search, at which coverage, and what is kept of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml

from support.embedding import Model
from support.lab import CHUNKED, LARGE, SMALL, TINY, Lab, recipe
from vecmig import runner
from vecmig.errors import ConfigError, DatabaseError, TerminalEmbedderError, UsageError
from vecmig.evaluation import nearest_records
from vecmig.events import StepDone
from vecmig.homes import home_over
from vecmig.ledger import evals, install, schema
from vecmig.ledger.evals import EvalRun
from vecmig.runner import Evaluation

Connection = psycopg.Connection[Any]


def text(n: int) -> str:
    """Give the text of a record of the lab; the toy model finds a record by nothing else."""
    return f"title {n}\n\nbody {n}"


def suite(lab: Lab, queries: Sequence[dict[str, Any]], name: str = "faq", **fields: Any) -> Path:
    """Write a suite."""
    path = lab.path / "evals" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"collection": lab.name, "queries": list(queries)} | fields))
    return path


def known(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    """Give queries that are the texts of records."""
    return [{"query": text(n), "relevant": [n]} | fields for n in numbers]


def run(lab: Lab, *tags: str) -> Evaluation:
    """Run the only suite."""
    (found,) = runner.evaluate(lab.config, tags=tags, listener=lab.listen)
    return found


def mean(one: EvalRun, metric: str = "success@10", kind: evals.Kind = "search") -> float:
    """Give the mean of a metric."""
    return one.scores[metric][kind].mean


def all_runs(lab: Lab, tag: str = SMALL) -> list[EvalRun]:
    """Give what is kept of a tag."""
    with lab.database.session() as connection:
        return evals.runs(connection, "vecmig", lab.name, tag)


# Which tags, and what is kept ----------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_the_tags_that_are_kept_complete_are_asked_from_old_to_new(lab: Lab) -> None:
    suite(lab, known(1, 2, 3))
    assert [one.tag for one in run(lab).runs] == [SMALL]
    lab.upgrade(until="expand")
    assert [one.tag for one in run(lab).runs] == [SMALL], "a tag without vectors says nothing"
    lab.upgrade(until="index")
    assert [one.tag for one in run(lab).runs] == [SMALL, LARGE]
    lab.upgrade()
    found = run(lab)
    assert ([one.tag for one in found.runs], found.route.live, found.route.standby) == ([SMALL, LARGE], LARGE, SMALL)
    assert [one.tag for one in run(lab, LARGE).runs] == [LARGE]
    assert [one.tag for one in run(lab, LARGE, SMALL).runs] == [LARGE, SMALL], "in the order that is asked for"


@pytest.mark.upgraded("r1")
def test_a_run_is_kept_with_all_that_it_rests_on(lab: Lab) -> None:
    suite(lab, [*known(1, 2, slice="a"), *known(3, slice="b"), *known(4)], k=3)
    lab.sql("INSERT INTO documents VALUES (100, NULL, NULL)")
    lab.sql("UPDATE documents SET body = 'edited' WHERE id > 15")
    found = run(lab)
    (told,) = found.runs
    (kept,) = all_runs(lab)
    assert kept == told
    assert (kept.tag, kept.suite, kept.suite_fingerprint) == (SMALL, "faq", found.suite.fingerprint)
    assert (kept.k, kept.queries, kept.records, kept.eligible, kept.coverage) == (3, 4, 21, 20, 0.75)
    assert list(kept.scores) == ["nDCG@3", "recall@3", "MRR@3", "success@3"]
    assert {name: one.queries for name, one in kept.slices.items()} == {"a": 2, "b": 1}
    assert kept.distances["nearest"]["0.5"] == pytest.approx(0, abs=1e-6)
    assert kept.distances["last"]["0.05"] > 0.1
    assert (kept.at is not None, kept.role) == (True, "postgres")
    assert any(isinstance(event, StepDone) and "faq against" in event.summary for event in lab.events)


@pytest.mark.upgraded("r1")
def test_runs_are_given_in_their_order_and_the_last_one_by_itself(lab: Lab) -> None:
    suite(lab, known(1))
    suite(lab, known(2), name="other")
    with lab.database.session() as connection:
        assert evals.latest(connection, "vecmig", lab.name, SMALL, "faq") is None
    for _ in range(2):
        runner.evaluate(lab.config)
    with lab.database.session() as connection:
        kept = evals.runs(connection, "vecmig", lab.name, SMALL)
        assert [one.at for one in kept if one.at] == sorted(one.at for one in kept if one.at)
        assert sorted(one.suite for one in kept) == ["faq", "faq", "other", "other"]
        assert [one.suite for one in evals.runs(connection, "vecmig", lab.name, SMALL, "faq")] == ["faq"] * 2
        last = evals.latest(connection, "vecmig", lab.name, SMALL, "faq")
        assert last == [one for one in kept if one.suite == "faq"][-1]
        assert evals.latest(connection, "vecmig", lab.name, LARGE, "faq") is None
        light = evals.latest_of_each(connection, "vecmig", lab.name)[SMALL]
        assert [(one.suite, one.per_query) for one in light] == [("faq", ()), ("other", ())]


@pytest.mark.upgraded("r1")
def test_a_run_repeats_exactly(lab: Lab) -> None:
    suite(lab, known(*range(1, 20)))
    first, second = run(lab).runs[0], run(lab).runs[0]
    assert (first.scores, first.per_query, first.index_recall) == (second.scores, second.per_query, second.index_recall)


@pytest.mark.parametrize("version", [0, 2])
def test_an_older_schema_has_no_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    suite(lab, known(1))
    if version:
        with monkeypatch.context() as older:
            older.setattr(schema, "FILES", schema.FILES[:version])
            older.setattr(schema, "VERSION", version)
            install.ensure(lab.database)
    with lab.database.session() as own:
        assert evals.latest_of_each(own, "vecmig", lab.name) == {}
        assert evals.latest(own, "vecmig", lab.name, SMALL, "faq") is None
        assert evals.runs(own, "vecmig", lab.name, SMALL) == []
    lab.upgrade("r1")
    assert [tag.evals for tag in lab.status().tags] == [()]
    assert mean(run(lab).runs[0]) == 1.0, "the schema is brought up to date"


# What is refused -----------------------------------------------------------------------------------------------------


def test_tags_that_cannot_be_asked_are_refused_with_a_sentence(lab: Lab) -> None:
    suite(lab, known(1))
    with pytest.raises(UsageError, match="vecmig was never used in the database"):
        run(lab)
    lab.upgrade("r1", until="expand")
    with pytest.raises(UsageError, match="No tag of documents has vectors yet"):
        run(lab)
    with pytest.raises(UsageError, match="has no vectors yet"):
        run(lab, SMALL)
    with pytest.raises(DatabaseError, match=f"Collection documents has no tag {LARGE}"):
        run(lab, LARGE)
    lab.upgrade()
    lab.sql("UPDATE vecmig.tag SET state = 'retired' WHERE tag = %s", SMALL)
    with pytest.raises(UsageError, match="is retired: its vectors are gone"):
        run(lab, SMALL)


@pytest.mark.upgraded("r1")
def test_suites_that_cannot_be_asked_are_refused_before_anything_is_run(lab: Lab) -> None:
    with pytest.raises(UsageError, match="There are no suites in") as refused:
        runner.evaluate(lab.config)
    assert "vecmig eval --make known-item" in refused.value.hint
    suite(lab, known(1))
    suite(lab, known(1), name="papers", collection="papers")
    with pytest.raises(ConfigError, match="has no collection 'papers'; it has: documents"):
        runner.evaluate(lab.config)
    assert all_runs(lab) == []
    with pytest.raises(UsageError, match="has no suite 'fag'"):
        runner.evaluate(lab.config, ["fag"])
    (found,) = runner.evaluate(lab.config, ["faq"])
    assert found.suite.name == "faq"


@pytest.mark.upgraded("r1")
def test_a_query_that_cannot_be_embedded_is_named(lab: Lab, model: Model) -> None:
    suite(lab, [*known(1), {"query": "poison", "relevant": [1]}])

    def zero(texts: list[str], vectors: Any) -> Any:
        return np.where(np.array([[one == "poison"] for one in texts]), np.float32(0), vectors)

    model.after = zero
    with pytest.raises(TerminalEmbedderError, match="The query 'poison' of faq cannot be embedded"):
        run(lab)
    assert all_runs(lab) == []


@pytest.mark.upgraded("r1")
def test_no_transaction_is_open_while_the_queries_are_embedded(lab: Lab, model: Model, connection: Connection) -> None:
    suite(lab, known(1))
    seen: list[int] = []

    def look(texts: list[str], vectors: Any) -> Any:
        states = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL "
            "AND pid <> pg_backend_pid()"
        ).fetchone()
        seen.append(states[0] if states else -1)
        return vectors

    model.after = look
    run(lab)
    assert seen == [0]


# What is found -------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_keys_that_the_source_does_not_have_are_told_and_count_as_not_found(lab: Lab) -> None:
    suite(lab, [{"query": text(1), "relevant": [1, 999]}, {"query": text(2), "relevant": [1000]}])
    found = run(lab)
    assert sorted(found.unknown) == [("1000",), ("999",)]
    assert mean(found.runs[0], "recall@10") == pytest.approx((0.5 + 0) / 2)


@pytest.mark.parametrize(
    ("relevant", "problem"),
    [
        (["csv.reader"], r"does not fit documents, whose key is \(id bigint\)"),
        ([[1, 2]], r"1, 2 is no key of documents"),
    ],
)
@pytest.mark.upgraded("r1")
def test_keys_that_do_not_fit_the_source_are_refused(lab: Lab, relevant: list[Any], problem: str) -> None:
    suite(lab, [{"query": text(1), "relevant": relevant}])
    with pytest.raises(ConfigError, match=problem):
        run(lab)


@pytest.mark.upgraded("r2", until="index")
def test_a_record_without_a_vector_is_not_found_and_the_coverage_says_so(lab: Lab) -> None:
    suite(lab, known(*range(1, 21)))
    lab.sql("DELETE FROM documents_vectors WHERE tag = %s AND id > 15", LARGE)
    old, new = run(lab).runs
    assert (mean(old), old.coverage) == (1.0, 1.0)
    assert (mean(new), new.coverage) == (0.75, 0.75)
    ((_, _, (shift, *_)),) = run(lab).differences()
    assert (shift.metric, shift.mean) == ("nDCG@10", -0.25)


def test_index_recall_and_model_quality_are_told_apart(lab: Lab) -> None:
    """An index that loses records lowers what search finds, and not what the vectors could find."""
    lab.sql("INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(21, 1500) AS n")
    suite(lab, known(*range(1, 101)))
    lab.upgrade("r1")
    ((name, definition),) = lab.sql("SELECT indexname, indexdef FROM pg_indexes WHERE indexname ~ 'hnsw'")
    lab.sql(f"DROP INDEX {name}")
    lab.sql(definition.partition(" WITH ")[0] + " WITH (m = 2, ef_construction = 4)")
    database = lab.sql("SELECT current_database()")[0][0]
    lab.sql(f'ALTER DATABASE "{database}" SET hnsw.ef_search = 1')
    (only,) = run(lab).runs
    assert only.index_used
    assert only.index_recall is not None
    assert only.index_recall.high < 0.95
    assert mean(only, kind="exact") == 1.0
    assert mean(only, kind="search") < 1.0


@pytest.mark.upgraded("r1")
def test_without_an_index_in_use_no_run_claims_one(lab: Lab) -> None:
    suite(lab, known(1))
    (only,) = run(lab).runs
    assert not only.index_used, "on 20 rows PostgreSQL reads them all"
    assert only.index_recall is not None
    assert only.index_recall.mean == 1.0


def test_another_record_at_the_same_distance_is_as_good(lab: Lab) -> None:
    lab.sql("UPDATE documents SET title = 'same', body = 'same' WHERE id > 4")
    suite(lab, [{"query": "same\n\nsame", "relevant": [20]}], k=3)
    lab.upgrade("r1")
    (only,) = run(lab).runs
    assert only.index_recall is not None
    assert only.index_recall.mean == 1.0


def test_a_record_counts_once_however_many_chunks_it_has(bare_lab: Lab, make_source: Any, model: Model) -> None:
    """Record 1 has the five nearest chunks; still three records are given, each with its nearest chunk."""
    make_source(0)
    rows = {1: "aaaa aaaa " * 5, 2: "bbbb bbbb cccc cccc ", 3: "dddd dddd ", 4: "eeee eeee "}
    for n, body in rows.items():
        bare_lab.sql("INSERT INTO documents VALUES (%s, '', %s)", n, body)
    lab = bare_lab.write(text="body", chain=(CHUNKED,))
    angles = {"aaaa": 0.0, "bbbb": 0.4, "cccc": 0.2, "dddd": 0.6, "eeee": 0.8}

    def place(texts: list[str], vectors: Any) -> Any:
        turned = [angles.get(one.strip()[:4], 0.0) for one in texts]
        return np.array([[np.cos(a), np.sin(a), 0, 0] for a in turned], dtype=np.float32)

    model.after = place
    lab.upgrade()
    with lab.opened(CHUNKED) as (connection, stamps):
        ask = np.array([1, 0, 0, 0], dtype=np.float32)
        for exact in (False, True):
            hits = nearest_records(home_over(connection, stamps), ask, 3, exact=exact)
            assert [hit.key for hit in hits] == [(1,), (2,), (3,)]
            assert hits[1].text.strip() == "cccc cccc", "the nearer chunk of record 2"
            assert len(nearest_records(home_over(connection, stamps), ask, 100, exact=exact)) == 4
    suite(lab, [{"query": "aaaa", "relevant": [3]}], k=3)
    (only,) = run(lab).runs
    assert only.scores["MRR@3"]["search"].mean == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("columns", "key", "rows", "relevant"),
    [
        ("id uuid", ["id"], [(uuid.UUID(int=n),) for n in range(1, 5)], [str(uuid.UUID(int=2)).upper()]),
        ("id text", ["id"], [("a.b",), ("007",), ("7",), ("ü",)], ["007"]),
        ("a text, b int", ["a", "b"], [("x", 1), ("x", 2), ("y", 1), ("y", 2)], [["x", 2]]),
        ("id numeric", ["id"], [("1.50",), ("2.5",), ("3",), ("4",)], ["2.50"]),
        ("id timestamptz", ["id"], [(f"2026-01-0{n} 12:00+00",) for n in range(1, 5)], ["2026-01-02T13:00:00+01:00"]),
    ],
    ids=["uuid", "text", "composite", "numeric", "timestamptz"],
)
def test_keys_of_any_type(
    bare_lab: Lab, columns: str, key: list[str], rows: list[tuple[Any, ...]], relevant: Any
) -> None:
    bare_lab.sql(f"CREATE TABLE documents ({columns}, title text, body text, PRIMARY KEY ({', '.join(key)}))")
    for n, row in enumerate(rows, start=1):
        marks = ", ".join(["%s"] * (len(row) + 2))
        bare_lab.sql(f"INSERT INTO documents VALUES ({marks})", *row, f"title {n}", f"body {n}")
    lab = bare_lab.write(key=key, chain=(SMALL,))
    suite(lab, [{"query": text(2), "relevant": relevant}], k=1)
    lab.upgrade()
    found = run(lab)
    assert found.unknown == ()
    assert mean(found.runs[0], "success@1") == 1.0


@pytest.mark.upgraded("r1")
def test_keys_with_grades(lab: Lab) -> None:
    suite(lab, [{"query": text(1), "relevant": {1: 1, 2: 3}}], k=1)
    assert mean(run(lab).runs[0], "nDCG@1") == pytest.approx(1 / 3)


def test_a_condition_with_percent_signs_and_other_metrics(lab: Lab) -> None:
    changed = lab.write(
        options={"where": "title LIKE 'title %' AND id % 2 = 0", "metric": "l2", "storage": "halfvec"},
        chain=(TINY,),
        recipes={TINY: recipe(TINY, query_prompt="{text}")},
    )
    suite(changed, [*known(2, 4), *known(3)])
    changed.upgrade()
    found = run(changed)
    assert found.unknown == (("3",),), "a row that where leaves out is no record"
    assert mean(found.runs[0]) == pytest.approx(2 / 3)


# Known items ---------------------------------------------------------------------------------------------------------


def test_a_known_item_suite_is_the_same_each_time_and_finds_its_records(lab: Lab) -> None:
    lab.sql("UPDATE documents SET title = 'shared title' WHERE id <= 5")
    lab.upgrade("r1")
    made = runner.make_suite(lab.config, "known-item", size=100)
    assert made.suite.path == lab.path / "evals" / "known-item.yaml"
    assert (len(made.suite.queries), made.wanted) == (15, 100), "a title that several records have finds none of them"
    again = runner.make_suite(lab.config, "known-item", size=100, output=lab.path / "again.yaml").suite
    assert again.fingerprint == made.suite.fingerprint
    few = runner.make_suite(lab.config, "known-item", size=4, output=lab.path / "few.yaml").suite
    assert {query.text for query in few.queries} <= {query.text for query in again.queries}
    whole = runner.make_suite(
        lab.config, "known-item", title="title || E'\\n\\n' || body", output=lab.path / "evals" / "whole.yaml"
    ).suite
    assert {q.text for q in whole.queries} >= {"title 6 body 6"}
    (found,) = runner.evaluate(lab.config, ["known-item"])
    assert found.unknown == ()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("Read a file. Then close it.", "Read a file."),
        ("\n\n  First line\nsecond line", "First line"),
        ("Version 1.5 is out! Really", "Version 1.5 is out!"),
        ("no   end\there", "no end here"),
        ("x" * 500, "x" * 200),
    ],
)
def test_the_first_sentence_of_a_text(lab: Lab, body: str, sentence: str) -> None:
    changed = lab.write(text="body", options={"where": "id = 1"})
    lab.sql("UPDATE documents SET body = %s WHERE id = 1", body)
    (query,) = runner.make_suite(changed.config, "known-item").suite.queries
    assert query.text == sentence


def test_what_cannot_be_made_is_refused(lab: Lab) -> None:
    def refused(kind: str = "known-item", **options: Any) -> str:
        with pytest.raises(UsageError) as error:
            runner.make_suite(lab.config, kind, **options)
        return error.value.message

    assert refused("labels") == "--make 'labels' is no kind of suite."
    assert "closes a ')' that it did not open" in refused(title="title) FROM secrets --")
    assert 'column "nope" does not exist' in refused(title="nope")
    assert "its name must end with .yaml" in refused(output=lab.path / "suite.txt")
    assert "has no collection 'nope'" in refused(collection="nope")
    assert refused(title="NULL") == "No record of documents has a title of its own."
    runner.make_suite(lab.config, "known-item")
    assert "is there already" in refused()
