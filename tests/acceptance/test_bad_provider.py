"""Providers that refuse, lie, hang or are gone: waited for, or exit code 7 with what was paid for kept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider, vector
from support.waiting import try_again_at_once

TAG = tag("fake", 8)
KEY = "sk-very-secret-1234"
COUNT = 60
EXPANDED = "  expand    "
NOTHING = "Nothing was embedded by this run."


@pytest.fixture
def keyed() -> Iterator[Provider]:
    """A provider that takes one key only."""
    with Provider(dims=8, key=KEY) as server:
        yield server


@pytest.fixture
def ready(project: Project, keyed: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which ``vecmig upgrade`` would succeed; retries wait for a moment only."""
    try_again_at_once(monkeypatch)
    monkeypatch.setenv("MY_KEY", KEY)
    make_documents(project, COUNT)
    recipe(project, keyed)
    script(project, "aaaa", TAG)
    return project


def recipe(project: Project, provider: Provider, **fields: object) -> None:
    """Write the recipe, with some fields changed."""
    usual = {
        "provider": "openai",
        "dims": 8,
        "base_url": provider.url,
        "api_key_env": "MY_KEY",
        "max_batch": 10,
        "concurrency": 1,
        "normalise": "verify",
    }
    made = {name: value for name, value in (usual | fields).items() if value is not None}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: made})


def fails(project: Project, vecmig: Vecmig, *said: str, command: str = "upgrade") -> None:
    """Exit with 7 and say so; nothing becomes live, and no table or output holds the key."""
    result = vecmig(command, code=7)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith((EXPANDED, "aaaa", "  waiting"))]
    assert lines == list(said)
    assert KEY not in result.stderr
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] is None


def no_key_anywhere(project: Project) -> None:
    """Look for the key in all of vecmig's tables."""
    for table in ("event", "revision", "collection", "tag", "route", "rejected", "statement"):
        assert KEY not in repr(project.sql(f"SELECT * FROM vecmig.{table}"))


def test_a_wrong_key(ready: Project, vecmig: Vecmig, keyed: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-wrong-5678")
    fails(
        ready,
        vecmig,
        f"The provider at {keyed.url} refuses the key (HTTP 401): Incorrect API key provided: ***.",
        NOTHING,
        "Check the variable MY_KEY",
    )
    assert len(keyed.requests()) == 1, "no record was tried one by one"
    monkeypatch.setenv("MY_KEY", KEY)
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    no_key_anywhere(ready)


def test_no_key(ready: Project, vecmig: Vecmig, keyed: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY")
    fails(
        ready,
        vecmig,
        f"The provider at {keyed.url} wants a key (HTTP 401): Incorrect API key provided: .",
        NOTHING,
        "Check the variable MY_KEY, which is not set",
    )
    recipe(ready, keyed, base_url=None)
    fails(
        ready,
        vecmig,
        "The provider at https://api.openai.com/v1 wants a key, and the variable MY_KEY is not set.",
        NOTHING,
        "Set it: export MY_KEY=…",
    )


def test_wrong_dims(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    with keyed.failing("wrong_dims"):
        fails(
            ready,
            vecmig,
            "The provider openai gave vectors of 9 dimensions for fake; the tag says 8.",
            NOTHING,
            "If 9 is right, make a new tag with dim-9; if the model can make 8 too, add to the recipe: request: "
            "{dimensions: 8}",
        )
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(0,)]
    vecmig("upgrade")


def test_the_quota_ends_halfway(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "10")
    keyed.forget()
    keyed.faults({"mode": "insufficient_quota", "skip": 3})
    fails(
        ready,
        vecmig,
        f"The provider at {keyed.url} has no quota left (HTTP 429): "
        "You exceeded your current quota, please check your plan and billing details.",
        "20 records were embedded by this run, and stay.",
        "Add credit, then run the same command: it goes on from here",
    )
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(30,)]
    keyed.faults()
    vecmig("upgrade", "--until", "index")
    paid = [text for text in keyed.paid() if text.startswith("title")]
    assert len(paid) == len(set(paid)) == COUNT - 10
    no_key_anywhere(ready)


def in_the_middle(project: Project, vecmig: Vecmig) -> None:
    """Have ten records embedded before anything goes wrong."""
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "10")
    assert project.sql("SELECT count(*) FROM documents_vectors") == [(10,)]


