"""A backfill through a provider's Batch API: ordered once, collected once, whatever becomes of a batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest

from support.lab import SMALL, Lab, recipe
from support.provider import Provider, vector
from vecmig import runner
from vecmig.backfill import batch_engine, ordering
from vecmig.embedders import openai_batches
from vecmig.errors import BudgetSpent, Pending, TerminalEmbedderError, TransientEmbedderError
from vecmig.events import Event, Noted, Warned
from vecmig.homes import held_rows

CHUNKED = "toy@1/dim-64/chunk-10/norm-l2"


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A server with a Batch API."""
    with Provider(dims=64, batches=True) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once, and ask for nothing that can be ordered."""
    monkeypatch.setattr(batch_engine, "_FIRST_LOOK", 0.01)
    monkeypatch.setattr(ordering, "_FIRST_QUEUE", 0.01)
    monkeypatch.setattr(batch_engine, "_FEW", 0)


def _in_parts_of(monkeypatch: pytest.MonkeyPatch, texts: int) -> None:
    monkeypatch.setattr(openai_batches, "MOST_TEXTS", texts)


@pytest.fixture
def batched(lab: Lab, provider: Provider) -> Lab:
    """A project of 20 records whose tag is filled through the Batch API."""
    return _batched(lab, provider, SMALL)


def _batched(lab: Lab, provider: Provider, tag: str, **changes: Any) -> Lab:
    made = recipe(tag) | {"provider": "openai", "base_url": provider.url, "batch": True} | changes
    del made["callable"]
    return lab.write(chain=(tag,), recipes={tag: made}, text="body")


def _ordered(provider: Provider) -> list[str]:
    return [text for batch in provider.orders()["paid"] for text in batch]


def _asked(provider: Provider) -> list[str]:
    """Return the records' texts that were asked for, in place of ordered."""
    return [text for text in provider.paid() if text.startswith(("body", "answer"))]


def _said(lab: Lab, kind: type[Event]) -> str:
    return " ".join(
        event.message for event in lab.events if isinstance(event, kind) and isinstance(event, Noted | Warned)
    )


def _as_embedded(lab: Lab) -> bool:
    """Whether each record has the vector of its text."""
    rows = lab.sql("SELECT body, embedding::text FROM documents_live")
    return all(
        np.allclose(np.array(found.strip("[]").split(","), float), vector(text, 64), atol=1e-5) for text, found in rows
    )


def test_what_is_pending_is_ordered_and_comes(batched: Lab, provider: Provider) -> None:
    batched.upgrade("r1", until="backfill")
    assert (batched.cover(SMALL).fresh, _asked(provider)) == (20, [])
    assert sorted(_ordered(provider)) == sorted(f"body {n}" for n in range(1, 21))
    assert batched.sql("SELECT count(*) FROM vecmig.batch_order") == [(0,)]
    assert provider.orders()["files"] == [], "texts and vectors stay nowhere"
    batched.upgrade("r1")
    assert _as_embedded(batched)


def test_a_text_is_ordered_once(batched: Lab, provider: Provider) -> None:
    batched.sql("UPDATE documents SET body = 'answer ' || mod(id, 5)")
    batched.upgrade("r1")
    assert (len(_ordered(provider)), batched.cover(SMALL).fresh) == (5, 20)
    assert _as_embedded(batched)


