"""Whose fault a refusal is: a text's, the request's size, or the provider's. Against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support.provider import Provider, vector
from vecmig.embedders import Embedded, Embedder, Limiter, Limits, Retry, open_embedder, row_problems
from vecmig.embedders.fault import HARMLESS
from vecmig.embedders.limits import Learned, named_limits
from vecmig.errors import EmbedderError, TerminalEmbedderError, TransientEmbedderError
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-64/chunk-none/norm-l2")
#: Ways to answer for some texts of a request.
NO_VECTOR = ("empty", "null", "missing")
TOO_LARGE = "input is too large to process. increase the physical batch size"


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    """One server for the module."""
    with Provider(max_batch=200) as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Provider:
    """The server without faults and with an empty journal."""
    server.faults()
    server.forget()
    return server


@pytest.fixture
def opened(provider: Provider) -> Iterator[Any]:
    """Open an embedder of that server; it waits for no time."""
    embedders: list[Embedder] = []

    def new(**fields: Any) -> Embedder:
        data = {"provider": "openai", "dims": TAG.dims, "base_url": provider.url, "max_batch": 128} | fields
        retry = Retry(attempts=40, sleep=lambda _: None)
        embedders.append(open_embedder(str(TAG), Recipe.from_mapping(TAG, data), environ={}, retry=retry))
        return embedders[-1]

    yield new
    for embedder in embedders:
        embedder.close()


def texts(count: int, bad: int = 0) -> list[str]:
    """Return texts, of which some are marked, evenly spread."""
    marked = {at * count // bad for at in range(bad)} if bad else set()
    return [f"text {at}{' POISON' if at in marked else ''}" for at in range(count)]


def right(found: Embedded, sent: list[str], why: str | None = None) -> None:
    """Check that each good text has its vector, and each marked one, and no other, is refused for ``why``."""
    assert found.failure is None
    bad = {at for at, text in enumerate(sent) if "POISON" in text}
    assert found.refused.keys() == bad
    if why is not None:
        assert {reason.partition(" at ")[2].partition(" ")[2] for reason in found.refused.values()} == {why}
    good = [at for at in range(len(sent)) if at not in bad]
    np.testing.assert_allclose(found.vectors[good], [vector(sent[at], 64) for at in good], atol=1e-6)
    assert np.isnan(found.vectors[sorted(bad)]).all()


def refused(provider: Provider) -> int:
    """Count the requests that the server did not answer with vectors."""
    return sum(request["status"] != 200 for request in provider.requests())


# A text is to blame


@pytest.mark.parametrize(
    ("mode", "fault", "why"),
    [
        ("poison", {}, "refuses an input (HTTP 400): The input contains an invalid token."),
        ("422", {}, "refuses an input (HTTP 422): Refused with 422."),
        ("500", {"message": TOO_LARGE}, f"refuses an input (HTTP 500): {TOO_LARGE}."),
        ("429", {"message": "Request too large for m on tokens per min"},
         "refuses an input (HTTP 429): Request too large for m on tokens per min."),
        ("400", {"message": "<400> InternalError.Algo.InvalidParameter: bad text"},
         "refuses an input (HTTP 400): <400> InternalError.Algo.InvalidParameter: bad text."),
        ("error_in_200", {"code": "400", "message": "Bad text"}, "refuses an input (HTTP 400): Bad text."),
        ("empty", {}, "gave no embedding for it."),
        ("null", {}, "gave no embedding for it."),
        ("missing", {}, "gave no embedding for it."),
    ],
)  # fmt: skip
def test_one_bad_text_of_many_is_named_and_costs_few_requests(
    provider: Provider, opened: Any, mode: str, fault: dict[str, Any], why: str
) -> None:
    sent = texts(128, bad=1)
    with provider.failing(mode, marked=True, **fault):
        right(opened().embed_each(sent), sent, why)
    assert len(provider.requests()) <= 18, "each half of a request that was refused is sent once, the text itself twice"
    taken = [request["inputs"] for request in provider.requests() if request["fault"] is None or mode in NO_VECTOR]
    paid = [text for inputs in taken for text in inputs if text != HARMLESS]
    assert len(paid) == len(set(paid)), "nothing is paid for twice"


def test_20_bad_texts_of_1000_cost_a_few_requests_each(provider: Provider, opened: Any) -> None:
    sent = texts(1000, bad=20)
    with provider.failing("500", marked=True, message=TOO_LARGE):
        right(opened().embed_each(sent), sent)
    assert len(provider.requests()) <= 20 * 16, "2,260 when each part was proven by itself"


def test_a_failure_without_a_reason_is_a_text_s_fault_where_others_pass(provider: Provider, opened: Any) -> None:
    sent = texts(128, bad=2)
    with provider.failing("500", marked=True):
        right(opened().embed_each(sent), sent, "failed (HTTP 500): Refused with 500.")
    assert len(provider.requests()) <= 60


@pytest.mark.parametrize("mode", ["401", "403", "404"])
def test_a_firewall_that_refuses_a_text_is_about_that_text(provider: Provider, opened: Any, mode: str) -> None:
    embedder = opened()
    embedder.embed_documents(["good"])
    sent = texts(100, bad=1)
    with provider.failing(mode, marked=True):
        right(embedder.embed_each(sent), sent, f"refuses an input (HTTP {mode}): Refused with {mode}.")
    assert len(provider.requests()) <= 25


def test_the_other_chunks_of_a_refused_record_are_not_bought(provider: Provider, opened: Any) -> None:
    sent = [f"text {at}" for at in range(64)]
    sent[0] += " POISON"
    with provider.failing("poison"):
        found = opened(max_batch=16).embed_each(sent, owners=[at // 32 for at in range(64)])
    assert found.refused.keys() == {0}
    assert found.left <= set(range(32))
    assert not np.isnan(found.vectors[32:]).any()
    bought = [text for text in provider.paid() if text in sent[:32]]
    assert len(bought) < 16, "its second request is not sent"


@pytest.mark.parametrize("mode", ["drop", "truncated", "short", "html", "wrong_dims", "garbage", "nan", "zero"])
@pytest.mark.parametrize("size", [1, 32])
def test_a_text_that_breaks_the_answer_stops_no_other(provider: Provider, opened: Any, mode: str, size: int) -> None:
    embedder = opened(max_batch=size)
    embedder.embed_documents(["good"])
    sent = texts(32, bad=1)
    with provider.failing(mode, marked=True):
        found = embedder.embed_each(sent)
    assert found.failure is None
    if mode in ("nan", "zero"):
        assert row_problems(found.vectors).keys() == {0}
    else:
        right(found, sent)
    assert len(provider.requests()) <= 90


@pytest.mark.parametrize("mode", ["nan", "zero", "null", "empty", "missing"])
def test_texts_that_have_no_vector_are_bought_once(provider: Provider, opened: Any, mode: str) -> None:
    sent = [f"POISON {at}" for at in range(40)]
    with provider.failing(mode):
        found = opened(max_batch=20).embed_each(sent)
    assert found.failure is None
    assert len(row_problems(found.vectors) | dict(found.refused)) == 40
    assert sorted(text for text in provider.paid() if text != HARMLESS) == sorted(sent)


@pytest.mark.parametrize("mode", ["400", "401", "403", "404", "413", "422"])
def test_one_refusal_of_a_text_that_is_sent_alone_is_not_enough(provider: Provider, opened: Any, mode: str) -> None:
    embedder = opened()
    embedder.embed_documents(["good"])
    with provider.failing(mode, times=1):
        right(embedder.embed_each(["one"]), ["one"])
    assert [request["inputs"] for request in provider.requests()][1::2] == [["one"], ["one"]]


# The provider is to blame


@pytest.mark.parametrize("mode", ["400", "401", "403", "404", "422"])
def test_a_server_that_begins_to_refuse_everything_is_found_out_soon(
    provider: Provider, opened: Any, mode: str
) -> None:
    embedder = opened()
    embedder.embed_documents(["good"])
    provider.forget()
    with provider.failing(mode), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: embedder.embed_each([f"{at} {text}" for text in texts(128)]), range(8)))
    assert {type(one.failure) for one in found} == {TerminalEmbedderError}
    assert all(not one.refused and len(one.left) == 128 for one in found), "no text is blamed"
    assert len(provider.requests()) < 20


@pytest.mark.parametrize("mode", ["400", "500", "error_in_200"])
def test_a_server_that_takes_short_texts_only_all_at_once(provider: Provider, opened: Any, mode: str) -> None:
    """It was started again with less room: what it took before tells so, and not one short sentence."""
    embedder = opened(max_batch=4)
    sent = [f"text {at} {'x' * 80}" for at in range(200)]
    embedder.embed_documents(sent[:20])
    provider.forget()
    with provider.failing(mode, above_characters=60, **({"code": "400"} if mode == "error_in_200" else {})):
        found = embedder.embed_each(sent[20:])
    assert found.failure is not None
    assert not found.refused
    assert len(found.left) == 180
    assert len(provider.requests()) <= (60 if mode != "500" else 400)


@pytest.mark.parametrize("mode", ["nan", "zero", "null", "empty"])
def test_a_server_whose_vectors_are_none_from_some_moment_on(provider: Provider, opened: Any, mode: str) -> None:
    embedder = opened(max_batch=16)
    embedder.embed_documents(texts(32))
    provider.forget()
    with provider.failing(mode, marker=" "):
        found = embedder.embed_each(texts(200))
    assert isinstance(found.failure, TerminalEmbedderError)
    assert found.failure.message.startswith("No text can be embedded, not even a plain sentence: ")
    assert not found.refused
    assert len(provider.requests()) <= 5


def test_an_account_without_credit_blames_no_text(provider: Provider, opened: Any) -> None:
    """What is left of it is enough for a short text."""
    embedder = opened()
    embedder.embed_documents(["good"])
    provider.forget()
    with provider.failing("402", above_characters=50):
        found = embedder.embed_each(texts(64))
    assert isinstance(found.failure, TerminalEmbedderError)
    assert found.failure.hint.startswith("Add credit")
    assert len(provider.requests()) == 1


@pytest.mark.parametrize("mode", ["400", "404"])
def test_one_of_several_servers_that_refuses_everything_blames_next_to_no_text(
    provider: Provider, opened: Any, mode: str
) -> None:
    embedder = opened(max_batch=16)
    embedder.embed_documents(texts(16))
    with provider.failing(mode, share=0.4):
        found = embedder.embed_each(texts(200))
    assert found.failure is None
    assert len(found.refused) <= 2, "each is tried six times"


def test_a_firewall_that_refuses_for_a_moment_ends_nothing(provider: Provider, opened: Any) -> None:
    embedder = opened(max_batch=10)
    sent = texts(100)
    embedder.embed_documents(["good"])
    with provider.failing("403", skip=3, times=2):
        right(embedder.embed_each(sent), sent)


def test_a_server_that_refuses_everything_from_the_beginning(provider: Provider, opened: Any) -> None:
    with provider.failing("500", message=TOO_LARGE), pytest.raises(TerminalEmbedderError) as caught:
        opened().embed_documents(texts(64))
    assert "refuses every input (HTTP 500): input is too large" in caught.value.message
    assert len(provider.requests()) == 2


def test_an_outage_while_a_text_is_looked_for_blames_no_other(provider: Provider, opened: Any) -> None:
    sent = texts(64, bad=1)
    provider.faults({"mode": "poison"}, {"mode": "503", "skip": 3, "times": 30})
    right(opened().embed_each(sent), sent)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("429", TransientEmbedderError),
        ("rate_limit_exceeded", TransientEmbedderError),
        ("503", TransientEmbedderError),
        ("RESOURCE_EXHAUSTED", TransientEmbedderError),
        ("401", TerminalEmbedderError),
        ("insufficient_quota", TerminalEmbedderError),
        ("no_such_thing", TerminalEmbedderError),
        ("50301", TransientEmbedderError),
        ("402", TerminalEmbedderError),
    ],
)
def test_an_error_in_an_answer_that_claims_success_is_what_it_says(
    provider: Provider, opened: Any, code: str, kind: type[EmbedderError]
) -> None:
    with provider.failing("error_in_200", code=code, message="Slow down"):
        found = opened().embed_each(["a", "b"])
    assert type(found.failure) is kind
    assert "Slow down" in found.failure.message
    tries = 40 if kind is TransientEmbedderError else 3 if code == "no_such_thing" else 1
    assert tries <= len(provider.requests()) <= tries + 20
    provider.faults({"mode": "error_in_200", "code": code, "times": 2})
    if kind is TransientEmbedderError:
        assert opened().embed_documents(["a", "b"]).shape == (2, 64)


def test_what_was_paid_for_before_a_failure_is_given(provider: Provider, opened: Any) -> None:
    sent = texts(100)
    provider.faults({"mode": "insufficient_quota", "skip": 3})
    found = opened(max_batch=20).embed_each(sent)
    assert isinstance(found.failure, TerminalEmbedderError)
    assert found.left == set(range(60, 100))
    np.testing.assert_allclose(found.vectors[:60], [vector(text, 64) for text in sent[:60]], atol=1e-6)


# The request is too large


def test_a_limit_that_the_server_names_is_heeded_from_then_on(opened: Any) -> None:
    with Provider(max_batch=32) as small:
        embedder = opened(base_url=small.url)
        sent = texts(1000)
        right(embedder.embed_each(sent), sent)
        assert embedder.learned.limits == Limits(texts=32)
        assert embedder.max_batch == 32
        assert refused(small) == 1
        small.forget()
        again = opened(base_url=small.url)
        again.learned.tighten(embedder.learned.limits)
        right(again.embed_each(sent, "query"), sent)
        assert refused(small) == 0


def test_a_limit_that_the_server_only_shows_is_learned(provider: Provider, opened: Any) -> None:
    embedder = opened()
    sent = texts(1000)
    with provider.failing("413", above=40, message="Payload Too Large"):
        right(embedder.embed_each(sent), sent)
    assert embedder.max_batch == 32
    assert refused(provider) == 2


def test_a_limit_on_the_size_is_not_taken_for_one_on_the_number(provider: Provider, opened: Any) -> None:
    embedder = opened()
    short, long = texts(128), [f"{at} " * 200 for at in range(128)]
    with provider.failing("413", above_characters=20_000, message="Payload Too Large"):
        right(embedder.embed_each(short), short)
        right(embedder.embed_each(long), long)
        before = refused(provider)
        right(embedder.embed_each(long), long)
        right(embedder.embed_each(short), short)
    assert embedder.max_batch == 128
    assert embedder.learned.limits.tokens is not None
    assert refused(provider) == before


def test_a_refusal_for_no_reason_makes_no_other_request_smaller(provider: Provider, opened: Any) -> None:
    embedder = opened()
    sent = texts(128)
    embedder.embed_documents(sent)
    with provider.failing("400", times=1):
        right(embedder.embed_each(sent), sent)
    assert embedder.learned.limits == Limits()


@pytest.mark.parametrize(
    ("reason", "limits"),
    [
        ("batch size 64 > maximum allowed batch size 32", Limits(texts=32)),
        ("Value error, batch size is invalid, it should not be larger than 10.: input.contents", Limits(texts=10)),
        ("at most 10 inputs", Limits(texts=10)),
        ("Invalid 'input': array too long. Expected an array with maximum length 2048, but got one with length 2049.",
         Limits(texts=2048)),
        ("Too many inputs. The max number of inputs is 16. We hope to increase the number soon.", Limits(texts=16)),
        ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", Limits(texts=100)),
        ("invalid request: total number of texts must be at most 96 - received 97", Limits(texts=96)),
        ("The batch size limit is 1,000. Your batch size is 1001.", Limits(texts=1000)),
        ("Invalid 'input': maximum request size is 300000 tokens per request.", Limits(tokens=300_000)),
        ("The max allowed tokens per submitted batch is 120000. Your batch has 130000 tokens after truncation.",
         Limits(tokens=120_000)),
        ("This model's maximum context length is 8192 tokens, however you requested 9000 tokens (9000 in your prompt)",
         Limits()),
        ("Input 3 is longer than 512 tokens", Limits()),
        ("The input contains an invalid token.", Limits()),
        ("Payload Too Large", Limits()),
        ("maximum 60 requests per minute", Limits()),
        ("", Limits()),
    ],
)  # fmt: skip
def test_limits_are_read_as_servers_write_them(reason: str, limits: Limits) -> None:
    assert named_limits(reason) == limits


def test_a_named_limit_below_what_has_passed_is_believed_when_it_is_named_again_and_again() -> None:
    learned = Learned()
    learned.passed(100, 5_000)
    assert not learned.named(Limits(texts=10, tokens=10), 128, 6_000)
    assert not learned.named(Limits(texts=10), 128, 6_000)
    assert learned.limits == Limits()
    assert learned.named(Limits(texts=10), 128, 6_000)
    assert learned.limits == Limits(texts=10)


def test_probes_wait_for_no_slot(provider: Provider) -> None:
    """All that may be in flight wait for the proof that the provider is well."""
    recipe = Recipe.from_mapping(TAG, {"provider": "openai", "dims": 64, "base_url": provider.url, "max_batch": 16})
    limiter = Limiter(2)
    embedder = open_embedder(str(TAG), recipe, environ={}, limiter=limiter)

    def batch(at: int) -> Embedded:
        with limiter.batch():
            return embedder.embed_each([f"{at}-{text}" for text in texts(64, bad=4)])

    with provider.failing("poison"), ThreadPoolExecutor(6) as pool:
        assert [len(found.refused) for found in pool.map(batch, range(6))] == [4] * 6
    embedder.close()
