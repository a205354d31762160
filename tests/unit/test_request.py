"""What a recipe adds to its requests: what may stand there, what is stored, and what is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.provider import Provider
from vecmig.config import is_keyless_header
from vecmig.config.collections import load_collections
from vecmig.embedders import Retry, open_embedder
from vecmig.errors import ConfigError, EmbedderError, RecipeError
from vecmig.model.recipe import Recipe, recipe_problems
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
SMALL = Tag.parse("text-embedding-3-small@1/dim-8/chunk-none/norm-l2")
KEY = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
OTHER_KEY = "sk-other-key-0123456789abcdef"
ENVIRON = {"AZURE_OPENAI_API_KEY": KEY, "OPENAI_API_KEY": OTHER_KEY}


def recipe(tag: Tag = TAG, **fields: Any) -> Recipe:
    return Recipe.from_mapping(tag, {"provider": "openai", "dims": 8} | fields)


def problems(tag: Tag = TAG, **fields: Any) -> list[tuple[str, str]]:
    return list(recipe_problems(tag, {"provider": "openai", "dims": 8} | fields))


# What may stand there ----------------------------------------------------------------------------------------------

NO_KEYS = "a body is stored with the recipe; send keys by headers"


@pytest.mark.parametrize("name", ["request", "query_request"])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("input_type", "a mapping of the body's fields is needed, like {input_type: document}"),
        (None, "a mapping of the body's fields is needed, like {input_type: document}"),
        ({"input": ["x"]}, ("vecmig sets input by itself: document_prompt and query_prompt say what stands around a "
         "text")),
        ({"model": "x"}, ("vecmig sets model by itself: the tag names the model; request_model is for another name of "
         "it")),
        ({"encoding_format": "float"}, ("vecmig sets encoding_format by itself: write it beside request, as "
         "encoding_format of the recipe")),
        ({"dimensions": 16}, "dimensions must be 8, the dims of the tag"),
        ({"dimensions": "8"}, "dimensions must be 8, the dims of the tag"),
        ({"key_id": "${NAME}"}, f"key_id holds ${{…}}, and no variable is replaced in a body: {NO_KEYS}"),
        ({"a": [{"b": ["x ${NAME}"]}]}, f"a[0].b[0] holds ${{…}}, and no variable is replaced in a body: {NO_KEYS}"),
        ({"a": {"${NAME}": 1}}, f"a name in it holds ${{…}}, and no variable is replaced in a body: {NO_KEYS}"),
        ({"api_key": "s3cr3t"}, f"api_key may be a key: {NO_KEYS}"),
        ({"extra": {"client-secret": "s3cr3t"}}, f"client-secret may be a key: {NO_KEYS}"),
        ({"access_token": "s3cr3t"}, f"access_token may be a key: {NO_KEYS}"),
        ({"task": "sk-s3cr3t0123456789"}, f"task looks like a key: {NO_KEYS}"),
        ({"a": float("nan")}, "a is a number that JSON cannot write"),
        ({"a": {1: 2}}, "a name in it is not a text; quote it"),
        ({"a": "\0"}, "a holds a character that PostgreSQL cannot store"),
        ({"a": {1, 2}}, "a is a set, which JSON does not have; quote it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body(name: str, value: Any, what: str) -> None:
    assert problems(**{name: value}) == [(name, what)]


def test_vecmig_itself_sends_the_dimensions_of_a_model_that_has_them() -> None:
    assert problems(SMALL, request={"dimensions": 8}) == [
        ("request", "vecmig sets dimensions by itself for this model; take it out")
    ]
    assert problems(request={"dimensions": 8}) == []


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("api-key: x", "a mapping of names to texts is needed, like {api-key: '${AZURE_OPENAI_API_KEY}'}"),
        ({"a b": "x"}, "a name is not that of a header: letters, digits and - are"),
        ({"X\r\nHost": "x"}, "a name is not that of a header: letters, digits and - are"),
        ({"Host": "x"}, "Host belongs to the connection, or vecmig sets it by itself; take it out"),
        ({"content-length": "1"}, "content-length belongs to the connection, or vecmig sets it by itself; take it out"),
        ({"Content-Type": "text/html"}, ("Content-Type belongs to the connection, or vecmig sets it by itself; take it "
         "out")),
        ({"transfer-encoding": "x"}, ("transfer-encoding belongs to the connection, or vecmig sets it by itself; take "
         "it out")),
        ({"a": "x", "A": "y"}, "A stands there twice; capitals make no difference"),
        ({"a": None}, "the value of a is not a text"),
        ({"a": ["x"]}, "the value of a is not a text"),
        ({"a": "x\r\nHost: y"}, "the value of a holds a line break or another character that no header can carry"),
        ({"a": "café"}, "the value of a holds a line break or another character that no header can carry"),
        ({"a": "${NAME"}, "the value of a holds a variable that is not written as ${NAME}"),
        ({"a": "${A-B}"}, "the value of a holds a variable that is not written as ${NAME}"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_headers(value: Any, what: str) -> None:
    assert problems(headers=value) == [("headers", what)]


@pytest.mark.parametrize("provider", ["wordllama", "sentence-transformers"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("request", {"a": 1}), ("query_request", {"a": 1}), ("headers", {"a": "b"}), ("request_model", "x")],
)
def test_other_providers_make_no_requests(provider: str, name: str, value: Any) -> None:
    assert problems(provider=provider, **{name: value}) == [(name, "only the openai provider has it")]


def test_two_keys_are_one_too_many() -> None:
    fields: dict[str, Any] = {"headers": {"Api-Key": "${A}"}, "api_key_env": "B"}
    assert problems(**fields) == [("api_key_env", "the header Api-Key is sent in its place; keep one of them")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(json_values)
def test_values_of_any_kind_never_break_the_checks(value: Any) -> None:
    for name in ("request", "query_request", "headers", "request_model"):
        problems(**{name: value})


# What is stored ----------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from("abcd"), json_values), st.dictionaries(st.sampled_from("abcd"), json_values))
def test_a_body_survives_being_stored_as_json(both: dict[str, Any], query: dict[str, Any]) -> None:
    if problems(request=both, query_request=query):
        return
    made = recipe(request=both, query_request=query)
    again = Recipe.from_mapping(TAG, json.loads(json.dumps(made.to_mapping())))
    assert again == made
    assert hash(again) == hash(made)
    assert again.fingerprint == made.fingerprint


def test_postgresql_writes_a_large_number_in_another_way_and_it_stays_the_same() -> None:
    assert recipe(request={"a": 1e22}) == recipe(request={"a": 10**22})
    assert recipe(request={"a": 1e22}).fingerprint == recipe(request={"a": 10**22}).fingerprint


def test_a_body_is_in_the_fingerprint_and_the_rest_is_not() -> None:
    plain = recipe()
    assert recipe(request={}, query_request={}).fingerprint == plain.fingerprint
    assert recipe(headers={"a": "b"}, request_model="x").fingerprint == plain.fingerprint
    found = {
        plain.fingerprint,
        *(recipe(**fields).fingerprint for fields in (
            {"request": {"a": 1}}, {"request": {"a": True}}, {"request": {"a": None}}, {"query_request": {"a": 1}}
        )),
    }  # fmt: skip
    assert len(found) == 5
    assert recipe(request={"a": 1, "b": 2}).fingerprint == recipe(request={"b": 2, "a": 1}).fingerprint


def test_a_recipe_that_was_stored_before_there_were_such_fields_is_the_same_still() -> None:
    stored = json.loads(
        '{"provider": "openai", "model": "m", "dims": 8, "document_prompt": "{text}", "query_prompt": "{text}", '
        '"normalise": "apply", "too_long": "reject", "base_url": "http://h/v1", "api_key_env": "OPENAI_API_KEY", '
        '"price_per_million_tokens": 0.0, "concurrency": 8, "timeout": 60.0, "num_cpus": 1.0, "num_gpus": 0.0}'
    )
    made = Recipe.from_mapping(TAG, stored)
    assert made.to_mapping() == stored
    assert made.fingerprint == "c1167bfe1ddf96c8a9e86477e4fab04c8cdb29855220755b75b2021f3236bdff"


def test_a_worker_elsewhere_is_given_the_variables_of_the_headers_too() -> None:
    service = recipe(base_url="http://h/${A}/v1", headers={"x": "${B}", "api-key": "k ${C}"}).service
    assert set(service.variables) >= {"A", "B", "C"}


def test_a_difference_names_the_field_of_the_body() -> None:
    ours = recipe(request={"input_type": "document", "a": None, "same": [1]}, query_request={"b": True})
    theirs = recipe(request={"input_type": "passage", "same": [1]})
    assert ours.differences(theirs) == [
        'request.input_type: "document", not "passage"',
        "request.a: null, not none",
        "query_request.b: true, not none",
    ]


def _load(folder: Path, fields: str) -> Recipe:
    path = folder / "collections.yaml"
    path.write_text(f"tags:\n  {TAG}:\n    provider: openai\n    dims: 8\n{fields}")
    return load_collections(path).recipes[str(TAG)]


def test_a_header_is_a_text_whatever_yaml_takes_it_for(tmp_path: Path) -> None:
    found = _load(tmp_path, "    headers: {api-version: 2024-10-21, x-retries: 3, x-on: yes, x-half: 0.50}\n")
    assert found.service.headers == {"api-version": "2024-10-21", "x-retries": "3", "x-on": "yes", "x-half": "0.50"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-app", KEY), ("x-app", "v1.${NAME}.Zm9vYmFyMTIzNDU2"), ("api-key", "secret"), ("Authorization", "Bearer key"),
     ("x-app", "$NAME"), ("cookie", "a=b")],
)  # fmt: skip
def test_a_key_that_is_written_out_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, f"    headers:\n      {name}: {value}\n")
    assert refused.value.message.endswith(
        f"collections.yaml:6: the recipe of {TAG}: headers: the value of {name} may be a key, which would be stored in "
        "the database; write it as ${NAME}."
    )
    assert not is_keyless_header(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("api-version", "2024-10-21"), ("x-app", "search/1.2"), ("HTTP-Referer", "https://shop.example.com/search"),
     ("Authorization", "Bearer ${KEY}"), ("api-key", "${KEY}"), ("x-org", "team-${NAME}"), ("x-region", "eu-west-1")],
)  # fmt: skip
def test_words_versions_and_variables_are_no_keys(name: str, value: str) -> None:
    assert is_keyless_header(name, value)


# What is sent ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    """One server for the module."""
    with Provider(dims=8) as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Provider:
    """The server without faults and with an empty journal."""
    server.faults()
    server.forget()
    return server


def _ask(provider: Provider, environ: Mapping[str, str] = ENVIRON, tag: Tag = TAG, **fields: Any) -> Any:
    """Embed a record and a query; return the two requests."""
    made = recipe(tag, base_url=provider.url, **fields)
    embedder = open_embedder(str(tag), made, environ=environ, retry=Retry(attempts=1))
    try:
        embedder.embed_documents(["a"])
        embedder.embed_queries(["b"])
    finally:
        embedder.close()
    return provider.requests()


def test_the_fields_of_a_query_are_laid_over_those_of_both(provider: Provider) -> None:
    both = {"input_type": "document", "truncate": "NONE", "deep": {"a": [1, None, True]}}
    document, query = _ask(provider, request=both, query_request={"input_type": "query", "dimensions": 8})
    usual = {"model": "m", "encoding_format": "float", "truncate": "NONE", "deep": {"a": [1, None, True]}}
    assert document["fields"] == usual | {"input_type": "document"}
    assert query["fields"] == usual | {"input_type": "query", "dimensions": 8}


def test_a_deployment_has_another_name_and_the_model_its_dimensions(provider: Provider) -> None:
    document, query = _ask(provider, tag=SMALL, request_model="my-deployment")
    assert document["fields"] == query["fields"]
    assert document["fields"] == {"model": "my-deployment", "encoding_format": "float", "dimensions": 8}


def test_a_key_in_a_header_is_the_only_one_that_is_sent(provider: Provider) -> None:
    for request in _ask(provider, headers={"api-key": "${AZURE_OPENAI_API_KEY}", "x-app": "search"}):
        assert (request["headers"]["api-key"], request["headers"]["x-app"]) == (KEY, "search")
        assert request["authorization"] is None
        assert OTHER_KEY not in json.dumps(request["headers"])


def test_other_headers_stand_beside_the_key(provider: Provider) -> None:
    headers = {"cf-aig-authorization": "Bearer ${AZURE_OPENAI_API_KEY}"}
    document, _ = _ask(provider, api_key_env="OPENAI_API_KEY", headers=headers)
    assert document["authorization"] == f"Bearer {OTHER_KEY}"
    assert document["headers"]["cf-aig-authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_a_recipe_may_write_the_authorization_itself(provider: Provider, name: str) -> None:
    document, _ = _ask(provider, headers={name: "Token ${AZURE_OPENAI_API_KEY}"})
    assert document["authorization"] == f"Token {KEY}"


def test_a_variable_that_ends_with_a_line_break_is_sent_without_it(provider: Provider) -> None:
    document, _ = _ask(provider, {"K": f"{KEY}\n"}, headers={"api-key": "${K}"})
    assert document["headers"]["api-key"] == KEY


@pytest.mark.parametrize(
    ("environ", "message", "hint"),
    [
        ({}, "The header api-key needs the environment variable K, which is not set.", "Set it: export K=…"),
        ({"K": " "}, "The header api-key would be empty.", "Check the variable K"),
        *(({"K": value}, "The header api-key would hold a line break or another character that no header can carry.",
           "Check the variable K") for value in ("s3cr3t\r\nHost: x", "s3cr3t\u20ac", "s3cr3t\0", "s3cr3té")),
    ],
)  # fmt: skip
def test_a_variable_that_no_header_can_carry(
    provider: Provider, environ: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as refused:
        _ask(provider, environ, headers={"api-key": "${K}"})
    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert provider.requests() == []


def test_a_server_that_repeats_a_header_does_not_make_it_known(provider: Provider) -> None:
    with provider.failing("401", message=f"Not known: {KEY}"), pytest.raises(EmbedderError) as refused:
        _ask(provider, headers={"api-key": "${AZURE_OPENAI_API_KEY}"})
    assert refused.value.message.endswith("refuses the key (HTTP 401): Not known: ***.")
    assert refused.value.hint == "Check the variable AZURE_OPENAI_API_KEY"


@pytest.mark.parametrize(("fields", "named"), [({}, "model"), ({"request_model": "route"}, "request_model")])
def test_a_model_that_is_not_known_is_to_be_named_otherwise(provider: Provider, fields: Any, named: str) -> None:
    with provider.failing("404"), pytest.raises(EmbedderError) as refused:
        _ask(provider, **fields)
    assert refused.value.hint == f"Check base_url and {named} in the recipe"


def test_openai_itself_wants_no_key_beside_the_authorization_of_the_recipe() -> None:
    made = recipe(headers={"Authorization": "Bearer ${AZURE_OPENAI_API_KEY}"})
    open_embedder(str(TAG), made, environ={"AZURE_OPENAI_API_KEY": KEY}).close()
