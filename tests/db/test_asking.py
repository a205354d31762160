"""The gate's look and an eval's queries go the way of a backfill: within its limits, budget and pause."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.lab import Lab
from support.provider import Provider
from support.waiting import try_again_at_once
from vecmig import runner
from vecmig.embedders import Limiter
from vecmig.events import Event, Waiting
from vecmig.ledger.learned_limits import LASTS

FAKE = "fake@1/dim-8/chunk-none/norm-l2"
PRICE = 1_000.0
SUITE = "known-item"
#: The server's own limit.
INPUTS = 32


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that takes 32 inputs, and says so with HTTP 422, as text-embeddings-inference does."""
    with Provider(dims=8, max_batch=INPUTS) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried at once."""
    try_again_at_once(monkeypatch)


@pytest.fixture
def asking(bare_lab: Lab, make_source: Any, provider: Provider) -> Lab:
    """A project on 600 documents whose recipe knows nothing of that limit."""
    make_source(600)
    return described(bare_lab, provider)


def described(lab: Lab, provider: Provider, **fields: Any) -> Lab:
    usual = {"provider": "openai", "dims": 8, "base_url": provider.url, "concurrency": 4}
    return lab.write(chain=(FAKE,), recipes={FAKE: usual | fields})


def refused(provider: Provider) -> int:
    """Count the requests that the server refused since it was asked last, and forget them."""
    found = [request for request in provider.requests() if request["status"] == 422]
    provider.forget()
    return len(found)


def entered(lab: Lab, what: str) -> float:
    """Return the US dollars that the ledger knows of."""
    return sum(float(usd) for (usd,) in lab.sql("SELECT usd FROM vecmig.spend WHERE what = %s", what))


# Limits --------------------------------------------------------------------------------------------------------------


def test_a_limit_of_the_server_stops_neither_backfill_nor_gate_nor_eval(asking: Lab, provider: Provider) -> None:
    asking.upgrade()
    assert asking.live == FAKE
    assert 1 <= refused(provider) <= 2 * 4, "those that were in flight, and not half of all"
    runner.make_suite(asking.config, SUITE, size=128, title="title")
    (found,) = runner.evaluate(asking.config, [SUITE])
    assert found.runs[0].queries == 128
    assert refused(provider) == 0, "what a run has learned, the next one knows"


def test_what_was_learned_is_forgotten_after_a_while(asking: Lab, provider: Provider) -> None:
    asking.upgrade()
    refused(provider)
    assert asking.sql("SELECT provider, model, texts, tokens FROM vecmig.learned_limit") == [
        (f"openai {provider.root}/…", "fake", INPUTS, None)
    ]
    asking.sql("UPDATE documents SET body = body || ' again'")
    asking.sync()
    assert refused(provider) == 0
    asking.sql("UPDATE vecmig.learned_limit SET learned_at = learned_at - %s", LASTS)
    asking.sql("UPDATE documents SET body = body || ' again'")
    asking.sync()
    assert refused(provider) >= 1
    asking.sql("UPDATE documents SET body = body || ' again'")
    asking.sync()
    assert refused(provider) == 0, "it was learned anew"


def test_a_gate_alone_writes_nothing_of_what_it_learns(asking: Lab, provider: Provider) -> None:
    asking.upgrade(until="index")
    asking.sql("DELETE FROM vecmig.learned_limit")
    refused(provider)
    assert asking.checks()["spot check"]
    assert refused(provider) >= 1
    assert asking.sql("SELECT count(*) FROM vecmig.learned_limit") == [(0,)]


# Money ---------------------------------------------------------------------------------------------------------------


def test_the_gate_s_look_counts_against_the_revision_s_budget(asking: Lab, provider: Provider) -> None:
    lab = described(asking, provider, price_per_million_tokens=PRICE)
    lab.upgrade(until="index")
    lab.checks()
    assert entered(lab, "backfill") == pytest.approx(provider.tokens() * PRICE / 1e6)
    spent = entered(lab, "backfill")
    lab = described(asking, provider, price_per_million_tokens=PRICE, budget_usd=spent + 0.0001)
    provider.forget()
    (report,) = (report for _, report in runner.gate_reports(lab.config).values())
    (canary,) = (check for check in report.checks if check.name == "canary")
    assert canary.passed is not True
    assert "is spent, and the next request may cost" in canary.detail
    assert provider.requests() == []


def test_an_eval_s_queries_count(asking: Lab, provider: Provider) -> None:
    lab = described(asking, provider, price_per_million_tokens=PRICE)
    lab.upgrade()
    before = entered(lab, "backfill")
    runner.make_suite(lab.config, SUITE, size=40, title="title")
    provider.forget()
    runner.evaluate(lab.config, [SUITE])
    assert entered(lab, "sync") == pytest.approx(provider.tokens() * PRICE / 1e6)
    assert entered(lab, "backfill") == before, "the migration is over"


def test_a_rate_limit_holds_for_the_gate(asking: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    asking.upgrade(until="index")
    lab = described(asking, provider, requests_per_minute=5)
    waited = threading.Event()

    class Told(Exception):
        pass

    def wait(limiter: Limiter, seconds: float, reason: str | None, *rest: Any) -> None:
        if reason == "at most 5 requests a minute":
            waited.set()
            raise Told

    monkeypatch.setattr(Limiter, "_wait", wait)
    with pytest.raises(Told):
        lab.checks()
    assert waited.is_set()


# Pause ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["gate", "eval"])
def test_a_pause_holds_whoever_asks(asking: Lab, provider: Provider, verb: str) -> None:
    asking.upgrade(until="index" if verb == "gate" else None)
    if verb == "eval":
        runner.make_suite(asking.config, SUITE, size=20, title="title")
    runner.pause(asking.config, ["documents"], reason="the provider's bill")
    provider.forget()
    held, failures = threading.Event(), list[BaseException]()

    def listen(event: Event) -> None:
        if isinstance(event, Waiting) and "the provider's bill" in event.reason:
            held.set()

    def ask() -> None:
        try:
            if verb == "gate":
                runner.gate_reports(asking.config, listener=listen)
            else:
                runner.evaluate(asking.config, [SUITE], listener=listen)
        except BaseException as error:  # noqa: BLE001  # looked at below
            failures.append(error)
            held.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert held.wait(60)
    assert provider.requests() == []
    runner.resume(asking.config, ["documents"])
    thread.join(60)
    assert not thread.is_alive()
    assert failures == []
    assert provider.requests() != []
