"""The reader of an application: what it believes of a database, and what it shows of itself."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from support.lab import LARGE, SMALL, Lab
from vecmig.errors import RecipeError, TagError
from vecmig.postgres.sessions import Database
from vecmig.reader import Reader

Connection = psycopg.Connection[Any]
OPENAI = {"provider": "openai", "callable": None}
NAMED = OPENAI | {"api_key_env": "OPENAI_API_KEY"}


def _record(connection: Connection, changes: dict[str, Any]) -> None:
    """Change what the database says about the live tag's recipe, as somebody with rights on vecmig.tag may."""
    connection.execute(
        "UPDATE vecmig.tag SET recipe = jsonb_strip_nulls(recipe || %s) WHERE tag = %s", [json.dumps(changes), SMALL]
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"callable": "subprocess:getoutput"}, "runs the function subprocess:getoutput"),
        ({"provider": "sentence-transformers", "callable": None}, "loads the model toy from a hub or a directory"),
        (OPENAI | {"base_url": "http://localhost:1/${SECRET}/v1"}, "puts environment variables into base_url"),
        (OPENAI | {"api_key_env": "SECRET"}, "sends the variable SECRET as the key"),
        (NAMED | {"base_url": "http://localhost:1/v1"}, "sends the variable OPENAI_API_KEY to another server than"),
        (NAMED | {"base_url": "http://api.openai.com/v1"}, "sends the variable OPENAI_API_KEY to another server than"),
        (NAMED | {"base_url": "https://api.openai.com.host/"}, "sends the variable OPENAI_API_KEY to another server"),
    ],
)
@pytest.mark.upgraded("r1")
def test_a_recipe_that_the_database_alone_has_neither_runs_code_nor_sends_secrets(
    lab: Lab, connection: Connection, changes: dict[str, Any], problem: str
) -> None:
    _record(connection, changes)
    environ = {"SECRET": "s3cr3t", "OPENAI_API_KEY": "sk-s3cr3t"}
    with Reader(lab.url, environ=environ) as reader, pytest.raises(RecipeError) as refused:
        reader.search("documents", "touch /tmp/owned", 1)
    assert f"The recipe of {SMALL}, as the database alone has it, {problem}" in refused.value.message
    assert "Reader.from_config" in refused.value.hint
    assert "recipes=" in refused.value.hint


@pytest.mark.upgraded("r1")
def test_recipes_that_the_application_names_are_believed(lab: Lab) -> None:
    with lab.reader() as reader:
        assert [hit.key for hit in reader.search("documents", "title 3\n\nbody 3", 1)] == [(3,)]
    with Reader.from_config(lab.path / "vecmig.ini") as reader:
        assert [hit.key for hit in reader.search("documents", "title 3\n\nbody 3", 1)] == [(3,)]


@pytest.mark.upgraded
def test_a_tag_may_be_written_in_any_order(lab: Lab) -> None:
    model, dims, chunk, norm = SMALL.split("/")
    with lab.reader() as reader:
        (hit,) = reader.search("documents", "title 3\n\nbody 3", 1, tag=f"{model}/{norm}/{chunk}/{dims}")
        assert (hit.tag, hit.key) == (SMALL, (3,))
        assert reader.search("documents", "title 3\n\nbody 3", 1)[0].tag == LARGE
        with pytest.raises(TagError):
            reader.search("documents", "x", 1, tag="latest")


def test_no_secret_stands_in_a_representation() -> None:
    url = "postgresql://me:s3cr3t@host/db"
    shown = repr(Reader(url, environ={"KEY": "sk-s3cr3t"})) + repr(Database(url))
    assert "s3cr3t" not in shown
