"""A newcomer's way: vecmig init, eight lines of docs/providers.md pasted, and two commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.cli import make_documents
from support.demanding import KEY, PROVIDERS, Demanding
from support.project import Project
from support.providers_page import at, blocks, pasted


@pytest.fixture
def fresh(tmp_path: Path, database_url: str) -> Project:
    """A directory in which nothing is, beside a database with the table that the template describes."""
    made = Project(tmp_path / "embeddings", database_url)
    made.path.mkdir()
    make_documents(made, 40)
    return made


def _init(project: Project) -> None:
    """Run vecmig init, and say where the database is."""
    done = project.vecmig("init").expect()
    assert "docs/providers.md" in project.collections.read_text()
    assert done.stderr.startswith("Next: edit database_url in vecmig.ini")
    lines = project.ini.read_text().splitlines(keepends=True)
    (line,) = (line for line in lines if line.startswith("database_url = "))
    project.ini.write_text("".join(lines).replace(line, f"database_url = {project.database_url}\n"))


@pytest.mark.parametrize("name", ["Ollama", "Azure OpenAI"])
def test_eight_lines_lead_to_a_first_tag(fresh: Project, name: str) -> None:
    _init(fresh)
    keys = {"AZURE_OPENAI_API_KEY": KEY, "OPENAI_API_KEY": "sk-of-somebody-else"}
    with Demanding(PROVIDERS[name]) as server:
        block = at(server.root, blocks()[name][0])
        fresh.collections.write_text(pasted(fresh.collections.read_text(), block))
        fresh.vecmig("revision", "-m", "first tag", env=keys).expect()
        done = fresh.vecmig("upgrade", "head", env=keys).expect()
        found = fresh.vecmig("search", "documents", "title 7 body 7", "-k", "1", "--json", env=keys).expect()
    assert done.stdout.endswith("  live  first tag\n")
    assert [hit["record"]["title"] for hit in found.json] == ["title 7"]
    assert set(server.answered) == {200}
    assert fresh.sql("SELECT count(*) FROM documents_live") == [(40,)]


def test_without_the_key_azure_says_which_variable_is_missing(fresh: Project) -> None:
    _init(fresh)
    with Demanding(PROVIDERS["Azure OpenAI"]) as server:
        block = at(server.root, blocks()["Azure OpenAI"][0])
        fresh.collections.write_text(pasted(fresh.collections.read_text(), block))
        fresh.vecmig("revision", "-m", "first tag").expect()
        assert "AZURE_OPENAI_API_KEY" not in os.environ
        refused = fresh.vecmig("upgrade", "head").expect(2)
    assert refused.stderr.splitlines()[-2:] == [
        "The header api-key needs the environment variable AZURE_OPENAI_API_KEY, which is not set.",
        "Set it: export AZURE_OPENAI_API_KEY=…",
    ]
    assert server.answered == []


def test_a_recipe_that_cannot_be_carried_out_is_not_recorded(fresh: Project) -> None:
    _init(fresh)
    with Demanding(PROVIDERS["Ollama"]) as server:
        block = at(server.root, blocks()["Ollama"][0])
        text = fresh.collections.read_text()
        fresh.collections.write_text(pasted(text, block.replace("unit: characters", "unit: tokens")))
        fresh.vecmig("revision", "-m", "first tag").expect()
        refused = fresh.vecmig("upgrade", "head").expect(2)
        assert refused.stderr.splitlines()[-1] == "Write unit: characters in the recipe"
        fresh.collections.write_text(pasted(text, block))
        fresh.vecmig("upgrade", "head").expect()


def test_a_recipe_that_has_made_no_vector_may_be_mended(fresh: Project) -> None:
    _init(fresh)
    keys = {"GEMINI_API_KEY": KEY}
    with Demanding(PROVIDERS["Gemini"]) as server:
        block = at(server.root, blocks()["Gemini"][0])
        text = fresh.collections.read_text()
        asks = "    request: { dimensions: 1536 }\n"
        fresh.collections.write_text(pasted(text, block.replace(asks, "")))
        fresh.vecmig("revision", "-m", "first tag").expect()
        refused = fresh.vecmig("upgrade", "head", env=keys).expect(7)
        assert refused.stderr.endswith("add to the recipe: request: {dimensions: 1536}\n")
        fresh.collections.write_text(pasted(text, block))
        told = fresh.vecmig("upgrade", "head", env=keys).expect(2)
        assert told.stderr.splitlines()[-3:] == [
            (
                "The recipe of gemini-embedding-001@1/dim-1536/chunk-1500/norm-l2 changed since the tag was recorded: "
                "request.dimensions: 1536, not none."
            ),
            "No vector was made by the recorded one yet. Nothing was changed.",
            (
                "Begin the tag again: vecmig downgrade -1 --discard, then: vecmig upgrade. Or take the change back in "
                "collections.yaml"
            ),
        ]
        fresh.vecmig("downgrade", "-1", "--discard").expect()
        fresh.vecmig("upgrade", env=keys).expect()
