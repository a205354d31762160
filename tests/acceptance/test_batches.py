"""Texts ordered through a Batch API, by runs that are killed, that do not wait, and that a person looks at."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider, vector
from support.waiting import wait_for

TAG, COUNT, DIMS = tag("fake", 8), 60, 8


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A server with a Batch API."""
    with Provider(dims=DIMS, batches=True) as server:
        yield server


@pytest.fixture
def ordered(project: Project, provider: Provider) -> Project:
    """A project whose first tag is filled through the Batch API."""
    make_documents(project, COUNT)
    recipe = {"provider": "openai", "dims": DIMS, "base_url": provider.url, "batch": True}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe | {"price_per_million_tokens": 10.0}})
    script(project, "aaaa", TAG)
    return project


def _paid(provider: Provider) -> Counter[str]:
    return Counter(text for batch in provider.orders()["paid"] for text in batch)


def _wrong(project: Project) -> list[str]:
    """Return the texts whose vector is not theirs."""
    rows = project.sql("SELECT title || ' ' || body, embedding::text FROM documents_live")
    assert len(rows) == COUNT
    return [
        text
        for text, found in rows
        if not np.allclose(np.array(found.strip("[]").split(","), float), vector(text, DIMS), atol=1e-5)
    ]


def _killed(project: Project, when: Callable[[], object]) -> None:
    """Begin an upgrade, and kill it when something holds."""
    with project.start("upgrade", "--until", "backfill") as process:
        try:
            wait_for(lambda: process.poll() is not None or bool(when()))
        finally:
            process.send_signal(signal.SIGKILL)
        process.wait(60)


@pytest.mark.parametrize("at", ["the order is on its way", "it waits", "answers are there"])
def test_what_a_killed_run_has_ordered_is_collected_once(
    ordered: Project, provider: Provider, vecmig: Vecmig, at: str
) -> None:
    provider.courses({"delay": 1.5 if at == "the order is on its way" else 0, "looks": 0 if "answers" in at else 2})
    if at == "it waits":
        _killed(
            ordered,
            lambda: (
                ordered.sql("SELECT FROM pg_class WHERE relname = 'batch_order'")
                and ordered.sql("SELECT FROM vecmig.batch_order WHERE batch IS NOT NULL")
            ),
        )
    elif at == "the order is on its way":
        _killed(ordered, lambda: provider.orders()["batches"])
        assert ordered.sql("SELECT batch FROM vecmig.batch_order") == [(None,)]
    else:
        _killed(ordered, lambda: provider.orders()["paid"])
    vecmig("upgrade")
    assert len(provider.orders()["batches"]) == 1
    assert (sum(_paid(provider).values()), max(_paid(provider).values())) == (COUNT, 1)
    assert _wrong(ordered) == []
    assert ordered.sql("SELECT count(*) FROM vecmig.batch_order") == [(0,)]


def test_killed_at_random_nothing_is_ordered_twice(ordered: Project, provider: Provider, vecmig: Vecmig) -> None:
    draw = random.Random(20)
    provider.courses(*[{"looks": 6}] * 3)
    for _ in range(4):
        until = time.monotonic() + 0.3 + draw.random()
        _killed(ordered, lambda until=until: time.monotonic() > until)  # type: ignore[misc]
    vecmig("upgrade")
    assert (sum(_paid(provider).values()), max(_paid(provider).values())) == (COUNT, 1)
    assert _wrong(ordered) == []


def test_a_nightly_job_orders_and_collects_the_next_night(ordered: Project, provider: Provider, vecmig: Vecmig) -> None:
    provider.courses({"looks": 1})
    planned = vecmig("plan").stdout
    assert "through the Batch API, at half the price" in " ".join(planned.split())
    for _ in range(2):
        said = vecmig("upgrade", "--no-wait", code=4).stderr
        assert "60 texts on order in 1 batch" in said
        assert "run the same command again" in said
    listed = vecmig("batches").stdout
    assert "batch-1" in listed
    assert "60 texts on order" in listed
    assert [order["texts"] for order in vecmig("batches", "--json").json] == [COUNT]
    status = vecmig("status").stdout
    assert "on order: 60 texts since" in status
    assert "last run" not in status, "it did not fail"
    vecmig("upgrade", "--no-wait")
    assert vecmig("batches").stdout == "Nothing is on order.\n"
    assert _wrong(ordered) == []


def test_what_is_on_order_can_be_given_up(ordered: Project, provider: Provider, vecmig: Vecmig) -> None:
    provider.courses({"end": "stuck"})
    vecmig("upgrade", "--no-wait", code=4)
    said = vecmig("batches", "--forget").stdout
    assert "60 texts are pending again" in said
    assert "forget_batches" in vecmig("events", "--json").stdout
    vecmig("upgrade")
    assert len(provider.orders()["batches"]) == 2
    assert _wrong(ordered) == []


def test_ctrl_c_leaves_what_is_on_order(ordered: Project, provider: Provider, vecmig: Vecmig) -> None:
    provider.courses({"looks": 3})
    with ordered.start("upgrade") as process:
        wait_for(lambda: bool(provider.orders()["batches"]))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "60 texts on order in 1 batch" in said
    vecmig("upgrade")
    assert len(provider.orders()["batches"]) == 1
