"""A key in the address of a provider: it is sent, and neither stored nor shown."""

from __future__ import annotations

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider

A = tag("fake", 8)
TOKEN = "qzj7Kp2Lx9"


def _recipe(project: Project, provider: Provider, path: str) -> str:
    """Describe a tag whose provider is behind a path; return the server's own name."""
    server = provider.url.removesuffix("/v1")
    fields = {"provider": "openai", "dims": 8, "model": "fake", "base_url": f"{server}/{path}/v1"}
    describe(project, {"documents": documents_collection(A)}, {A: fields})
    return server


READING = (["status"], ["status", "--json"], ["plan"], ["plan", "--json"], ["audit"], ["audit", "--json"], ["gate"])


@pytest.fixture
def ready(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose provider has a key in its address, by a variable."""
    monkeypatch.setenv("GATEWAY_TOKEN", TOKEN)
    make_documents(project, 20)
    _recipe(project, provider, "${GATEWAY_TOKEN}")
    script(project, "aaaa", A)
    return project


def test_it_is_sent_and_neither_stored_nor_shown(ready: Project, vecmig: Vecmig, provider: Provider) -> None:
    with provider.failing("404", message=f"No route /{TOKEN}/v1/embeddings"):
        refused = vecmig("upgrade", code=7)
    server = provider.url.removesuffix("/v1")
    assert refused.stderr.splitlines()[-3:] == [
        f"The provider at {server}/… does not know the model or the address (HTTP 404): No route /***/v1/embeddings.",
        "Nothing was embedded by this run.",
        "Check base_url and model in the recipe",
    ]
    said = [refused, vecmig("upgrade")]
    said += [vecmig(*command, code=None) for command in (*READING, ["sync"])]
    said += [vecmig("search", "documents", "title 7"), vecmig("upgrade", "--sql", code=None)]

    assert [result.args for result in said if TOKEN in result.stdout + result.stderr] == []
    assert TOKEN not in ready.ledger()
    assert "${GATEWAY_TOKEN}" in ready.ledger()


def test_one_that_is_written_out_is_refused_before_anything_is_stored(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    _recipe(ready, provider, TOKEN)

    refused = vecmig("upgrade", code=2)

    assert refused.stderr == (
        f"migrations/collections.yaml:13: the recipe of {A}: base_url: its path may be a key, which would be stored in "
        "the database; write that part as ${NAME}.\n"
    )
    assert provider.requests() == []
    assert ready.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'") == [(0,)]


def test_an_earlier_vecmig_has_stored_it_and_the_next_run_takes_it_away(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    vecmig("upgrade")
    written = f"replace(recipe ->> 'base_url', '${{GATEWAY_TOKEN}}', '{TOKEN}')"
    stored = f"jsonb_set(recipe, ARRAY['base_url'], to_jsonb({written}))"
    ready.sql(f"UPDATE vecmig.tag SET recipe = {stored}")
    assert TOKEN in ready.ledger()
    describe(ready, {"documents": documents_collection(A)}, {})
    said = [vecmig(*command, code=None) for command in (*READING, ["search", "documents", "x"])]
    assert [result.args for result in said if TOKEN in result.stdout + result.stderr] == []

    _recipe(ready, provider, "${GATEWAY_TOKEN}")
    ready.sql("UPDATE documents SET title = 'new' WHERE id = 3")
    vecmig("sync")

    assert TOKEN not in ready.ledger()


@pytest.mark.parametrize("path", ["v1", "openai", "my-team/embeddings", "openai/deployments/gpt4o-prod", "v1beta"])
def test_a_path_of_words_is_stored_as_it_is(ready: Project, vecmig: Vecmig, provider: Provider, path: str) -> None:
    _recipe(ready, provider, path)
    vecmig("upgrade", "--until", "expand")
    assert f"/{path}/v1" in ready.ledger()
