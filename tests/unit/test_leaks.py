"""No error path shows a secret: every place of one, every way to repeat it, every status, and all that is written."""

from __future__ import annotations

import base64
import html
import itertools
import json
import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from support.leaks import SECRETS, leaked
from support.wire import Wire, answer, embeddings
from vecmig.embedders import Retry, open_embedder
from vecmig.errors import EmbedderError, RecipeError, VecmigError
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-8/chunk-none/norm-l2")

#: How a server repeats a secret.
ECHOES: dict[str, Callable[[str], str]] = {
    "whole": lambda secret: f"Not known: {secret}.",
    "header": lambda secret: f"Authorization: Bearer {secret} is not valid",
    "capitals": lambda secret: f"BEARER {secret.upper()}",
    "cut": lambda secret: f"Key {secret[: len(secret) * 2 // 3]}… is not known",
    "end": lambda secret: f"The key that ends with {secret[len(secret) // 3 :]}",
    "late": lambda secret: f"{'This is a long story. ' * 13} {secret}",
    "masked": lambda secret: f"Key {secret[: len(secret) // 2 - 2]}***{secret[len(secret) // 2 + 2 :]} is not known",
    "percent": lambda secret: f"POST /v1/embeddings?key={quote(secret, safe='')}",
    "base64": lambda secret: f"Basic {base64.b64encode(f'somebody:{secret}'.encode()).decode()}",
    "escaped": lambda secret: json.dumps(json.dumps({"key": secret})),
    "html": lambda secret: f"<code>{html.escape(secret)}</code>",
    "in pieces": lambda secret: "\0".join([secret[:20], secret[20:]]),
}
#: What an error's answer is made of.
BODIES: dict[str, Callable[[str], tuple[str, str]]] = {
    "openai": lambda text: (
        json.dumps({"error": {"message": text, "type": text, "code": text, "param": text}}),
        "json",
    ),
    "detail": lambda text: (json.dumps({"detail": [{"msg": text, "loc": [text], "input": text}]}), "json"),
    "text": lambda text: (text, "plain"),
    "page": lambda text: (f"<!doctype html><title>{text}</title><p>{text}", "html"),
    "broken": lambda text: (json.dumps({"error": {"message": text}})[:-3], "json"),
}
STATUSES = (
    *("200 OK", "300 Many", "302 Found", "400 Bad Request", "401 No", "403 Forbidden", "404 Not Found"),
    *("407 Proxy", "408 Late", "413 Large", "422 What", "429 Busy", "500 Oops", "502 Bad Gateway", "503 Down"),
)


class Gateway:
    """An embedder whose requests go through a proxy that answers them itself, and all that it makes known."""

    def __init__(self, caplog: pytest.LogCaptureFixture, wire: Wire) -> None:
        self._caplog = caplog
        self._told: list[str] = []
        environ = {
            "KEY": SECRETS["key"],
            "PATH_TOKEN": SECRETS["path"],
            "TEAM_TOKEN": SECRETS["header"],
            "HTTP_PROXY": f"http://me:{quote(SECRETS['proxy'], safe='')}@127.0.0.1:{wire.port}",
        }
        recipe = Recipe.from_mapping(
            TAG,
            {
                "provider": "openai",
                "dims": 8,
                "base_url": "http://models.example/${PATH_TOKEN}/v1",
                "api_key_env": "KEY",
                "headers": {"x-team": "Team ${TEAM_TOKEN}"},
                "timeout": 0.5,
            },
        )
        retry = Retry(attempts=2, sleep=lambda _: None, notify=lambda error, _: self._tell(error))
        self.embedder = open_embedder(str(TAG), recipe, environ=environ, retry=retry)

    def _tell(self, error: VecmigError) -> None:
        chain = "".join(traceback.format_exception(error))
        self._told.append(f"{error.message}\n{error.state}\n{error.hint}\n{error!r}\n{chain}")

    def fail(self) -> str:
        """Embed something that goes wrong; return all that was said and logged."""
        self._caplog.clear()
        self._told.clear()
        with pytest.raises(EmbedderError) as caught:
            self.embedder.embed_documents(["one"])
        self._tell(caught.value)
        return "\n".join((*self._told, self._caplog.text))


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as started:
        yield started


@pytest.fixture
def gateway(caplog: pytest.LogCaptureFixture, wire: Wire) -> Iterator[Gateway]:
    with caplog.at_level(logging.DEBUG):
        made = Gateway(caplog, wire)
        yield made
        made.embedder.close()


def saying(data: bytes) -> Callable[[socket.socket, bytes], None]:
    def reply(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)

    return reply


def test_the_secrets_are_sent(gateway: Gateway, wire: Wire) -> None:
    gateway.embedder.embed_documents(["one"])
    (request,) = wire.requests
    assert f"Bearer {SECRETS['key']}".encode() in request
    assert f"/{SECRETS['path']}/v1/embeddings".encode() in request
    assert f"Team {SECRETS['header']}".encode() in request
    assert base64.b64encode(f"me:{SECRETS['proxy']}".encode()) in request
    assert leaked(request.decode())


