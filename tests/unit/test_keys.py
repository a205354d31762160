"""Which key goes to which server, and what a server that repeats it makes known."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from support.provider import Provider
from vecmig.embedders import Retry, open_embedder
from vecmig.embedders.keys import Key, find_key
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError
from vecmig.model.recipe import Recipe, is_openai
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
KEY = "sk-0123456789abcdef"
TOKEN = base64.b64encode(bytes(number * 37 % 251 for number in range(555))).decode()
ENVIRON = {"OPENAI_API_KEY": KEY, "GATEWAY_KEY": TOKEN}


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    """One server for the module; it wants a key."""
    with Provider(dims=8, key=TOKEN) as provider:
        yield provider


def recipe(**fields: Any) -> Recipe:
    return Recipe.from_mapping(TAG, {"provider": "openai", "dims": 8} | fields)


def failure(server: Provider, environ: Mapping[str, str] = ENVIRON, **fields: Any) -> EmbedderError:
    made = recipe(base_url=server.url, **fields)
    embedder = open_embedder(str(TAG), made, environ=environ, retry=Retry(attempts=1))
    try:
        with pytest.raises(EmbedderError) as caught:
            embedder.embed_documents(["a"])
    finally:
        embedder.close()
    return caught.value


@pytest.mark.parametrize(
    ("url", "openai"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.openai.com", True),
        ("https://api.openai.com:443/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com:8443/v1", False),
        ("https://api.openai.com.example.com/v1", False),
        ("https://api.openai.com@example.com/v1", False),
        ("https://example.com/https://api.openai.com/v1", False),
    ],
)
def test_openai_s_key_goes_to_openai_alone(url: str, openai: bool) -> None:
    assert is_openai(url) is openai
    assert find_key(recipe(), ENVIRON, url=url, service="S").value == (KEY if openai else "")
    assert find_key(recipe(api_key_env="GATEWAY_KEY"), ENVIRON, url=url, service="S").value == TOKEN
    assert find_key(recipe(api_key_env="OPENAI_API_KEY"), ENVIRON, url=url, service="S").value == KEY


def test_a_server_that_wants_the_key_that_it_was_not_sent(server: Provider) -> None:
    server.forget()
    error = failure(server)
    assert error.message == f"The provider at {server.url} wants a key (HTTP 401): Incorrect API key provided: ."
    assert error.hint == (
        "The key in OPENAI_API_KEY was not sent: it goes to api.openai.com only, unless a recipe names it. "
        "If it is for this server, add to the recipe: api_key_env: OPENAI_API_KEY"
    )
    assert [request["authorization"] for request in server.requests()] == [None]
    assert failure(server, {}).hint == (
        "Add to the recipe the name of the variable that holds the key: api_key_env: NAME"
    )
    assert failure(server, {}, api_key_env="GATEWAY_KEY").hint == "Check the variable GATEWAY_KEY, which is not set"
    assert failure(server, api_key_env="OPENAI_API_KEY").hint == "Check the variable OPENAI_API_KEY"


def test_a_recipe_without_a_variable_stores_none() -> None:
    assert "api_key_env" not in recipe().to_mapping()
    assert recipe(api_key_env="OPENAI_API_KEY").to_mapping()["api_key_env"] == "OPENAI_API_KEY"
    assert recipe(api_key_env="OPENAI_API_KEY").fingerprint == recipe().fingerprint


def test_a_worker_elsewhere_is_given_the_variables_that_are_sent() -> None:
    assert recipe().service.variables == ("OPENAI_API_KEY",)
    assert recipe(base_url="http://h/v1").service.variables == ()
    assert recipe(base_url="http://h/${TEAM}", api_key_env="K").service.variables == ("K", "TEAM")


def test_a_header_of_the_recipe_stands_for_the_key() -> None:
    made = recipe(headers={"api-key": "${GATEWAY_KEY}"})
    key = find_key(made, ENVIRON, url="https://h/v1", service="S")
    assert key == Key("", sent=True, hint="Check the variable GATEWAY_KEY")


@pytest.mark.parametrize(("status", "kind"), [("401", TerminalEmbedderError), ("400", PoisonInputError)])
@pytest.mark.parametrize("cut", [740, 400, 230, 12])
def test_a_gateway_that_repeats_a_long_token(server: Provider, status: str, kind: type, cut: int) -> None:
    made = recipe(base_url=server.url, api_key_env="GATEWAY_KEY")
    embedder = open_embedder(str(TAG), made, environ=ENVIRON, retry=Retry(attempts=1, sleep=lambda _: None))
    embedder.embed_documents(["a"])
    message = f"Authorization: Bearer {TOKEN[:cut]} is not valid here"
    with server.failing(status, message=message, marked=status == "400"), pytest.raises(kind) as caught:
        embedder.embed_documents(["POISON"])
    embedder.close()
    error = caught.value
    assert isinstance(error, EmbedderError)
    assert error.message.endswith(f"(HTTP {status}): Authorization: Bearer *** is not valid here.")
    shown = "".join(traceback.format_exception(error))
    assert not [at for at in range(len(TOKEN) - 11) if TOKEN[at : at + 12] in shown]
    assert status == "400" or "Error: Error code" in shown
