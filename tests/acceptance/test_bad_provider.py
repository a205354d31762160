"""Providers that refuse, lie, hang or are gone: exit code 7, what was paid for is kept, and the next run goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider
from vecmig.embedders import Retry
from vecmig.migration import workspace

TAG = tag("fake", 8)
KEY = "sk-very-secret-1234"
COUNT = 60
EXPANDED = "  expand    "


@pytest.fixture
def keyed() -> Iterator[Provider]:
    """A provider that takes one key only."""
    with Provider(dims=8, key=KEY) as server:
        yield server


@pytest.fixture
def ready(project: Project, keyed: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which ``vecmig upgrade`` would succeed; retries wait for nothing."""
    monkeypatch.setattr(workspace, "Retry", partial(Retry, sleep=lambda _seconds: None))
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
        "Check the variable MY_KEY, which is not set",
    )
    recipe(ready, keyed, base_url=None)
    fails(
        ready,
        vecmig,
        "The provider at https://api.openai.com/v1 wants a key, and the variable MY_KEY is not set.",
        "Set it: export MY_KEY=…",
    )


def test_wrong_dims(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    with keyed.failing("wrong_dims"):
        fails(
            ready,
            vecmig,
            "The provider openai gave vectors of 9 dimensions for fake; the tag says 8.",
            "If 9 is right, make a new tag with dim-9",
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
    vecmig("upgrade")
    paid = [text for text in keyed.paid() if text.startswith("title")]
    assert len(paid) == len(set(paid)) == COUNT - 10
    no_key_anywhere(ready)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("500", "failed (HTTP 500): Refused with 500. It failed 6 times in a row."),
        ("429", "is busy (HTTP 429): Refused with 429. It failed 6 times in a row."),
        ("html", "answered with a web page instead of JSON. It failed 6 times in a row."),
        ("truncated", "answered with JSON that breaks off. It failed 6 times in a row."),
        ("garbage", "gave an embedding that is neither numbers nor base64."),
        ("404", "does not know the model or the address (HTTP 404): Refused with 404."),
    ],
)
def test_answers_that_are_of_no_use(ready: Project, vecmig: Vecmig, keyed: Provider, mode: str, said: str) -> None:
    hints = {
        "html": "Check base_url: many servers want /v1 at its end",
        "garbage": "Try encoding_format: float in the recipe",
        "404": "Check base_url and model in the recipe",
    }
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "10")
    with keyed.failing(mode, skip=2):
        fails(
            ready,
            vecmig,
            f"The provider at {keyed.url} {said}",
            "10 records were embedded by this run, and stay.",
            *filter(None, [hints.get(mode)]),
        )
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    vecmig("upgrade")


def test_a_long_retry_after_ends_the_run(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    with keyed.failing("429", retry_after="3600"):
        fails(
            ready,
            vecmig,
            f"The provider at {keyed.url} is busy (HTTP 429): Refused with 429. "
            "It failed once and asks to wait 3600 s.",
        )


def test_the_server_is_down(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    keyed.stop()
    fails(
        ready,
        vecmig,
        f"The provider at {keyed.url} cannot be reached: ConnectError. It failed 6 times in a row.",
        "Check base_url and the network",
    )


def test_waiting_is_told(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    keyed.faults({"mode": "429", "times": 2, "skip": 1, "retry_after": "1"})
    told = vecmig("upgrade").stderr.splitlines()
    waits = [line for line in told if line.startswith("  waiting: ")]
    assert len(waits) == 1, "the same reason is not said twice in a row"
    assert re.fullmatch(
        rf"  waiting: The provider at {keyed.url} is busy \(HTTP 429\): Refused with 429, next try in \d+ s", waits[0]
    )


def test_a_server_that_hangs(ready: Project, vecmig: Vecmig, keyed: Provider) -> None:
    recipe(ready, keyed, timeout=0.2)
    with keyed.failing("hang", skip=1):
        fails(
            ready,
            vecmig,
            f"The provider at {keyed.url} did not answer in time. It failed 6 times in a row.",
            "0 records were embedded by this run, and stay.",
            "Raise timeout: in the recipe",
        )


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("poison", "refuses an input (HTTP 400): The input contains an invalid token."),
        ("nan", "the vector holds NaN or infinity"),
        ("zero", "the vector has zero norm"),
    ],
)
def test_one_record_that_cannot_be_embedded(
    ready: Project, vecmig: Vecmig, keyed: Provider, mode: str, reason: str
) -> None:
    ready.sql("UPDATE documents SET body = 'POISON' WHERE id = 33")
    keyed.faults({"mode": mode})
    result = vecmig("upgrade", code=3)
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("  warning: ")]
    assert warning.startswith("  warning: Record 33 is rejected: ")
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