@pytest.mark.parametrize(("body", "accepted"), [*((body, False) for body in BODIES), ("openai", True)])
def test_whatever_an_error_repeats(gateway: Gateway, wire: Wire, body: str, accepted: bool) -> None:
    found: dict[str, list[str]] = {}
    # in turn, so that each place meets each way to repeat it and each status
    places = itertools.cycle((*SECRETS, "key"))
    for (status, echo), place in zip(itertools.product(STATUSES, ECHOES), places, strict=False):
        if accepted:
            wire.reply = lambda connection, request: connection.sendall(embeddings(request))
            gateway.embedder.embed_documents(["good"])
        text, kind = BODIES[body](ECHOES[echo](SECRETS[place]))
        wire.reply = saying(answer(text, status=status, kind=f"application/{kind}"))
        if parts := leaked(gateway.fail()):
            found[f"{status}, {echo}, {place}"] = parts[:1]
    assert found == {}


@pytest.mark.parametrize(
    "name", ["Location", "Retry-After", "X-Request-Id", "Set-Cookie", "X-RateLimit-Reset-Requests"]
)
def test_whatever_a_header_repeats(gateway: Gateway, wire: Wire, name: str) -> None:
    found: dict[str, list[str]] = {}
    for status, place, before in itertools.product(
        ("200 OK", "307 Moved", "308 Moved", "401 No", "429 Busy", "500 Oops"), SECRETS, ("", "/", "http://a.example/")
    ):
        value = f"{before}{SECRETS[place]}"
        wire.reply = saying(answer("{}", status=status, **{name: value}))
        if parts := leaked(gateway.fail()):
            found[f"{status}, {place}, {before}"] = parts[:1]
    assert found == {}


@pytest.mark.parametrize("place", SECRETS)
def test_whatever_stands_in_the_place_of_a_vector(gateway: Gateway, wire: Wire, place: str) -> None:
    secret = SECRETS[place]
    for embedding in (secret, [secret], [[secret]], {secret: 1}, None, [1.0]):
        for row in (
            {"index": 0, "embedding": embedding},
            {"index": secret, "embedding": embedding},
            {secret: embedding},
        ):
            for text in (
                json.dumps({"data": [row]}),
                json.dumps({"data": [row, row], "usage": secret}),
                json.dumps([row]),
            ):
                wire.reply = saying(answer(text))
                assert leaked(gateway.fail()) == []


@pytest.mark.parametrize("place", SECRETS)
def test_what_comes_before_a_broken_end(gateway: Gateway, wire: Wire, place: str) -> None:
    secret = SECRETS[place].encode()
    for data in (
        secret,
        b"HTTP/1.1 " + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 " + secret[:100] + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + secret,
        b"HTTP/1.1 500 Oops\r\nContent-Length: 5000\r\n\r\n" + secret,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + secret[:20].ljust(20),
    ):

        def reply(connection: socket.socket, _: bytes, data: bytes = data) -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_RDWR)

        wire.reply = reply
        assert leaked(gateway.fail()) == []


@pytest.mark.parametrize("place", SECRETS)
def test_what_comes_before_the_deadline(gateway: Gateway, wire: Wire, place: str) -> None:
    wire.reply = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + SECRETS[place].encode())
    said = gateway.fail()
    assert "did not answer in time" in said
    assert leaked(said) == []


@pytest.mark.parametrize("value", ["{}?key={}", "{}#{}", "{} {}", "\n{}{}", "{}@{}/x"])
def test_an_address_that_its_variable_spoils(value: str) -> None:
    secret = SECRETS["path"]
    recipe = Recipe.from_mapping(
        TAG, {"provider": "openai", "dims": 8, "base_url": "http://127.0.0.1:1/${TOKEN}/v1", "timeout": 0.5}
    )
    for written in (recipe, Recipe.from_mapping(TAG, recipe.to_mapping() | {"base_url": "${TOKEN}"})):
        with pytest.raises((RecipeError, EmbedderError)) as caught:
            open_embedder(
                str(TAG), written, environ={"TOKEN": value.format(secret, secret)}, retry=Retry(attempts=1)
            ).embed_documents(["one"])
        assert leaked("".join(traceback.format_exception(caught.value))) == []


@pytest.mark.parametrize("kind", ["ValueError", "PoisonInputError", "TransientEmbedderError"])
def test_a_function_of_ones_own_whose_provider_repeats_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    module = f"leaking_{kind.lower()}"
    (tmp_path / f"{module}.py").write_text(
        "import os\nfrom vecmig.errors import *\n\n\ndef embed(texts):\n    try:\n"
        "        os.environ['ACME_API_KEY'][10**6]\n"
        "    except IndexError:\n"
        f"        raise {kind}('Not known: ' + os.environ['ACME_API_KEY'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ACME_API_KEY", SECRETS["key"])
    recipe = Recipe.from_mapping(TAG, {"provider": "python", "dims": 8, "callable": f"{module}:embed"})
    embedder = open_embedder(str(TAG), recipe, retry=Retry(attempts=1))
    with pytest.raises(EmbedderError) as caught:
        embedder.embed_documents(["one"])
    said = "".join(traceback.format_exception(caught.value))
    assert "Not known: ***" in said
    assert leaked(said) == []