@pytest.mark.parametrize(
    ("mode", "said", "hint"),
    [
        ("401", "refuses the key (HTTP 401): Refused with 401.", "Check the variable MY_KEY"),
        ("403", "does not let this key in (HTTP 403): Refused with 403.", "Check the variable MY_KEY"),
        ("404", "does not know the model or the address (HTTP 404): Refused with 404.",
         "Check base_url and model in the recipe"),
        ("html", "answered with a web page instead of JSON.", "Check base_url: many servers want /v1 at its end"),
        ("garbage", "gave an embedding that is neither numbers nor base64.",
         "Try encoding_format: float in the recipe"),
        ("short", "gave 9 embeddings for 10 texts, or did not number them from 0.",
         "Lower max_batch in the recipe if the server takes fewer inputs"),
        ("misnumbered", "gave 10 embeddings for 10 texts, or did not number them from 0.",
         "Lower max_batch in the recipe if the server takes fewer inputs"),
    ],
)  # fmt: skip
def test_what_no_waiting_cures_ends_the_run(
    *, ready: Project, vecmig: Vecmig, keyed: Provider, mode: str, said: str, hint: str
) -> None:
    in_the_middle(ready, vecmig)
    keyed.forget()
    with keyed.failing(mode, skip=2):
        fails(
            ready,
            vecmig,
            f"The provider at {keyed.url} {said}",
            "10 records were embedded by this run, and stay.",
            hint,
        )
    tries = {"html": 6, "short": 3, "misnumbered": 3}.get(mode, 1)
    # some are on their way by the time that another text is refused, too; one by one, the ten that failed would be tens
    assert 2 + tries <= len(keyed.requests()) <= 8 + 4 * tries, "no record was tried one by one"
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    keyed.forget()
    vecmig("upgrade", "--until", "index")
    paid = [text for text in keyed.paid() if text.startswith("title")]
    assert len(paid) == len(set(paid)) == COUNT - 20


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("429", "is busy (HTTP 429): Refused with 429"),
        ("500", "failed (HTTP 500): Refused with 500"),
        ("503", "failed (HTTP 503): Refused with 503"),
        ("truncated", "answered with JSON that breaks off"),
        ("disconnect", "cannot be reached: RemoteProtocolError"),
        ("hang", "did not answer in time"),
    ],
)
def test_what_waiting_cures_is_waited_for_without_end(
    ready: Project, vecmig: Vecmig, keyed: Provider, mode: str, said: str
) -> None:
    recipe(ready, keyed, timeout=0.3 if mode == "hang" else 60)
    in_the_middle(ready, vecmig)
    # more often than six times, and once from the very first request on
    times = 7 if mode == "hang" else 40
    for skip in (3, 0):
        keyed.faults({"mode": mode, "times": times, "skip": skip, "seconds": 1})
        done = vecmig("upgrade", "--until", "backfill")
        waits = [line for line in done.stderr.splitlines() if line.startswith("  waiting: ")]
        assert waits[0].startswith(f"  waiting: The provider at {keyed.url} {said}, next try in ")
        assert ready.sql("SELECT count(*) FROM documents_vectors") == [(COUNT,)]
        assert ready.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]
        ready.sql("UPDATE documents SET body = body || ' again'")
    keyed.faults()
    vecmig("upgrade")


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_an_outage_rejects_no_record(ready: Project, vecmig: Vecmig, keyed: Provider, share: float) -> None:
    """Not even where every request holds one record only, so that nothing tells a bad one from a bad hour."""
    recipe(ready, keyed, max_batch=1, concurrency=4)
    with keyed.failing("500", share=share):
        vecmig("upgrade", "--until", "index")
    assert ready.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]