def test_more_than_a_file_takes_is_several_orders(
    batched: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_parts_of(monkeypatch, 8)
    batched.sql("INSERT INTO documents SELECT i, 'again', 'body ' || i - 100 FROM generate_series(101, 110) i")
    batched.upgrade("r1")
    assert [len(batch) for batch in provider.orders()["paid"]] == [8, 8, 4]
    assert (len(set(_ordered(provider))), batched.cover(SMALL).fresh) == (20, 30)
    assert _as_embedded(batched)


def test_without_waiting_the_next_run_collects(batched: Lab, provider: Provider) -> None:
    with pytest.raises(Pending):
        runner.upgrade(batched.config, "r1", wait=False)
    with pytest.raises(Pending, match="20 texts on order in 1 batch") as pending:
        runner.upgrade(batched.config, "r1", wait=False)
    assert "run the same command again" in pending.value.hint
    assert batched.status().failure is None
    assert runner.upgrade(batched.config, "r1", wait=False)[0].phase == "live"
    assert (len(_ordered(provider)), len(provider.orders()["batches"])) == (20, 1)


def test_what_comes_while_texts_are_on_order_is_ordered_beside_them(batched: Lab, provider: Provider) -> None:
    """Neither what is on order already, nor a new record with the same text."""
    provider.courses({"looks": 3})
    batched.upgrade("r1", until="expand")
    for text in ("body 3", "something new"):
        with pytest.raises(Pending):
            runner.backfill(batched.config, wait=False)
        batched.sql("INSERT INTO documents SELECT max(id) + 1, 'new', %s FROM documents", text)
    batched.upgrade("r1")
    assert sorted(_ordered(provider)) == sorted([*(f"body {n}" for n in range(1, 21)), "something new"])
    assert (batched.cover(SMALL).fresh, _as_embedded(batched)) == (22, True)


def test_a_record_that_is_edited_meanwhile_gets_its_new_text(batched: Lab, provider: Provider) -> None:
    provider.courses({"looks": 1})
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.sql("UPDATE documents SET body = 'edited' WHERE id = 3")
    batched.sql("DELETE FROM documents WHERE id = 4")
    batched.upgrade("r1")
    assert (batched.cover(SMALL).fresh, _as_embedded(batched)) == (19, True)
    assert _ordered(provider)[20:] == ["edited"]


def test_what_an_application_holds_while_a_batch_comes_is_not_bought_again(
    batched: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_rows, "LOCK_PATIENCE", 0.5)
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    with psycopg.connect(batched.url) as application:
        application.execute("SELECT FROM documents WHERE id = 3 FOR UPDATE")
        release = threading.Timer(1.5, application.rollback)
        release.start()
        batched.upgrade("r1", until="backfill")
        release.join()
    assert (batched.cover(SMALL).fresh, len(_ordered(provider)), _asked(provider)) == (20, 20, [])


def test_few_that_are_left_are_asked_for(batched: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_engine, "_FEW", 1_000)
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.sql("UPDATE documents SET body = 'body edited' WHERE id = 3")
    batched.upgrade("r1", until="backfill")
    assert batched.cover(SMALL).fresh == 20
    assert (len(_ordered(provider)), _asked(provider)) == (20, ["body edited"])


def test_few_edits_after_the_backfill_wait_for_no_batch(
    batched: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it an upgrade that goes on after its gate has refused, or the look inside the cutover."""
    monkeypatch.setattr(batch_engine, "_FEW", 1_000)
    batched.upgrade("r1", until="backfill")
    batched.sql("UPDATE documents SET body = 'body edited' WHERE id = 3")
    batched.upgrade("r1")
    assert (batched.live, len(provider.orders()["batches"]), "body edited" in _asked(provider)) == (SMALL, 1, True)


def test_a_sync_leaves_what_is_to_be_ordered_to_the_backfill(batched: Lab, provider: Provider) -> None:
    provider.courses({"end": "stuck"})
    batched.upgrade("r1", until="expand")
    batched.sync()
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.sync()
    assert (_asked(provider), batched.cover(SMALL).fresh) == ([], 0)
    assert "left to its backfill" in _said(batched, Noted)


# What becomes of batches ----------------------------------------------------------------------------------------------


def test_a_text_that_is_refused_is_rejected_and_the_others_are_written(batched: Lab, provider: Provider) -> None:
    batched.sql("UPDATE documents SET body = 'POISON' WHERE id = 5")
    batched.upgrade("r1", until="backfill")
    covered = batched.cover(SMALL)
    assert (covered.fresh, covered.rejected) == (19, 1)
    assert "Refused with 400" in batched.sql("SELECT reason FROM vecmig.rejected")[0][0]
    assert len(provider.orders()["batches"]) == 1


def test_lines_that_the_provider_failed_at_are_ordered_again(batched: Lab, provider: Provider) -> None:
    batched.sql("UPDATE documents SET body = 'POISON' WHERE id = 5")
    provider.courses({"status": 500}, {"marker": "none"})
    batched.upgrade("r1")
    assert (batched.cover(SMALL).fresh, batched.cover(SMALL).rejected) == (20, 0)
    assert [len(batch) for batch in provider.orders()["paid"]] == [19, 1]


def test_what_a_batch_did_not_come_to_before_it_expired_is_ordered_again(batched: Lab, provider: Provider) -> None:
    provider.courses({"end": "expired", "share": 0.4})
    batched.upgrade("r1")
    assert [len(batch) for batch in provider.orders()["paid"]] == [8, 12]
    assert (len(set(_ordered(provider))), batched.cover(SMALL).fresh, _as_embedded(batched)) == (20, 20, True)
    assert "expired: 8 of 20 texts answered" in _said(batched, Warned)


def test_batches_that_come_to_nothing_are_not_ordered_for_ever(batched: Lab, provider: Provider) -> None:
    provider.courses(*[{"end": "expired", "share": 0}] * 3)
    with pytest.raises(TransientEmbedderError, match="2 batches in a row came to nothing"):
        batched.upgrade("r1")
    assert len(provider.orders()["batches"]) == 2
    assert batched.sql("SELECT count(*) FROM vecmig.batch_order") == [(0,)]


def test_of_a_cancelled_batch_is_written_what_came_and_the_rest_waits_for_a_person(
    batched: Lab, provider: Provider
) -> None:
    provider.courses({"end": "cancelled", "share": 0.5})
    with pytest.raises(TerminalEmbedderError, match="cancelled at the provider") as cancelled:
        batched.upgrade("r1")
    assert "10 of its 20 texts" in cancelled.value.state
    assert batched.cover(SMALL).fresh == 10
    batched.upgrade("r1")
    assert (len(_ordered(provider)), len(set(_ordered(provider)))) == (20, 20)


def test_an_order_that_was_heard_and_not_answered_is_not_placed_again(lab: Lab, provider: Provider) -> None:
    lab = _batched(lab, provider, SMALL, timeout=0.7)
    provider.courses({"delay": 2.0})
    lab.upgrade("r1")
    assert (len(provider.orders()["batches"]), lab.cover(SMALL).fresh) == (1, 20)


def test_a_batch_that_is_not_taken_says_why_and_is_forgotten(batched: Lab, provider: Provider) -> None:
    provider.courses({"end": "failed", "message": "The model is not known."})
    with pytest.raises(TerminalEmbedderError, match="did not take batch batch-1: The model is not known"):
        batched.upgrade("r1")
    assert batched.sql("SELECT count(*) FROM vecmig.batch_order") == [(0,)]
    batched.upgrade("r1")
    assert batched.cover(SMALL).fresh == 20


def test_where_every_text_is_refused_none_is_rejected(batched: Lab, provider: Provider) -> None:
    """It is the recipe's doing, or the provider's."""
    provider.courses({"marker": "body"})
    with pytest.raises(TerminalEmbedderError, match=r"None of the 20 texts of batch batch-1 got a vector.*with 400"):
        batched.upgrade("r1")
    assert batched.cover(SMALL).rejected == 0


def test_what_cannot_be_in_a_file_is_not_in_the_way(batched: Lab, provider: Provider) -> None:
    """Quotes, line breaks, and what JSON or Python take for a line's end."""
    batched.sql("UPDATE documents SET body = 'body \"' || chr(10) || chr(13) || chr(8232) || chr(133) || chr(1) || id")
    batched.upgrade("r1")
    assert (batched.cover(SMALL).fresh, _as_embedded(batched)) == (20, True)


@pytest.mark.parametrize("room", [20, 35])
def test_a_queue_without_room_is_waited_for_or_filled_in_smaller_parts(
    batched: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A text has two tokens: one order of twenty never fits into the one, two of fewer not at once into the other."""
    _in_parts_of(monkeypatch, 20 if room == 20 else 15)
    provider.courses(room=room)
    batched.upgrade("r1")
    assert (len(_ordered(provider)), len(set(_ordered(provider)))) == (20, 20)
    assert (batched.cover(SMALL).fresh, _as_embedded(batched)) == (20, True)
    assert any(batch["status"] == "failed" for batch in provider.orders()["batches"])


def test_answers_that_are_gone_are_not_bought_again_before_a_person_says_so(batched: Lab, provider: Provider) -> None:
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    (batch,) = provider.orders()["batches"]
    for _ in range(2):
        provider.get(f"/v1/batches/{batch['id']}")
    for file in provider.orders()["files"]:
        provider.delete(f"/v1/files/{file}")
    with pytest.raises(TerminalEmbedderError, match="does not have the answers to batch batch-1 any more"):
        batched.upgrade("r1")
    with pytest.raises(TerminalEmbedderError, match="does not have the answers to batch batch-1 any more") as gone:
        batched.upgrade("r1")
    assert "vecmig batches --forget documents" in gone.value.hint
    assert len(provider.orders()["batches"]) == 1
    runner.forget_batches(batched.config, ["documents"])
    batched.upgrade("r1")
    assert batched.cover(SMALL).fresh == 20


@pytest.mark.parametrize("status", [200, 404, 500])
def test_answers_that_cannot_be_read_stay_on_order(batched: Lab, provider: Provider, status: int) -> None:
    """A web page of a gateway, or its refusal: what was paid for is still there."""
    provider.courses(garbled={r"GET /files/.*/content": (status, 1 if status == 404 else 3)})
    with pytest.raises(TerminalEmbedderError) if status != 500 else nullcontext():
        batched.upgrade("r1")
    batched.upgrade("r1")
    assert (batched.cover(SMALL).fresh, _as_embedded(batched)) == (20, True)
    assert len(provider.orders()["batches"]) == 1


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_order_that_was_heard_is_not_forgotten_whatever_answers(
    batched: Lab, provider: Provider, status: int
) -> None:
    provider.courses(garbled={"POST /batches": (status, 1)})
    batched.upgrade("r1")
    assert (len(provider.orders()["batches"]), batched.cover(SMALL).fresh) == (1, 20)


@pytest.mark.parametrize("path", ["GET /batches/.*", "POST /files"])
def test_a_web_page_in_place_of_an_answer_is_asked_for_again(batched: Lab, provider: Provider, path: str) -> None:
    provider.courses(garbled={path: (200, 2)})
    batched.upgrade("r1")
    assert (len(provider.orders()["batches"]), batched.cover(SMALL).fresh) == (1, 20)


def test_answers_that_are_no_vectors_are_charged_all_the_same(lab: Lab, provider: Provider) -> None:
    lab = _batched(lab, provider, SMALL, price_per_million_tokens=1_000_000)
    provider.courses({"dims": 32})
    with pytest.raises(TerminalEmbedderError, match="32 dimensions"):
        lab.upgrade("r1")
    charged = sum(len(text) // 4 + 1 for text in _ordered(provider))
    assert lab.sql("SELECT usd FROM vecmig.spend") == [(charged / 2 + provider.tokens(),)]


def test_without_waiting_a_full_queue_is_tried_by_each_run(batched: Lab, provider: Provider) -> None:
    provider.courses({"end": "stuck"}, room=45)
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    provider.get("/v1/batches/batch-1")
    batched.sql("UPDATE vecmig.batch_order SET collection = 'elsewhere'")
    for _ in range(3):
        with pytest.raises(Pending):
            runner.backfill(batched.config, wait=False)
    with pytest.raises(Pending) as pending:
        runner.backfill(batched.config, wait=False)
    assert "waiting for room in the provider's queue" in pending.value.message
    provider.courses(room=None)
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.upgrade("r1", until="backfill")
    assert batched.cover(SMALL).fresh == 20


def test_a_file_that_no_queue_has_room_for_is_ordered_in_parts(lab: Lab, provider: Provider) -> None:
    """However many texts are read at once."""
    lab = _batched(lab, provider, SMALL, max_batch=100)
    provider.courses(room=20)
    lab.upgrade("r1", until="expand")
    for _ in range(12):
        with suppress(Pending):
            runner.backfill(lab.config, wait=False)
    assert (lab.cover(SMALL).fresh, len(_ordered(provider))) == (20, 20)


# Chunks, limits, money ------------------------------------------------------------------------------------------------


def test_chunks_are_ordered_once_and_a_records_own_are_kept(lab: Lab, provider: Provider) -> None:
    chunked = _batched(lab, provider, CHUNKED)
    chunked.sql("UPDATE documents SET body = 'beginning ' || lpad(mod(id, 4)::text, 10, '0') || 'the ending'")
    chunked.upgrade("r1")
    assert sorted(_ordered(provider)) == sorted(
        ["beginning", *(str(n).rjust(10, "0") for n in range(4)), "the ending"]
    ), provider.orders()["paid"]
    assert chunked.cover(CHUNKED).fresh == 20


def test_a_text_above_the_limit_is_rejected_or_cut(
    lab: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "word " * 9_000
    cut = _batched(lab, provider, "text-embedding-3-small@1/dim-64/chunk-none/norm-l2", too_long="cut")
    cut.sql("UPDATE documents SET body = %s || mod(id, 2) WHERE id < 5", long)
    cut.upgrade("r1")
    assert (cut.cover(cut.chain[0]).fresh, len(_ordered(provider))) == (20, 17)
    assert max(map(len, _ordered(provider))) < len(long)


def test_an_order_costs_half(lab: Lab, provider: Provider) -> None:
    lab = _batched(lab, provider, SMALL, price_per_million_tokens=1_000_000)
    (estimate,) = runner.estimate(lab.config, "r1", rate=1)
    lab.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(lab.config, wait=False)
    assert lab.sql("SELECT usd FROM vecmig.batch_order") == [(estimate.cost_usd,)]
    (left,) = runner.estimate(lab.config, "r1", rate=1)
    assert (left.ordered, left.tokens, left.cost_usd) == (20, 0, 0), "it is paid for"
    lab.upgrade("r1", until="backfill")
    charged = sum(len(text) // 4 + 1 for text in _ordered(provider))
    assert lab.sql("SELECT usd FROM vecmig.spend") == [(charged / 2 + provider.tokens(),)]


def test_what_is_on_order_is_collected_where_nothing_is_ordered_any_more(batched: Lab, provider: Provider) -> None:
    provider.courses({"looks": 2})
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.sql("INSERT INTO documents VALUES (21, 'new', 'body 21')")
    _batched(batched, provider, SMALL, batch=False).upgrade("r1", until="backfill")
    assert (batched.cover(SMALL).fresh, len(_ordered(provider)), _asked(provider)) == (21, 20, ["body 21"])


def test_no_order_passes_the_budget(lab: Lab, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on order is collected all the same."""
    _in_parts_of(monkeypatch, 8)
    lab = _batched(lab, provider, SMALL, price_per_million_tokens=1_000_000, budget_usd=60)
    with pytest.raises(BudgetSpent) as spent:
        lab.upgrade("r1")
    assert "on order in" in spent.value.state
    ordered = sum(batch["request_counts"]["total"] for batch in provider.orders()["batches"])
    assert 0 < ordered < 20
    with pytest.raises(BudgetSpent):
        lab.upgrade("r1")
    with pytest.raises(BudgetSpent):
        lab.upgrade("r1")
    assert 0 < lab.cover(SMALL).fresh < 20


def test_a_server_without_a_batch_api_says_so(lab: Lab) -> None:
    with Provider(dims=64) as plain:
        lab = _batched(lab, plain, SMALL)
        with pytest.raises(TerminalEmbedderError, match="has no Batch API") as failed:
            lab.upgrade("r1")
        assert "batch: true" in failed.value.hint
        _batched(lab, plain, SMALL, batch=False).upgrade("r1")
    assert lab.sql("SELECT count(*) FROM vecmig.batch_order") == [(0,)]


def test_what_is_on_order_elsewhere_is_not_forgotten(batched: Lab, provider: Provider) -> None:
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    with Provider(dims=64, batches=True) as other:
        moved = _batched(batched, other, SMALL)
        with pytest.raises(TerminalEmbedderError, match="on order at"):
            moved.upgrade("r1")
        assert other.orders()["batches"] == []
    _batched(batched, provider, SMALL).upgrade("r1")
    assert len(_ordered(provider)) == 20


def test_a_batch_that_the_provider_knows_no_more_is_not_ordered_again(batched: Lab, provider: Provider) -> None:
    batched.upgrade("r1", until="expand")
    with pytest.raises(Pending):
        runner.backfill(batched.config, wait=False)
    batched.sql("UPDATE vecmig.batch_order SET batch = 'batch-of-another-project'")
    with pytest.raises(TerminalEmbedderError, match="knows no batch batch-of-another-project"):
        batched.upgrade("r1")
    assert len(provider.orders()["batches"]) == 1


def test_the_recipes_fingerprint_does_not_change(batched: Lab) -> None:
    from vecmig.runner.project import Project

    made = Project(batched.config).collections.recipe(SMALL)
    assert replace(made, service=replace(made.service, batch=False)).fingerprint == made.fingerprint
