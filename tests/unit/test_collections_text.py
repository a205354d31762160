"""More collections and recipes in a collections.yaml: its own text stays, and what is added reads back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vecmig.config.collections_text import Entry, with_entries
from vecmig.errors import ConfigError

PATH = Path("migrations/collections.yaml")
NEW = Entry("new", {"source": ('public."T"', ""), "key": (("id", "a, b"), ""), "text": ("body", "a guess")})
RECIPE = Entry("m@1/dim-3/chunk-none/norm-l2", {"provider": ("openai", ""), "dims": (3, "")}, flat=True)
ADDED = """\
  new:
    source: 'public."T"'
    key: [id, "a, b"]
    text: body # a guess
"""
ADDED_TAG = "  m@1/dim-3/chunk-none/norm-l2: { provider: openai, dims: 3 }\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"collections:\n{ADDED}\ntags:\n{ADDED_TAG}"),
        ("# ours\n\n", f"# ours\n\ncollections:\n{ADDED}\ntags:\n{ADDED_TAG}"),
        ("collections: {}\ntags: {} # none\n", f"collections:\n{ADDED}tags: # none\n{ADDED_TAG}"),
        ("collections: # here\ntags: null\n", f"collections: # here\n{ADDED}tags:\n{ADDED_TAG}"),
        (
            "collections:\n  a:\n    b: 1 # x\n    # inner\n\n# of tags\ntags:\n  x: {y: 1}",
            f"collections:\n  a:\n    b: 1 # x\n    # inner\n{ADDED}\n# of tags\ntags:\n  x: {{y: 1}}\n{ADDED_TAG}",
        ),
        (
            "tags:\n  x: {y: 1}\n\ncollections:\n  a: {b: 1}\n# end\n",
            f"tags:\n  x: {{y: 1}}\n{ADDED_TAG}\ncollections:\n  a: {{b: 1}}\n{ADDED}# end\n",
        ),
        ("collections:\r\n  a: {}\r\n", f"collections:\n  a: {{}}\n{ADDED}\ntags:\n{ADDED_TAG}".replace("\n", "\r\n")),
    ],
    ids=["empty", "comment", "braces", "nothing", "both", "tags first", "CRLF"],
)
def test_all_that_it_says_stays(before: str, after: str) -> None:
    assert with_entries(PATH, before, [NEW], [RECIPE]) == after
    assert yaml.safe_load(after)["collections"]["new"] == {
        "source": 'public."T"',
        "key": ["id", "a, b"],
        "text": "body",
    }


def test_lines_stand_under_those_that_are_there() -> None:
    text = with_entries(PATH, "collections:\n      a:\n        b: 1\n", [NEW], [])
    assert text.splitlines()[3] == "      new:"
    assert set(yaml.safe_load(text)["collections"]) == {"a", "new"}


@pytest.mark.parametrize("section", ["collections: {a: {b: 1}}", "collections: {\n}", "collections: []"])
def test_what_is_in_braces_is_refused(section: str) -> None:
    with pytest.raises(ConfigError, match=r"migrations/collections.yaml:1: collections is written in braces"):
        with_entries(PATH, f"{section}\n", [NEW], [])


@pytest.mark.parametrize(
    "value",
    [
        "collection_id = '5f'",
        "payload->>'data'",
        "a \"b\" 'c' \\d",
        "no",
        "1e3",
        "null",
        "a: b # c",
        "two\nlines",
        "\x1b[31m\u202e",
        " x ",
        "",
        "- x",
        "ü € 𝄞",
        "*a",
        "2026-11-27",
    ],
)
def test_each_value_reads_back_as_it_was(value: str) -> None:
    entry = Entry(value, {"where": (value, ""), "key": ([value, value], "")})
    flat = Entry(value, {"where": (value, ""), "key": ([value], "")}, flat=True)
    read = yaml.safe_load(with_entries(PATH, "", [entry], [flat]))
    assert read == {
        "collections": {value: {"where": value, "key": [value, value]}},
        "tags": {value: {"where": value, "key": [value]}},
    }
