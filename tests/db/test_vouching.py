"""Commands do not believe a recipe that the database alone has, where it would run code or send something away."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import RecipeError
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.operations.recipes import recipe_of
from vecmig.runner.project import Project

WORDS = "wordllama@0.4/dim-64/chunk-none/norm-l2"
OPENAI = {"provider": "openai", "callable": None}
PLANTED = "planted_by_the_test"


def _forget(lab: Lab, tag: str) -> None:
    """Leave a tag's recipe out of collections.yaml."""
    path = lab.path / "migrations" / "collections.yaml"
    data = yaml.safe_load(path.read_text())
    del data["tags"][tag]
    (data["collections"][lab.name]["tag"],) = data["tags"]
    path.write_text(yaml.safe_dump(data))


def _plant(lab: Lab, tag: str, changes: dict[str, Any]) -> None:
    """Change a recorded recipe and its fingerprint, as somebody may who can write to vecmig.tag."""
    ((kept,),) = lab.sql("SELECT recipe FROM vecmig.tag WHERE tag = %s", tag)
    changed = {name: value for name, value in (kept | changes).items() if value is not None}
    fingerprint = Recipe.from_mapping(Tag.parse(tag), changed).fingerprint
    lab.sql("UPDATE vecmig.tag SET recipe = %s, fingerprint = %s WHERE tag = %s", json.dumps(changed), fingerprint, tag)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A function that any recipe could name; whoever imports its module is caught."""
    (tmp_path / f"{PLANTED}.py").write_text("def run(texts):\n    raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield f"{PLANTED}:run"
    assert PLANTED not in sys.modules


def _ask_standby(lab: Lab) -> None:
    path = lab.path / "evals" / "faq.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("collection: documents\nqueries: [{query: body 3, relevant: [3]}]\n")
    runner.evaluate(lab.config, tags=[SMALL])


def _sync(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'x' WHERE id = 1")
    lab.sync()


@pytest.mark.parametrize("command", [_ask_standby, _sync], ids=["eval", "sync"])
@pytest.mark.upgraded
def test_a_command_runs_no_function_that_the_database_alone_names(
    lab: Lab, trap: str, command: Callable[[Lab], None]
) -> None:
    _forget(lab, SMALL)
    _plant(lab, SMALL, {"callable": trap})
    with pytest.raises(RecipeError) as refused:
        command(lab)
    assert refused.value.message == f"The recipe of {SMALL}, as the database alone has it, runs the function {trap}."
    assert refused.value.state == "Nothing was run or sent."
    assert f"write the recipe of {SMALL} into " in refused.value.hint
    assert "collections.yaml" in refused.value.hint


@pytest.mark.upgraded("r2", until="index")
def test_the_gate_runs_none(lab: Lab, trap: str) -> None:
    _forget(lab, LARGE)
    _plant(lab, LARGE, {"callable": trap})
    with pytest.raises(RecipeError, match="as the database alone has it, runs the function"):
        lab.checks()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"callable": f"{PLANTED}:run"}, f"runs the function {PLANTED}:run"),
        (OPENAI | {"api_key_env": "SECRET", "base_url": "http://localhost:1/v1"}, "sends the variable SECRET"),
        (OPENAI | {"base_url": "http://localhost:1/v1"}, "sends the records to another server than OpenAI's"),
        ({"provider": "sentence-transformers", "callable": None}, "loads the model toy"),
    ],
)
@pytest.mark.usefixtures("trap")
def test_the_audit_says_so_and_looks_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("SECRET", "s3cr3t")
    lab.upgrade()
    _forget(lab, SMALL)
    _plant(lab, SMALL, changes)
    missing, unchecked = runner.audit(lab.config).findings
    assert (missing.kind, missing.tag) == ("no recipe", SMALL)
    assert f"the recorded one is not used, because it {problem}" in missing.detail
    assert missing.fix.startswith(f"If it is yours, add under tags: {SMALL}: {{")
    assert (unchecked.kind, unchecked.severity, unchecked.tag) == ("canary not checked", "unchecked", SMALL)
    assert problem in unchecked.detail
    assert f"write the recipe of {SMALL} into " in unchecked.fix
    assert unchecked.fix.endswith("Then: vecmig audit")


@pytest.mark.upgraded(chain=(WORDS, LARGE), recipes={WORDS: {"provider": "wordllama", "dims": 64}})
def test_a_harmless_recipe_that_was_taken_out_by_mistake_is_used_as_recorded(lab: Lab) -> None:
    _forget(lab, WORDS)
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    assert lab.sync()["documents", WORDS].fresh == 20
    (missing,) = runner.audit(lab.config).findings
    assert (missing.kind, missing.detail) == ("no recipe", "It has no recipe for this tag; the recorded one is used.")
    assert missing.fix.startswith("Add under tags: ")


@pytest.mark.upgraded("r1")
def test_a_service_uses_a_recipe_that_was_written_since_it_has_read_the_file(lab: Lab) -> None:
    whole = (lab.path / "migrations" / "collections.yaml").read_text()
    _forget(lab, LARGE)
    service = Project(lab.config)
    assert LARGE not in service.collections.recipes
    (lab.path / "migrations" / "collections.yaml").write_text(whole)
    lab.upgrade()
    with service.database.session() as connection:
        found = recipe_of(service.context, service.context.ledger(connection), lab.name, LARGE)
    assert found == Project(lab.config).collections.recipes[LARGE]
