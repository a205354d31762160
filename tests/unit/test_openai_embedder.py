"""The OpenAI embedder against a real server that fails in every way we know."""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from support.provider import Provider, vector
from vecmig.embedders import Embedder, Limiter, Retry, cut_to_limit, open_embedder, over_limit, row_problems
from vecmig.embedders.fault import HARMLESS
from vecmig.embedders.keys import Key
from vecmig.embedders.openai_answer import Answer
from vecmig.embedders.openai_errors import Told, classified, retry_after
from vecmig.embedders.secrets import Secrets
from vecmig.errors import (
    EmbedderError,
    PoisonInputError,
    RecipeError,
    TerminalEmbedderError,
    TransientEmbedderError,
)
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

KEY = "sk-test-0123456789abcdef"
TAG = Tag.parse("m@1/dim-64/chunk-none/norm-l2")
SMALL = Tag.parse("text-embedding-3-small@1/dim-32/chunk-none/norm-l2")
ENVIRON = {"OPENAI_API_KEY": KEY}
SERVER = Told("The server", Secrets(), Key("", sent=False, hint=""))


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    """One server for the module; it checks the key."""
    with Provider(key=KEY, max_batch=200) as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Provider:
    """The server without faults and with an empty journal."""
    server.faults()
    server.forget()
    return server


_OPENED: list[Embedder] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    """Close what a test has opened: a socket that is left to the garbage collector is a warning somewhere else."""
    yield
    while _OPENED:
        _OPENED.pop().close()


def opened(
    provider: Provider, tag: Tag = TAG, *, environ: dict[str, str] = ENVIRON, attempts: int | None = 2, **fields: Any
) -> Embedder:
    retry = fields.pop("retry", None) or Retry(attempts=attempts, sleep=lambda _: None)
    limiter = fields.pop("limiter", None)
    named = {} if "headers" in fields else {"api_key_env": "OPENAI_API_KEY"}
    data = {"provider": "openai", "dims": tag.dims, "base_url": provider.url} | named | fields
    recipe = Recipe.from_mapping(tag, data)
    _OPENED.append(open_embedder(str(tag), recipe, environ=environ, retry=retry, limiter=limiter))
    return _OPENED[-1]


def failure(embedder: Embedder, *texts: str) -> EmbedderError:
    with pytest.raises(EmbedderError) as caught:
        embedder.embed_documents(texts or ("a", "b"))
    assert KEY not in f"{caught.value.message}{caught.value.state}{caught.value.hint}"
    return caught.value


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_arrive_in_order(provider: Provider, encoding: str) -> None:
    vectors = opened(provider, encoding_format=encoding).embed_documents(["a", "b", "c"])
    assert vectors.shape == (3, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [vector(text, 64) for text in "abc"], atol=1e-7)
    assert [request["encoding_format"] for request in provider.requests()] == [encoding]


def test_what_is_sent(provider: Provider) -> None:
    embedder = opened(provider, document_prompt="passage: {text}", query_prompt="query: {text}")
    embedder.embed_documents(["a"])
    embedder.embed_queries(["b"])
    first, second = provider.requests()
    assert (first["inputs"], second["inputs"]) == (["passage: a"], ["query: b"])
    assert first["authorization"] == f"Bearer {KEY}"
    assert (first["model"], first["dimensions"], first["encoding_format"]) == ("m", None, "float")


def test_a_model_that_was_asked_for_fewer_dimensions_is_not_to_be_asked_again(provider: Provider) -> None:
    with provider.failing("wrong_dims"):
        error = failure(opened(provider, request={"user": "x"}))
    assert error.hint == "If 65 is right, make a new tag with dim-65"


def test_dimensions_are_sent_where_the_model_has_them(provider: Provider) -> None:
    assert opened(provider, SMALL).embed_documents(["a"]).shape == (1, 32)
    assert [request["dimensions"] for request in provider.requests()] == [32]


