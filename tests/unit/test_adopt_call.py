"""``vecmig revision --adopt``: the first revision of a collection takes vectors that are there already."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vecmig.config import load_config
from vecmig.config.collections import load_collections
from vecmig.errors import ScriptError, UsageError
from vecmig.script import Script, ScriptDirectory
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.generate import Wish, new_revision
from vecmig.script.project import init_project

TAG = "wordllama@0.4/dim-{}/chunk-{}/norm-l2"
COLLECTION = "  {}: {{source: texts, key: [id], text: body, tag: {}}}\n"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptDirectory:
    """The scripts of a new project with one collection."""
    monkeypatch.chdir(tmp_path)
    init_project(Path("migrations"))
    want(documents=TAG.format(64, "none"))
    return ScriptDirectory(load_config())


def want(**tags: str) -> None:
    """Write a collections.yaml that asks for these tags."""
    recipes = [f"  {TAG.format(n, 'none')}: {{provider: wordllama, dims: {n}}}\n" for n in (64, 256)]
    recipes.append(f"  {TAG.format(64, 20)}: {{provider: wordllama, dims: 64, chunk: {{size: 20}}}}\n")
    lines = ["collections:\n", *(COLLECTION.format(*pair) for pair in tags.items()), "tags:\n", *recipes]
    Path("migrations/collections.yaml").write_text("".join(lines))


def adopt(directory: ScriptDirectory, call: AdoptCall, **options: Any) -> Script:
    """Write a first revision that adopts vectors."""
    collections = load_collections(directory.config.collections_path)
    return new_revision(directory, collections, Wish(), adopt=call, **options)


def body(script: Script) -> str:
    """Return what stands in the script's backfill(m)."""
    text = script.path.read_text()
    return text.partition("def backfill(m: Migration) -> None:\n")[2].partition("\n\n\n")[0]


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        (
            AdoptCall("embedding"),
            [
                "# Copies the vectors that the source has already; embeds the records that have none.",
                'm.adopt("embedding")',
            ],
        ),
        (
            AdoptCall("embedding", in_place=True),
            [
                "# Leaves the vectors in their column, and reads them there; embeds nothing.",
                'm.adopt("embedding", home="column")',
            ],
        ),
        (
            AdoptCall("embedding", fill=False),
            [
                "# Copies the vectors that the source has already; embeds nothing.",
                'm.adopt("embedding", fill=False)',
            ],
        ),
        (
            AdoptCall("embedding", "model = 'ada-002'", in_place=True, fill=True),
            [
                "# Leaves the vectors in their column, and reads them there; embeds the records that have none.",
                """m.adopt("embedding", where="model = 'ada-002'", home="column", fill=True)""",
            ],
        ),
        (
            AdoptCall("subvector(embedding, 1, 768)", "collection_id = '5f0b1f2e-6a37-4f0c-9a1e-0d5b8e0f3c11'"),
            [
                "# Copies the vectors that the source has already; embeds the records that have none.",
                "m.adopt(",
                '    "subvector(embedding, 1, 768)",',
                "    where=\"collection_id = '5f0b1f2e-6a37-4f0c-9a1e-0d5b8e0f3c11'\",",
                ")",
            ],
        ),
    ],
    ids=["copied", "in place", "not filled", "all said", "long"],
)
def test_only_what_was_said_is_written(directory: ScriptDirectory, call: AdoptCall, lines: list[str]) -> None:
    assert body(adopt(directory, call)).splitlines() == [f"    {line}" for line in lines]


@pytest.mark.parametrize(
    "expression",
    [
        '"Vector"',
        "(metadata->>'it''s')::vector",
        "'\"'::text || embedding::text",
        "E'\\\\d' || embedding",
        "a\n+ b",
        "'${backfill} $$'::vector",
        "'\u202e\x1b[31m'::vector",
        "'\ud800'::vector",
    ],
)
def test_every_quote_survives(directory: ScriptDirectory, expression: str) -> None:
    script = adopt(directory, AdoptCall(expression, f"{expression} IS NOT NULL"))
    text = script.path.read_text()
    for length in ("88", "120"):
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--line-length", length]
        done = subprocess.run([*command, str(script.path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    (call,) = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "adopt"
    )
    assert ast.literal_eval(call.args[0]) == expression
    assert {word.arg: ast.literal_eval(word.value) for word in call.keywords} == {"where": f"{expression} IS NOT NULL"}


def test_the_revision_begins_its_collection(directory: ScriptDirectory) -> None:
    script = adopt(directory, AdoptCall("embedding"))
    assert (script.old_tag, script.new_tag) == (None, TAG.format(64, "none"))
    assert (script.message, script.revision.branch_labels) == (
        "documents: adopted vectors, 64 dimensions",
        ("documents",),
    )


def test_a_collection_that_has_a_tag_is_refused(directory: ScriptDirectory) -> None:
    adopt(directory, AdoptCall("embedding"))
    want(documents=TAG.format(256, "none"))
    for named in (None, "documents"):
        with pytest.raises(ScriptError, match=rf"by the first revision.*documents \({TAG.format(64, 'none')}\)") as why:
            adopt(directory, AdoptCall("embedding"), collection=named)
        assert why.value.hint.startswith("To go on to another tag: vecmig revision, without --adopt.")
    assert len(directory.scripts) == 1


def test_each_collection_adopts_by_a_revision_of_its_own(directory: ScriptDirectory) -> None:
    want(documents=TAG.format(64, "none"), mail=TAG.format(256, "none"))
    with pytest.raises(ScriptError, match=r"no revision yet: documents, mail\.") as why:
        adopt(directory, AdoptCall("embedding"))
    assert why.value.hint == "Add --collection NAME, or, for tables that are alike, a pattern of their names."
    adopt(directory, AdoptCall("embedding"), collection="mail")
    assert adopt(directory, AdoptCall("embedding")).collection == "documents"


def test_a_tag_of_chunks_is_refused(directory: ScriptDirectory) -> None:
    want(documents=TAG.format(64, 20))
    with pytest.raises(ScriptError, match="cuts records into chunks") as why:
        adopt(directory, AdoptCall("embedding"))
    assert why.value.hint.endswith(TAG.format(64, "none"))


@pytest.mark.parametrize(
    ("expression", "where", "said"),
    [
        ("", None, "--adopt '' is empty."),
        ("embedding; DROP TABLE x", None, "one expression is needed, not a statement."),
        ("embedding)", None, "closes a ')' that it did not open."),
        ("embedding", " ", "--adopt-where ' ' is empty."),
        ("embedding", "a -- b", "ends in a comment --"),
    ],
)
def test_what_is_no_expression_is_refused(expression: str, where: str | None, said: str) -> None:
    with pytest.raises(UsageError) as why:
        AdoptCall(expression, where)
    assert said in why.value.message
