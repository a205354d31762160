"""What embedding may cost: no request is sent that could pass it, whatever fails, and every run counts on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from support.lab import Lab
from support.provider import Provider
from support.waiting import try_again_at_once
from vecmig import runner
from vecmig.errors import BudgetSpent, TerminalEmbedderError, UsageError
from vecmig.operations.embedders import embedder_to_fill
from vecmig.runner.project import Project
from vecmig.text import money

FAKE = "fake@1/dim-8/chunk-none/norm-l2"
#: US dollars for a million tokens: a tenth of a cent each.
PRICE = 1_000.0
COUNT = 200


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that counts the tokens it charges for."""
    with Provider(dims=8) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried at once."""
    try_again_at_once(monkeypatch)


@pytest.fixture
def paying(bare_lab: Lab, make_source: Any, provider: Provider) -> Lab:
    """A project on 200 documents, whose provider wants money."""
    make_source(COUNT)
    return priced(bare_lab, provider)


def priced(lab: Lab, provider: Provider, **fields: Any) -> Lab:
    usual = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": 5, "concurrency": 4}
    recipe = usual | {"price_per_million_tokens": PRICE} | fields
    return lab.write(
        chain=(FAKE,), recipes={FAKE: {name: value for name, value in recipe.items() if value is not None}}
    )


def charged(provider: Provider) -> float:
    """Give the US dollars that the provider will write on its bill."""
    return provider.tokens() * PRICE / 1e6


def entered(lab: Lab) -> float:
    """Give the US dollars that the ledger knows of."""
    return sum(float(usd) for (usd,) in lab.sql("SELECT usd FROM vecmig.spend"))


def records(provider: Provider) -> Counter[str]:
    return Counter(text for text in provider.paid() if text.startswith("title"))


def until_spent(lab: Lab, **options: Any) -> BudgetSpent:
    """Run until the money is gone."""
    with pytest.raises(BudgetSpent) as caught:
        runner.upgrade(lab.config, **options)
    assert caught.value.exit_code == 7
    return caught.value


def test_what_a_run_costs_is_in_the_ledger(paying: Lab, provider: Provider) -> None:
    paying.upgrade(until="backfill")
    assert entered(paying) == pytest.approx(charged(provider))
    assert [(row.revision, row.what) for row in spent(paying)] == [("r1", "backfill")]
    paying.upgrade()
    assert entered(paying) == pytest.approx(charged(provider)), "the gate asks too"
    paying.sync()
    assert [(row.revision, row.what) for row in spent(paying)] == [("r1", "backfill")], "there is nothing to pay for"
    paying.sql("UPDATE documents SET body = 'another' WHERE id = 1")
    paying.sync()
    assert {(row.revision, row.what) for row in spent(paying)} == {("r1", "backfill"), ("r1", "sync")}
    assert entered(paying) == pytest.approx(charged(provider))


def spent(lab: Lab) -> list[Any]:
    from vecmig.ledger.spend import spent as found

    with lab.database.session() as connection:
        return found(connection, "vecmig")


@pytest.mark.parametrize("concurrency", [1, 4, 16])
@pytest.mark.parametrize("budget", [0.05, 0.2, 0.51])
def test_a_budget_is_never_passed_and_a_larger_one_goes_on(
    paying: Lab, provider: Provider, concurrency: int, budget: float
) -> None:
    lab = priced(paying, provider, concurrency=concurrency, budget_usd=budget)
    error = until_spent(lab)
    allowed = re.escape(money(budget))
    said = rf"\$(0\.\d+) of the budget of {allowed} for revision r1 is spent, and the next request may cost \$(.+)\."
    found = re.fullmatch(said, error.message)
    assert found is not None, error.message
    assert 0 < float(found[1]) <= budget < float(found[1]) + float(found[2]) + 1e-4
    assert error.hint == (
        "To go on, raise budget_usd in the recipe or give --max-cost, and run the same command again."
    )
    assert charged(provider) <= budget
    written = lab.cover(FAKE).fresh
    assert sum(records(provider).values()) == written < COUNT, "what was paid for was written"
    # again and again: the canary is asked each time, and that counts too
    for _ in range(3):
        until_spent(lab)
        assert charged(provider) <= budget
    priced(lab, provider, concurrency=concurrency, budget_usd=100).upgrade(until="backfill")
    assert records(provider).most_common(1)[0][1] == 1, "nothing was paid for twice"
    assert sum(records(provider).values()) == COUNT
    assert entered(lab) == pytest.approx(charged(provider))


def test_most_of_a_budget_is_used(paying: Lab, provider: Provider) -> None:
    """What is held back is no more than the estimates of the requests in flight."""
    lab = priced(paying, provider, concurrency=1, budget_usd=0.5)
    until_spent(lab)
    assert 0.4 < charged(provider) <= 0.5


def test_a_word_on_the_command_line_counts_in_place_of_the_recipe_s(paying: Lab, provider: Provider) -> None:
    lab = priced(paying, provider, budget_usd=100)
    error = until_spent(lab, max_cost=0.1)
    assert " of the budget of $0.10 " in error.message
    assert charged(provider) <= 0.1
    lab = priced(lab, provider, budget_usd=0.1)
    until_spent(lab)
    assert runner.upgrade(lab.config, max_cost=50)[0].phase == "live"


def test_a_budget_below_the_first_request_is_not_called_spent(paying: Lab, provider: Provider) -> None:
    error = until_spent(priced(paying, provider, price_per_million_tokens=0.1, budget_usd=0.000_000_05))
    assert re.fullmatch(
        r"\$0\.00 of the budget of \$0\.000000050 for revision r1 is spent, "
        r"and the next request may cost \$0\.0+[1-9]\d?\.",
        error.message,
    ), error.message
    assert provider.requests() == []


def test_a_budget_without_a_price_is_refused(paying: Lab, provider: Provider) -> None:
    lab = priced(paying, provider, price_per_million_tokens=None)
    with pytest.raises(UsageError, match="--max-cost needs a price"):
        runner.upgrade(lab.config, max_cost=1)
    assert provider.requests() == []


@pytest.mark.parametrize("mode", ["429", "500", "503"])
def test_a_request_that_is_refused_and_sent_again_is_charged_for_once(
    paying: Lab, provider: Provider, mode: str
) -> None:
    lab = priced(paying, provider, budget_usd=50)
    with provider.failing(mode, share=0.5):
        lab.upgrade(until="backfill")
    refused = [request for request in provider.requests() if request["status"] != 200]
    assert len(refused) > 10
    assert entered(lab) == pytest.approx(charged(provider))


@pytest.mark.parametrize("mode", ["truncated", "disconnect"])
def test_an_answer_that_nobody_can_read_was_paid_for_all_the_same(paying: Lab, provider: Provider, mode: str) -> None:
    lab = priced(paying, provider, budget_usd=0.6, concurrency=8)
    with provider.failing(mode, every=3):
        until_spent(lab)
    assert charged(provider) <= entered(lab) + 1e-9 <= 0.6 + 2e-9


def test_tokens_are_counted_as_the_provider_does(bare_lab: Lab, make_source: Any) -> None:
    """A tokenizer that makes a token of each character, three times as many as the estimate: that is found out."""
    make_source(COUNT)
    with Provider(dims=8, token=1) as provider:
        lab = priced(bare_lab, provider, budget_usd=2.5)
        until_spent(lab)
        assert 2 < charged(provider) <= 2.5
        assert lab.cover(FAKE).fresh == sum(records(provider).values())


def test_one_bad_record_and_its_halvings_are_counted_too(paying: Lab, provider: Provider) -> None:
    paying.sql("UPDATE documents SET body = 'POISON' WHERE id = 77")
    lab = priced(paying, provider, max_batch=64, budget_usd=50).write(coverage=0.9)
    with provider.failing("poison"):
        lab.upgrade(until="backfill")
    assert entered(lab) == pytest.approx(charged(provider))
    assert lab.sql("SELECT key FROM vecmig.rejected") == [([77],)]


def test_the_ledger_keeps_what_a_run_that_failed_has_cost(paying: Lab, provider: Provider) -> None:
    lab = priced(paying, provider, budget_usd=50)
    with provider.failing("insufficient_quota", skip=12), pytest.raises(TerminalEmbedderError):
        lab.upgrade()
    assert entered(lab) == pytest.approx(charged(provider))
    assert 0 < lab.cover(FAKE).fresh < COUNT


def test_processes_share_one_budget(paying: Lab, provider: Provider) -> None:
    """Two counts of one revision: what one of them has entered, the other cannot spend."""
    paying.upgrade(until="expand")
    context = Project(replace(paying.config, max_cost=1.0)).context
    with (
        embedder_to_fill(context, "documents", FAKE, what="backfill", revision="r1") as one,
        embedder_to_fill(context, "documents", FAKE, what="backfill", revision="r1") as two,
    ):
        texts = ["ten tokens or so, and a few more of them"] * 5
        for _ in range(8):
            one.embed_documents(texts)
            two.embed_documents(texts)
        for embedder in (one, two):
            with pytest.raises(BudgetSpent):
                embedder.embed_documents([text * 3 for text in texts])
    assert charged(provider) <= 1.0


def test_a_sync_counts_for_itself(paying: Lab, provider: Provider) -> None:
    """A sync has no end, so a budget of the backfill does not stop it; its own word does, for this run."""
    lab = priced(paying, provider, budget_usd=100)
    lab.upgrade()
    lab.sql("UPDATE documents SET body = body || ' changed'")
    provider.forget()
    with pytest.raises(BudgetSpent):
        runner.sync(lab.config, max_cost=0.2)
    assert charged(provider) <= 0.2
    before = charged(provider)
    with pytest.raises(BudgetSpent):
        runner.sync(lab.config, max_cost=0.2)
    assert before < charged(provider) <= before + 0.2, "each run has its own"
    runner.sync(lab.config)
    assert lab.cover(FAKE).share == 1.0