@pytest.mark.parametrize(
    ("mode", "options", "kind", "what", "hint"),
    [
        ("401", {}, TerminalEmbedderError, "refuses the key (HTTP 401): Refused with 401",
         "Check the variable OPENAI_API_KEY"),
        ("403", {}, TerminalEmbedderError, "does not let this key in (HTTP 403): Refused with 403",
         "Check the variable OPENAI_API_KEY"),
        ("404", {}, TerminalEmbedderError, "does not know the model or the address (HTTP 404): Refused with 404",
         "Check base_url and model in the recipe"),
        ("insufficient_quota", {}, TerminalEmbedderError,
         ("has no quota left (HTTP 429): You exceeded your current quota, "
         "please check your plan and billing details"), "Add credit, then run the same command: it goes on from here"),
        ("400", {"param": "dimensions"}, TerminalEmbedderError, "refuses the request (HTTP 400): Refused with 400",
         "Check base_url and model in the recipe"),
        ("400", {"code": "model_not_found"}, TerminalEmbedderError, "refuses the request (HTTP 400): Refused with 400",
         "Check base_url and model in the recipe"),
        ("400", {}, TerminalEmbedderError, "refuses every input (HTTP 400): Refused with 400",
         "Check model, dims and base_url in the recipe"),
        ("no_data", {}, TransientEmbedderError,
         "gave an answer without embeddings: the model is not an embedding model. It failed 2 times in a row",
         "Check base_url and model in the recipe"),
        ("short", {}, TransientEmbedderError,
         "gave 1 embeddings for 2 texts, or did not number them from 0. It failed 2 times in a row",
         "Lower max_batch in the recipe if the server takes fewer inputs"),
        ("garbage", {}, TerminalEmbedderError, "gave an embedding that is neither numbers nor base64",
         "Try encoding_format: float in the recipe"),
        ("408", {}, TransientEmbedderError, "is busy (HTTP 408): Refused with 408. It failed 2 times in a row", ""),
        ("409", {}, TransientEmbedderError, "is busy (HTTP 409): Refused with 409. It failed 2 times in a row", ""),
        ("429", {}, TransientEmbedderError, "is busy (HTTP 429): Refused with 429. It failed 2 times in a row", ""),
        ("500", {}, TransientEmbedderError, "failed (HTTP 500): Refused with 500. It failed 2 times in a row", ""),
        ("502", {}, TransientEmbedderError, "failed (HTTP 502): Refused with 502. It failed 2 times in a row", ""),
        ("503", {}, TransientEmbedderError, "failed (HTTP 503): Refused with 503. It failed 2 times in a row", ""),
        ("html", {}, TransientEmbedderError, "answered with a web page instead of JSON. It failed 2 times in a row",
         "Check base_url: many servers want /v1 at its end"),
        ("truncated", {}, TransientEmbedderError, "answered with JSON that breaks off. It failed 2 times in a row", ""),
        ("disconnect", {}, TransientEmbedderError, "cannot be reached: RemoteProtocolError. It failed 2 times in a row",
         "Check base_url and the network"),
        ("hang", {"seconds": 3}, TransientEmbedderError, "did not answer in time. It failed 2 times in a row",
         "Raise timeout: in the recipe"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_every_failure(
    *, provider: Provider, mode: str, options: dict[str, Any], kind: type, what: str, hint: str, encoding: str
) -> None:
    embedder = opened(provider, encoding_format=encoding, timeout=0.3)
    with provider.failing(mode, **options):
        error = failure(embedder)
    assert type(error) is kind
    assert (error.message, error.hint) == (f"The provider at {provider.url} {what}.", hint)
    tries = 2 if kind is TransientEmbedderError or (mode == "400" and not options) else 1
    assert len(provider.requests()) == tries
    assert embedder.embed_documents(["a", "b"]).shape == (2, 64)


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("mode", ["reordered", "unnumbered"])
def test_the_order_of_an_answer(provider: Provider, mode: str, encoding: str) -> None:
    with provider.failing(mode):
        vectors = opened(provider, encoding_format=encoding).embed_documents(["a", "b", "c"])
    np.testing.assert_allclose(vectors, [vector(text, 64) for text in "abc"], atol=1e-7)


@pytest.mark.parametrize("numbers", ["[1e400]", f"[{10**400}]", '["1.0"]', '[{"a": 1}]', "[[1.0]]", "1.0", '"////"'])
def test_embeddings_of_anything_but_numbers(numbers: str) -> None:
    body = f'{{"data": [{{"index": 0, "embedding": {numbers}}}]}}'
    answer = Answer(Recipe("openai", "m", 1), SERVER, body.encode(), {})
    if numbers in ("[1e400]", '["1.0"]'):
        assert answer.vectors(1)[0].shape == (1, 1), "the row is judged later"
        return
    with pytest.raises(TerminalEmbedderError):
        answer.vectors(1)


def test_numbers_that_stand_twice(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for numbers in ([0, 0], [1, 2], ["0", "1"], [None, None], [True, False], [-1, 0]):
        body = ", ".join(f'{{"index": {number!r}, "embedding": [1.0]}}' for number in numbers)
        text = f'{{"data": [{body}]}}'.replace("'", '"').replace("None", "null")
        text = text.replace("True", "true").replace("False", "false")
        with pytest.raises(TransientEmbedderError) as caught:
            Answer(Recipe("openai", "m", 1), SERVER, text.encode(), {}).vectors(2)
        assert caught.value.message == ("The server gave 2 embeddings for 2 texts, or did not number them from 0.")


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize(
    ("mode", "problem"), [("nan", "the vector holds NaN or infinity"), ("zero", "the vector has zero norm")]
)
def test_one_bad_row_spoils_no_other(provider: Provider, mode: str, problem: str, encoding: str) -> None:
    with provider.failing(mode):
        vectors = opened(provider, encoding_format=encoding).embed_documents(["a", "POISON", "c"])
    assert row_problems(vectors) == {1: problem}
    np.testing.assert_allclose(vectors[[0, 2]], [vector(text, 64) for text in "ac"], atol=1e-7)


def test_null_among_the_numbers_is_a_bad_row(provider: Provider) -> None:
    body = b'{"data": [{"index": 0, "embedding": [null, 1]}, {"index": 1, "embedding": [1, 0]}]}'
    vectors, refused = Answer(Recipe("openai", "m", 2), SERVER, body, {}).vectors(2)
    assert refused == {}
    assert row_problems(vectors) == {0: "the vector holds NaN or infinity"}


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_wrong_dims(provider: Provider, encoding: str) -> None:
    with provider.failing("wrong_dims"):
        error = failure(opened(provider, encoding_format=encoding))
    assert type(error) is TerminalEmbedderError
    assert error.message == "The provider openai gave vectors of 65 dimensions for m; the tag says 64."
    assert error.hint == (
        "If 65 is right, make a new tag with dim-65; if the model can make 64 too, add to the recipe: request: "
        "{dimensions: 64}"
    )


def test_base64_that_is_cut_to_a_quarter(provider: Provider) -> None:
    with provider.failing("quarter"):
        error = failure(opened(provider, encoding_format="base64"))
    assert type(error) is TerminalEmbedderError
    assert error.message == "The provider openai gave vectors of 16 dimensions for m; the tag says 64."
    assert error.hint == "Write encoding_format: float in the recipe: this server's base64 is broken"


def test_vectors_of_another_length_are_normalised_or_refused(provider: Provider) -> None:
    with provider.failing("scaled"):
        vectors = opened(provider).embed_documents(["a"])
        error = failure(opened(provider, normalise="verify"), "a")
    np.testing.assert_allclose(vectors, [vector("a", 64)], atol=1e-6)
    assert error.message == (
        "The provider openai gave a vector of length 3 for m; the recipe says that it normalises (normalise: verify)."
    )


@pytest.mark.parametrize("mode", ["poison", "400", "413", "422"])
def test_a_poisoned_input_leaves_the_others(provider: Provider, mode: str) -> None:
    embedder = opened(provider)
    with provider.failing(mode, marked=True):
        error = failure(embedder, "a", "POISON")
    assert type(error) is PoisonInputError
    assert error.message.startswith(f"The provider at {provider.url} refuses an input (HTTP ")
    assert embedder.embed_documents(["a"]).shape == (1, 64)


def test_retry_after_is_honoured(provider: Provider) -> None:
    waits: list[float] = []
    told: list[str] = []
    retry = Retry(sleep=waits.append, notify=lambda error, _: told.append(error.message))
    with provider.failing("429", retry_after="42", times=2):
        opened(provider, retry=retry).embed_documents(["a"])
    assert waits == [42, 42]
    assert told == [f"The provider at {provider.url} is busy (HTTP 429): Refused with 429."] * 2
    assert [request["status"] for request in provider.requests()] == [429, 429, 200]


def test_a_long_retry_after_ends_the_run(provider: Provider) -> None:
    with provider.failing("429", retry_after="600"):
        error = failure(opened(provider, attempts=6))
    assert error.message.endswith("Refused with 429. It failed once and asks to wait 600 s.")
    assert isinstance(error, TransientEmbedderError)
    assert error.retry_after == 600


def test_every_third_request_is_refused_and_all_is_embedded(provider: Provider) -> None:
    embedder = opened(provider, attempts=6)
    with provider.failing("429", every=3):
        for number in range(20):
            embedder.embed_documents([f"text {number}"])
    assert sorted(provider.paid()) == sorted(f"text {number}" for number in range(20))


def test_many_threads_share_an_embedder(provider: Provider) -> None:
    embedder = opened(provider)
    with provider.failing("hang", seconds=0.05), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: embedder.embed_documents([str(number)]), range(24)))
    np.testing.assert_allclose(np.concatenate(answers), [vector(str(number), 64) for number in range(24)], atol=1e-7)
    assert provider.most_in_flight() > 4


def test_a_server_that_is_not_there(provider: Provider) -> None:
    with Provider() as gone:
        embedder = opened(gone)
    error = failure(embedder)
    assert type(error) is TransientEmbedderError
    assert error.message == f"The provider at {gone.url} cannot be reached: ConnectError. It failed 2 times in a row."


# whose fault it is


@pytest.mark.parametrize("mode", ["short", "misnumbered"])
def test_an_answer_that_makes_no_sense_three_times_is_what_the_server_does(provider: Provider, mode: str) -> None:
    embedder = opened(provider, attempts=None)
    with provider.failing(mode):
        error = failure(embedder)
    assert type(error) is TerminalEmbedderError
    assert error.message.endswith(" embeddings for 2 texts, or did not number them from 0.")
    assert [request["inputs"] for request in provider.requests()] == [["a", "b"]] * 3 + [[HARMLESS]]
    with provider.failing(mode, times=2):
        np.testing.assert_allclose(embedder.embed_documents(["a"]), [vector("a", 64)], atol=1e-7)


def test_only_senseless_answers_in_a_row_are_counted(provider: Provider) -> None:
    """After an hour of outage one web page, or one answer cut short, does not end the run."""
    embedder = opened(provider, attempts=None)
    provider.faults(
        {"mode": "503", "times": 8},
        {"mode": "html", "times": 1},
        {"mode": "429", "times": 2},
        {"mode": "short", "times": 2},
    )
    assert embedder.embed_documents(["a", "b"]).shape == (2, 64)
    assert [request["fault"] for request in provider.requests()] == [
        *["503"] * 8, "html", *["429"] * 2, *["short"] * 2, None
    ]  # fmt: skip


def test_an_input_that_the_server_answers_with_a_500_is_found(provider: Provider) -> None:
    """Ollama does so for a text whose vector would be NaN. Another text tells that the server is well."""
    embedder = opened(provider, attempts=None)
    with provider.failing("500", marked=True):
        error = failure(embedder, "POISON")
        assert embedder.embed_documents(["a"]).shape == (1, 64)
    assert type(error) is PoisonInputError
    assert error.message == f"The provider at {provider.url} failed (HTTP 500): Refused with 500."
    sent = ["".join(request["inputs"]) for request in provider.requests()]
    assert sent == ["POISON"] * 4 + ["POISON", HARMLESS] * 5 + ["POISON", "a"]


@pytest.mark.parametrize("times", range(1, 25))
def test_an_outage_that_ends_at_any_moment_is_no_input_s_fault(provider: Provider, times: int) -> None:
    embedder = opened(provider, attempts=None)
    with provider.failing("500", times=times):
        assert embedder.embed_documents(["a"]).shape == (1, 64)


def test_a_server_that_fails_every_other_time_is_no_input_s_fault(provider: Provider) -> None:
    embedder = opened(provider, attempts=None)
    with provider.failing("503", share=0.6):
        for number in range(150):
            embedder.embed_documents([str(number)])
    assert sorted(text for text in provider.paid() if text != HARMLESS) == sorted(str(number) for number in range(150))


def test_an_outage_of_any_length_is_waited_for(provider: Provider) -> None:
    embedder = opened(provider, attempts=None)
    with provider.failing("502", times=60):
        assert embedder.embed_documents(["a"]).shape == (1, 64)


# what it costs


class Purse:
    """Counts like a budget."""

    def __init__(self) -> None:
        self.reserved = 0

    def reserve(self, tokens: int) -> None:
        """Enter a request."""
        self.reserved += tokens

    def settle(self, reserved: int, taken: int) -> None:
        """Correct it."""
        self.reserved += taken - reserved


TEXTS = ["some words", "and some more"]


def test_what_is_entered_is_what_the_provider_counts(provider: Provider) -> None:
    purse = Purse()
    embedder = opened(provider, attempts=None, limiter=Limiter(4, spend=purse))
    for mode in ("429", "500", "503"):
        with provider.failing(mode, times=3):
            embedder.embed_documents(TEXTS)
    assert purse.reserved == provider.tokens() > 0


@pytest.mark.parametrize("mode", ["400", "401", "404", "429", "503", "poison"])
def test_a_refused_request_costs_nothing(provider: Provider, mode: str) -> None:
    purse = Purse()
    embedder = opened(provider, limiter=Limiter(4, spend=purse))
    with provider.failing(mode, marker="words"):
        failure(embedder, *TEXTS)
    assert purse.reserved == provider.tokens()


@pytest.mark.parametrize("mode", ["hang", "disconnect", "truncated", "short", "wrong_dims", "garbage"])
def test_a_request_that_may_have_been_charged_for_counts(provider: Provider, mode: str) -> None:
    purse = Purse()
    embedder = opened(provider, limiter=Limiter(4, spend=purse), timeout=0.2)
    with provider.failing(mode, seconds=1):
        failure(embedder, *TEXTS)
    assert purse.reserved >= provider.tokens()


def test_an_outage_that_drops_connections_costs_nothing(provider: Provider) -> None:
    purse = Purse()
    embedder = opened(provider, limiter=Limiter(4, spend=purse), attempts=2)
    with provider.failing("drop"):
        failure(embedder, *TEXTS)
    assert purse.reserved == 0


def test_an_hour_without_a_network_costs_nothing() -> None:
    purse = Purse()
    with Provider() as gone:
        embedder = opened(gone, attempts=50, limiter=Limiter(4, spend=purse))
    failure(embedder)
    assert purse.reserved == 0


@pytest.mark.parametrize(
    "usage", ["{}", '{"total_tokens": 0}', '{"total_tokens": -3}', '{"total_tokens": 1e99}', "[1]"]
)
def test_a_server_that_does_not_count_tokens_is_not_free(usage: str) -> None:
    body = f'{{"data": [{{"index": 0, "embedding": [1.0]}}], "usage": {usage}}}'
    assert Answer(Recipe("openai", "m", 1), SERVER, body.encode(), {}).tokens is None


def test_the_headers_of_an_answer_hold_the_next_request_back(provider: Provider) -> None:
    limiter = Limiter(4)
    embedder = opened(provider, limiter=limiter)
    left = {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1h",
    }
    with provider.failing("none", headers=left):
        embedder.embed_documents(["a"])
    wait, reason = limiter._why_wait(1)
    assert wait > 0
    assert reason == "the provider's rate limit is used up"


# keys and addresses


def test_a_wrong_key_is_not_repeated_in_the_message(provider: Provider) -> None:
    embedder = opened(provider, environ={"OPENAI_API_KEY": "my-odd-secret"})
    with pytest.raises(TerminalEmbedderError) as caught:
        embedder.embed_documents(["a"])
    assert caught.value.message == (
        f"The provider at {provider.url} refuses the key (HTTP 401): Incorrect API key provided: ***."
    )


def test_what_looks_like_a_key_is_taken_out(provider: Provider) -> None:
    with provider.failing("401", message="Incorrect API key provided: sk-proj-ab**********yz. See the docs"):
        assert failure(opened(provider)).message.endswith("Incorrect API key provided: *** See the docs.")


def test_keys_are_not_logged(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        opened(provider).embed_documents(["a"])
    assert KEY not in caplog.text


def test_a_key_from_another_variable(provider: Provider) -> None:
    opened(provider, api_key_env="ACME_KEY", environ={"ACME_KEY": KEY}).embed_documents(["a"])
    assert provider.requests()[0]["authorization"] == f"Bearer {KEY}"


def test_a_server_without_keys_is_sent_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK would read it from the real environment by itself.
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Provider() as keyless:
        opened(keyless, environ={}).embed_documents(["a"])
        assert keyless.requests()[0]["authorization"] is None


def test_a_server_that_wants_a_key_after_all(provider: Provider) -> None:
    error = failure(opened(provider, api_key_env="ACME_KEY"))
    assert error.message == f"The provider at {provider.url} wants a key (HTTP 401): Incorrect API key provided: ."
    assert error.hint == "Check the variable ACME_KEY, which is not set"


def test_openai_itself_wants_a_key_at_once() -> None:
    recipe = Recipe.from_mapping(SMALL, {"provider": "openai", "dims": 32})
    with pytest.raises(TerminalEmbedderError) as caught:
        open_embedder(str(SMALL), recipe, environ={})
    assert caught.value.message == (
        "The provider at https://api.openai.com/v1 wants a key, and the variable OPENAI_API_KEY is not set."
    )
    assert caught.value.hint == "Set it: export OPENAI_API_KEY=…"


def test_a_key_that_cannot_be_one(provider: Provider) -> None:
    with pytest.raises(TerminalEmbedderError) as caught:
        opened(provider, environ={"OPENAI_API_KEY": "sk-schlüssel"})
    assert caught.value.message == "The variable OPENAI_API_KEY holds characters that cannot be in a key."
    opened(provider, environ={"OPENAI_API_KEY": f"{KEY}\n"}).embed_documents(["a"])


def test_the_limits_of_openai() -> None:
    recipe = Recipe.from_mapping(SMALL, {"provider": "openai", "dims": 32})
    embedder: Any = open_embedder(str(SMALL), recipe, environ=ENVIRON)
    assert (embedder.max_batch, embedder.max_batch_tokens, embedder.max_input_tokens) == (2048, 300_000, 8192)
    assert embedder._asked["document"]["encoding_format"] == "base64"
    embedder.close()


def test_other_servers_have_other_limits(provider: Provider) -> None:
    embedder = opened(provider)
    assert (embedder.max_batch, embedder.max_batch_tokens, embedder.max_input_tokens) == (128, None, None)
    assert opened(provider, max_batch=9, max_batch_tokens=99).max_batch_tokens == 99


def test_the_address_is_expanded_where_it_is_used(provider: Provider) -> None:
    environ = {**ENVIRON, "EMBEDDER": provider.root}
    opened(provider, base_url="${EMBEDDER}/v1/", environ=environ).embed_documents(["a"])
    assert len(provider.requests()) == 1


@pytest.mark.parametrize(
    ("written", "environ", "message", "hint"),
    [
        (
            "${EMBEDDER}/v1",
            {},
            "base_url ${EMBEDDER}/v1 needs the environment variable EMBEDDER, which is not set.",
            "Set it: export EMBEDDER=…",
        ),
        (
            "${EMBEDDER}",
            {"EMBEDDER": "https://me:secret@host/v1"},
            "base_url ${EMBEDDER} is not an http or https address without a user, password and query.",
            "Write it like http://localhost:8080/v1",
        ),
        (
            "${EMBEDDER}",
            {"EMBEDDER": "https://host/v1?key=s3cr3t"},
            "base_url ${EMBEDDER} is not an http or https address without a user, password and query.",
            "Write it like http://localhost:8080/v1",
        ),
        (
            "${EMBEDDER}",
            {"EMBEDDER": "host:8080"},
            "base_url ${EMBEDDER} is not an http or https address without a user, password and query.",
            "Write it like http://localhost:8080/v1",
        ),
    ],
)
def test_addresses_that_cannot_be(
    provider: Provider, written: str, environ: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        opened(provider, base_url=written, environ=environ)
    assert (caught.value.message, caught.value.hint) == (message, hint)


# input limits


def test_the_input_limit_is_exact(provider: Provider) -> None:
    embedder = opened(provider, SMALL)
    # " word" is one token, "日" one as well, though the estimate differs.
    for text in ("word" + " word" * 8191, "日" * 8192):
        assert over_limit(embedder, text) is None
        assert over_limit(embedder, text + " more") is not None
    assert cut_to_limit(embedder, "word" + " word" * 9000) == "word" + " word" * 8191


def test_a_very_long_text_is_judged_quickly(provider: Provider) -> None:
    embedder = opened(provider, SMALL)
    took = []
    for times in (10_000, 200_000):
        started = time.thread_time()
        assert over_limit(embedder, "some words of prose. " * times) is not None
        took.append(time.thread_time() - started)
    assert took[1] < 5 * took[0], "its beginning tells"


@pytest.mark.parametrize("text", ["", "x", "hello world", "é" * 10, "日本語" * 100])
def test_estimates_are_no_lower_than_a_quarter(provider: Provider, text: str) -> None:
    assert opened(provider).count_tokens(text) >= len(text) / 4


# what the SDK's exceptions mean


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_reading_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_reading_retry_after_as_a_date() -> None:
    seconds = retry_after({"retry-after": email.utils.formatdate(time.time() + 60, usegmt=True)})
    assert seconds is not None
    assert 55 < seconds <= 60


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"message": "Busy"}, ": Busy"),
        ({"detail": {"message": "Busy"}}, ": Busy"),
        ("Busy  now", ": Busy now"),
        ("<html>502</html>", ""),
        (None, ""),
        ([1], ""),
        ({"detail": [{"msg": "Busy", "loc": ["body"]}]}, ": Busy"),
        ({"message": "Busy", "code": 400, "type": ["x"], "param": {}}, ": Busy"),
        ({"error": [[]]}, ""),
        ({"message": "x" * 1000}, ": " + "x" * 300),
        ({"message": "half a \ud83d and\0 NUL"}, ": half a ? and NUL"),
    ],
)
def test_the_reason_is_found_in_the_body(body: object, reason: str) -> None:
    response = httpx2.Response(503, request=httpx2.Request("POST", "http://h/v1/embeddings"))
    error = openai.InternalServerError("Error", response=response, body=body)
    assert classified(error, SERVER).message == f"The server failed (HTTP 503){reason}."
