"""Suites as people write them: what they say, what is wrong with them and where, and when two say the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from vecmig.config import Config, load_config
from vecmig.config.suites import Suite, load_suite, suite_path
from vecmig.errors import ConfigError, UsageError
from vecmig.evaluation import known_item_text

GOOD = """\
collection: documents
k: 5
queries:
  - {query: "how do I read a csv file", relevant: [csv.reader], slice: io}
  - {query: "add numbers", relevant: {7: 3, 007: 1}}
  - query: two columns
    relevant: [[a, 1], [b, 2.50]]
  - {query: graded, relevant: [{key: [a, b], grade: 2}, 2026-01-02, yes]}
"""


def _load(path: Path, text: str) -> Suite:
    file = path / "suite.yaml"
    file.write_text(text, encoding="utf-8")
    return load_suite(file)


def _problems(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        _load(path, text)
    return refused.value.message.replace(str(path / "suite.yaml"), "F")


def test_a_suite_is_read_with_keys_as_they_are_written(tmp_path: Path) -> None:
    suite = _load(tmp_path, GOOD)
    assert (suite.name, suite.collection, suite.k) == ("suite", "documents", 5)
    relevant = {query.text: dict(query.relevant) for query in suite.queries}
    assert relevant == {
        "how do I read a csv file": {("csv.reader",): 1},
        "add numbers": {("7",): 3, ("007",): 1},
        "two columns": {("a", "1"): 1, ("b", "2.50"): 1},
        "graded": {("a", "b"): 2, ("2026-01-02",): 1, ("yes",): 1},
    }
    assert {query.text: query.slice for query in suite.queries if query.slice} == {"how do I read a csv file": "io"}


def test_k_is_ten_unless_it_is_said(tmp_path: Path) -> None:
    assert _load(tmp_path, "{collection: c, queries: [{query: x, relevant: [1]}]}").k == 10


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "F: a suite is a mapping with collection, k, queries."),
        ("# nothing", "F: a suite is a mapping with collection, k, queries."),
        ("queries: [{query: x, relevant: [1]}]", "F:1: collection: the name of a collection is needed."),
        ("collection: c", "F:1: queries: a list of at least one query is needed."),
        ("collection: c\nqueries: []", "F:2: queries: a list of at least one query is needed."),
        (
            "collection: c\nk: 0\nqueries: [{query: x, relevant: [1]}]",
            "F:2: k: 0 is not a whole number from 1 to 1000.",
        ),
        (
            "collection: c\nqueries:\n- {query: x, relevant: [1]}\n- {query: x, relevant: [2]}",
            "F:4: this query stands here a second time; first in line 3.",
        ),
        ("collection: c\nqueries: [x]", "F:2: a query is a mapping like {query: how do I …, relevant: [7]}."),
        ("collection: c\nqueries: [{relevant: [1]}]", "F:2: query: is missing."),
        (
            "collection: c\nqueries: [{query: 404, relevant: [1]}]",
            "F:2: query: '404' is not a text; write it in quotes.",
        ),
        (
            "collection: c\nqueries: [{query: x}]",
            "F:2: relevant: a list of keys, like [7, 12], or keys with grades, like {7: 3, 12: 1} are needed.",
        ),
        (
            "collection: c\nqueries: [{query: x, relevant: []}]",
            "F:2: relevant: at least one record must answer the query.",
        ),
        (
            "collection: c\nqueries: [{query: x, relevant: {1: 0}}]",
            "F:2: relevant: at least one record must answer the query.",
        ),
        (
            "collection: c\nqueries: [{query: x, relevant: {1: good}}]",
            "F:2: relevant: 1: 'good' is not a grade; a whole number from 0 to 100 is.",
        ),
        ("collection: c\nqueries: [{query: x, relevant: [1, 1]}]", "F:2: relevant: 1 stands here twice."),
        (
            "collection: c\nqueries: [{query: x, relevant: [~]}]",
            "F:2: relevant: None is no key; write 7, [a, b] for a key of two columns, or {key: [a, b], grade: 2}.",
        ),
        (
            "collection: c\nqueries: [{query: x, relevent: [1]}]",
            (
                "F has 2 problems:\n  F:2: relevant: a list of keys, like [7, 12], or keys with grades, like "
                "{7: 3, 12: 1} are needed.\n  F:2: unknown field 'relevent'; did you mean relevant?"
            ),
        ),
        (
            "collection: c\nqueries: [{query: x, relevant: [1], slice: 3}]",
            "F:2: slice: '3' is not a text; write it in quotes.",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert _problems(tmp_path, text) == problem


# The fingerprint ---------------------------------------------------------------------------------------------------

Queries = list[dict[str, Any]]
_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).filter(str.strip)
_QUERIES = st.lists(
    st.fixed_dictionaries(
        {
            "query": _WORDS,
            "relevant": st.dictionaries(st.integers(0, 99).map(str), st.integers(1, 3), min_size=1, max_size=3),
        },
        optional={"slice": _WORDS},
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda query: str(query["query"]),
)


def _suite(folder: Path, content: dict[str, Any], comment: str = "") -> Suite:
    return _load(folder, f"# {comment}\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}")


@given(queries=_QUERIES, seed=st.integers())
def test_the_fingerprint_does_not_depend_on_order_and_comments(
    tmp_path_factory: pytest.TempPathFactory, queries: Queries, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("suite")
    first = _suite(folder, {"collection": "c", "k": 10, "queries": queries}, "one")
    order = random.Random(seed)
    mixed = [dict(order.sample(sorted(query.items()), len(query))) for query in order.sample(queries, len(queries))]
    for query in mixed:
        query["relevant"] = dict(order.sample(sorted(query["relevant"].items()), len(query["relevant"])))
    assert _suite(folder, {"queries": mixed, "collection": "c"}, "another").fingerprint == first.fingerprint


@given(queries=_QUERIES, where=st.sampled_from(["collection", "k", "query", "relevant", "grade", "slice", "fewer"]))
def test_the_fingerprint_depends_on_all_that_is_said(
    tmp_path_factory: pytest.TempPathFactory, queries: Queries, where: str
) -> None:
    folder = tmp_path_factory.mktemp("suite")
    content: dict[str, Any] = {"collection": "c", "k": 10, "queries": queries}
    before = _suite(folder, content).fingerprint
    first = queries[0]
    match where:
        case "collection":
            content["collection"] = "d"
        case "k":
            content["k"] = 11
        case "query":
            first["query"] += "?" * 50
        case "relevant":
            first["relevant"]["100"] = 1
        case "grade":
            key = next(iter(first["relevant"]))
            first["relevant"][key] += 1
        case "slice":
            first["slice"] = first.get("slice", "") + "x"
        case _:
            content["queries"] = [*queries, {"query": "?" * 60, "relevant": ["1"]}]
    assert _suite(folder, content).fingerprint != before


def test_a_list_of_keys_says_the_same_as_grades_of_one(tmp_path: Path) -> None:
    listed = _load(tmp_path, "{collection: c, queries: [{query: x, relevant: [1, a]}]}")
    graded = _load(tmp_path, "{collection: c, queries: [{query: x, relevant: {a: 1, 1: 1}}]}")
    assert listed.fingerprint == graded.fingerprint


# Finding and making ------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project with one suite."""
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "faq.yaml").write_text(GOOD)
    (tmp_path / "vecmig.ini").write_text("[vecmig]\ndatabase_url = postgresql://h/d\nscript_location = migrations\n")
    return load_config(tmp_path / "vecmig.ini")


def test_a_suite_is_found_by_name_or_path(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "evals" / "faq.yaml"
    assert {suite_path(config, name) for name in ("faq", "faq.yaml", str(path))} == {path}
    with pytest.raises(UsageError, match=r"has no suite 'fag'; it has: faq\.") as refused:
        suite_path(config, "fag")
    assert refused.value.hint == "Did you mean faq?"


@example(title="a\u2028b", key=["\x85c"])
@given(
    title=_WORDS,
    key=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, max_size=2),
)
def test_a_suite_that_is_made_reads_back_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, title: str, key: list[str]
) -> None:
    text = known_item_text("my docs: all", 10, [(title, tuple(key))], "the title of a record")
    suite = _load(tmp_path_factory.mktemp("suite"), text)
    (query,) = suite.queries
    assert (suite.collection, query.text, dict(query.relevant)) == ("my docs: all", title, {tuple(key): 1})
    assert "It cannot show how well the queries of your users are answered" in text