def test_whoever_asks_something_does_not_wait_without_end(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    vecmig("upgrade")
    keyed.forget()
    with keyed.failing("503"):
        asked = vecmig("search", "documents", "subject", code=7)
    busy = f"The provider at {keyed.url} failed (HTTP 503): Refused with 503."
    assert asked.stderr.splitlines()[-1] == f"{busy} It failed 6 times in a row."
    with keyed.failing("429", retry_after="3600"):
        asked = vecmig("search", "documents", "subject", code=7)
    assert asked.stderr.splitlines()[-1] == (
        f"The provider at {keyed.url} is busy (HTTP 429): Refused with 429. It failed once and asks to wait 3600 s."
    )


def test_the_gate_does_not_wait_without_end(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    vecmig("upgrade", "--until", "index")
    for mode, times in {"503": "6 times in a row", "404": ""}.items():
        with keyed.failing(mode):
            assert times in vecmig("gate", code=3).stdout
    keyed.stop()
    assert "cannot be reached: ConnectError. It failed 6 times in a row." in vecmig("gate", code=3).stdout


def test_a_provider_that_comes_back_is_gone_on_with(ready: Project, keyed: Provider) -> None:
    """The whole provider is away, and nobody has to start anything again."""
    keyed.stop()
    with ready.start("upgrade") as process:
        assert process.stderr is not None
        try:
            told = next(line for line in process.stderr if line.startswith("  waiting: "))
            assert told.startswith(
                f"  waiting: The provider at {keyed.url} cannot be reached: ConnectError, next try in "
            )
            keyed.start()
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(COUNT,)]


def test_waiting_is_told(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    keyed.faults({"mode": "429", "times": 2, "skip": 1, "retry_after": "1"})
    told = vecmig("upgrade").stderr.splitlines()
    waits = [line for line in told if line.startswith("  waiting: ")]
    assert len(waits) == 1, "the same reason is not said twice in a row"
    assert re.fullmatch(
        rf"  waiting: The provider at {keyed.url} is busy \(HTTP 429\): Refused with 429, next try in [\d.]+ m?s",
        waits[0],
    )


def test_answers_in_another_order_are_put_in_order(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    with keyed.failing("reordered"):
        vecmig("upgrade")
    rows = ready.sql(
        "SELECT title || ' ' || body, v.embedding::text FROM documents_vectors v JOIN documents USING (id)"
    )
    assert len(rows) == COUNT
    for text, embedding in rows:
        assert np.allclose(np.fromstring(embedding[1:-1], sep=","), vector(text, 8), atol=1e-6)


@pytest.mark.parametrize("mode", ["poison", "500"])
def test_one_bad_record_among_thousands_costs_a_few_requests(
    ready: Project, vecmig: Vecmig, keyed: Provider, mode: str
) -> None:
    batch, count = 128, 2_000
    ready.sql(
        "INSERT INTO documents SELECT i, 'title ' || i, 'body ' || i FROM generate_series(%s::int, %s::int) AS i",
        COUNT + 1,
        count,
    )
    ready.sql("UPDATE documents SET body = 'POISON' WHERE id = 1234")
    recipe(ready, keyed, max_batch=batch, concurrency=4)
    keyed.faults({"mode": mode, "marked": True})
    vecmig("upgrade", "--until", "backfill")
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(count - 1,)]
    canary, halvings = 1, math.ceil(math.log2(batch))
    # a server that refuses is asked twice in the end, and takes another text twice; one that falls over is asked ten
    # times in the end, and takes another text in between
    proof = 3 if mode == "poison" else 19
    most = canary + math.ceil(count / batch) + 2 * halvings + proof
    assert len(keyed.requests()) <= most
    paid = [text for text in keyed.paid() if text.startswith("title")]
    assert len(paid) == len(set(paid)) == count - 1, "no other record was paid for twice"
    listed = vecmig("rejected")
    assert "1234" in listed.stdout
    assert f"(HTTP {'400' if mode == 'poison' else '500'}): " in listed.stdout
    keyed.faults()
    vecmig("rejected", "--retry")
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(count,)]
    assert ready.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("poison", "refuses an input (HTTP 400): The input contains an invalid token."),
        ("500", "failed (HTTP 500): Refused with 500."),
        ("nan", "the vector holds NaN or infinity"),
        ("zero", "the vector has zero norm"),
    ],
)
def test_one_record_that_cannot_be_embedded(
    ready: Project, vecmig: Vecmig, keyed: Provider, mode: str, reason: str
) -> None:
    ready.sql("UPDATE documents SET body = 'POISON' WHERE id = 33")
    keyed.faults({"mode": mode, "marked": True})
    result = vecmig("upgrade", code=3)
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("  warning: ")]
    assert warning.startswith("  warning: Record 33 of documents is rejected: ")
    assert warning.endswith(reason)
    assert result.stderr.splitlines()[-3:] == [
        f"The gate of documents refuses the cutover to {TAG}: coverage.",
        "Nothing was changed: reads go on as before.",
        "For the reasons run: vecmig rejected. Correct those records, or lower the gate in the revision.",
    ]
    assert "1 of 60 records have no fresh vector, 1 of them rejected" in result.stdout
    assert "59 records embedded" in result.stderr
    (row,) = vecmig("status", "--json").json["collections"][0]["tags"]
    assert (row["fresh"], row["rejected"], row["missing"], row["stale"]) == (59, 1, 0, 0)
    assert 0.98 < row["coverage"] < 0.984
    assert "98.33 %" in vecmig("status").stdout
    ((key, why),) = ready.sql("SELECT key, reason FROM vecmig.rejected")
    assert key == [33]
    assert why.endswith(reason)
    keyed.forget()
    vecmig("backfill")
    assert [text for text in keyed.paid() if text.startswith("title")] == [], "a rejected text is not sent again"
    ready.sql("UPDATE documents SET body = 'harmless' WHERE id = 33")
    vecmig("upgrade")
    assert ready.sql("SELECT count(*) FROM vecmig.rejected") == [(0,)]
    assert vecmig("status", "--check").code == 0


def test_the_model_behind_the_name_changed(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    vecmig("upgrade", "--until", "index")
    ready.sql("UPDATE vecmig.tag SET canary = jsonb_set(canary, '{vectors,0,0}', '9')")
    refused = vecmig("upgrade", code=3)
    assert refused.stderr.splitlines()[-1] == (
        "The model behind the name changed: make a new tag with a new version after the @, and run: vecmig revision"
    )
    ready.sql("UPDATE documents SET body = 'another' WHERE id = 1")
    said = "The model behind fake@1/dim-8/chunk-none/norm-l2 is not the one that made its vectors: similarity "
    result = vecmig("upgrade", code=7)
    assert [line for line in result.stderr.splitlines() if line.startswith(said)]
    assert result.stderr.splitlines()[-2:] == [
        "Nothing was embedded.",
        "Restore the old weights, or make a new tag with a new version after the @ and: vecmig revision",
    ]
    gate = vecmig("gate", code=3)
    assert gate.stderr.splitlines()[-1] == (
        "The model behind the name changed: make a new tag with a new version after the @, and run: vecmig revision"
    )
