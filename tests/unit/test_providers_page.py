"""Each recipe of docs/providers.md is read, opened, and asked against a server that demands what its provider does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.demanding import KEY, PROVIDERS, Demanding
from support.providers_page import at, blocks, pasted
from support.source import ROOT
from vecmig.chunking import chunker
from vecmig.config.collections import load_collections
from vecmig.embedders import Retry, open_embedder
from vecmig.embedders.base import BaseEmbedder
from vecmig.model.index import index_problem
from vecmig.model.recipe import Recipe

TEMPLATE = ROOT / "templates" / "generic" / "collections.yaml.tmpl"
KEYS = ("OPENAI", "AZURE_OPENAI", "GEMINI", "VOYAGE", "COHERE", "DASHSCOPE", "LITELLM")
ENVIRON = {f"{name}_API_KEY": KEY for name in KEYS}


def recipe(folder: Path, text: str) -> tuple[str, Recipe]:
    """Paste a block into a new project's collections.yaml, and load that as every command does."""
    path = folder / "collections.yaml"
    path.write_text(pasted(TEMPLATE.read_text(encoding="utf-8"), text), encoding="utf-8")
    found = load_collections(path)
    (collection,) = found.collections.values()
    assert list(found.recipes) == [collection.tag]
    assert index_problem(collection.storage, found.recipes[str(collection.tag)].dims) is None
    return str(collection.tag), found.recipes[str(collection.tag)]


def opened(tag: str, recipe: Recipe) -> BaseEmbedder:
    embedder = open_embedder(tag, recipe, environ=ENVIRON, retry=Retry(attempts=1))
    assert isinstance(embedder, BaseEmbedder)
    return embedder


def test_each_provider_has_one_recipe_a_row_in_the_table_and_its_sources() -> None:
    assert set(blocks()) == set(PROVIDERS)
    assert {title: len(found) for title, found in blocks().items()} == dict.fromkeys(PROVIDERS, 1)
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.*?\]\(#(.*?)\)", page, re.MULTILINE)
    assert rows == [title.lower().replace(" ", "-").replace(".", "") for title in PROVIDERS]
    assert len(re.findall(r"^Sources?: \[", page, re.MULTILINE)) == len(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_recipe_works_as_it_is_copied(name: str, tmp_path: Path) -> None:
    (block,) = blocks()[name]
    _, as_written = recipe(tmp_path, block)
    with Demanding(PROVIDERS[name]) as server:
        tag, found = recipe(tmp_path, at(server.root, block))
        assert found.fingerprint == as_written.fingerprint
        embedder = opened(tag, found)
        try:
            documents = embedder.embed_documents(["one text"] * embedder.max_batch)
            queries = embedder.embed_queries(["a query"])
        finally:
            embedder.close()
    assert server.answered == [200, 200]
    assert documents.shape[1] == queries.shape[1] == found.dims
    cut = chunker(found.chunk, provider=found.provider, model=found.model)
    assert len(list(cut("word " * 2000))) > 1


@pytest.mark.parametrize("name", [name for name, demands in PROVIDERS.items() if demands.max_inputs < 2048])
def test_a_recipe_asks_for_as_much_as_the_provider_takes(name: str, tmp_path: Path) -> None:
    with Demanding(PROVIDERS[name]) as server:
        tag, found = recipe(tmp_path, at(server.root, blocks()[name][0]))
        assert found.service.max_batch == PROVIDERS[name].max_inputs
        larger = replace(found, service=replace(found.service, max_batch=found.service.max_batch + 1))
        embedder = opened(tag, larger)
        try:
            assert embedder.embed_documents(["one text"] * embedder.max_batch).shape[1] == found.dims
            assert embedder.max_batch == found.service.max_batch, "the refusal names the limit"
        finally:
            embedder.close()
    # one that is refused, one that shows that the server is well, and two that it takes
    assert server.answered == [400, 200, 200, 200]


@pytest.mark.parametrize("name", ["Ollama", "Azure OpenAI"])
def test_a_newcomer_copies_eight_lines(name: str) -> None:
    assert len(blocks()[name][0].splitlines()) == 8
