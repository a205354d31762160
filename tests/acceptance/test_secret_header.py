"""A key in a header of a recipe: it is sent, and neither stored nor shown; a database cannot have it sent elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider

A = tag("fake", 8)
KEY = "qzj7Kp2Lx9wR4tB8"
HEADERS = {"api-key": "${GATEWAY_KEY}", "x-team": "search"}
READING = (["status"], ["status", "--json"], ["plan"], ["plan", "--json"], ["audit"], ["audit", "--json"], ["gate"])


def _recipe(project: Project, provider: Provider, **fields: Any) -> None:
    usual = {"provider": "openai", "dims": 8, "base_url": provider.url, "headers": HEADERS}
    describe(project, {"documents": documents_collection(A)}, {A: usual | fields})


@pytest.fixture
def ready(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose provider wants a key in a header of its own."""
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    make_documents(project, 20)
    _recipe(project, provider, request={"input_type": "document"}, query_request={"input_type": "query"})
    script(project, "aaaa", A)
    return project


def test_it_is_sent_and_neither_stored_nor_shown(ready: Project, vecmig: Vecmig, provider: Provider) -> None:
    with provider.failing("401", message=f"No such key: {KEY}"):
        refused = vecmig("upgrade", code=7)
    assert refused.stderr.splitlines()[-1] == "Check the variable GATEWAY_KEY"
    said = [refused, vecmig("upgrade")]
    said += [vecmig(*command, code=None) for command in (*READING, ["sync"])]
    provider.forget()
    said += [vecmig("search", "documents", "title 7")]
    (query,) = provider.requests()

    assert [result.args for result in said if KEY in result.stdout + result.stderr] == []
    assert KEY not in ready.ledger()
    assert (query["headers"]["api-key"], query["headers"]["x-team"], query["authorization"]) == (KEY, "search", None)
    assert query["fields"]["input_type"] == "query"


def test_what_is_sent_may_be_named_otherwise_at_any_time_and_what_is_asked_may_not(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    vecmig("upgrade")
    body = {"request": {"input_type": "document"}, "query_request": {"input_type": "query"}}
    _recipe(ready, provider, **body, headers={"Authorization": "Bearer ${GATEWAY_KEY}"}, request_model="route-7")
    ready.sql("UPDATE documents SET title = 'new' WHERE id = 3")
    provider.forget()
    vecmig("sync")
    assert {request["fields"]["model"] for request in provider.requests()} == {"route-7"}
    ((stored,),) = ready.sql("SELECT recipe FROM vecmig.tag")
    assert (stored["headers"], stored["request_model"]) == ({"Authorization": "Bearer ${GATEWAY_KEY}"}, "route-7")

    _recipe(ready, provider, request={"input_type": "passage"}, query_request={"input_type": "query"})
    refused = vecmig("sync", code=2)
    assert 'request.input_type: "passage", not "document"' in refused.stderr


def test_an_audit_that_writes_out_a_recipe_shows_no_key(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    written = json.dumps(HEADERS | {"x-old": KEY})
    ready.sql(f"UPDATE vecmig.tag SET recipe = jsonb_set(recipe, ARRAY['headers'], '{written}')")
    describe(ready, {"documents": documents_collection(None)}, {})
    found = vecmig("audit", code=None).stdout
    assert "headers: {x-old: '***', x-team: search, api-key: '${GATEWAY_KEY}'}" in found
    assert "request: {input_type: document}, query_request: {input_type: query}" in found


def test_a_database_alone_has_no_variable_sent_in_a_header(ready: Project, vecmig: Vecmig, provider: Provider) -> None:
    vecmig("upgrade")
    describe(ready, {"documents": documents_collection(None)}, {})
    ready.sql("UPDATE documents SET title = 'new' WHERE id = 3")
    provider.forget()
    refused = vecmig("sync", code=2)
    assert f"The recipe of {A}, as the database alone has it, sends headers of its own: x-team, api-key." in " ".join(
        refused.stderr.split()
    )
    assert provider.requests() == []
