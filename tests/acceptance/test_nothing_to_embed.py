"""A run with nothing to embed asks no provider: one that is down, or whose key is missing, fails nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider
from support.waiting import wait_for

FIRST, SECOND = tag("fake", 8), tag("other", 8)
KEY = "sk-very-secret-1234"
COUNT = 20
READING = (
    ("status",),
    ("status", "--check"),
    ("check",),
    ("plan",),
    ("current",),
    ("heads",),
    ("history",),
    ("rejected",),
    ("upgrade", "--sql"),
    ("downgrade", "--sql", "-1"),
)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of our own, which takes one key only and may go down."""
    with Provider(dims=8, key=KEY) as server:
        yield server


@pytest.fixture
def ready(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which ``vecmig upgrade`` would succeed; it waits for no provider."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("VECMIG_PROVIDER_WAIT", "0")
    recipes(project, provider.url)
    script(project, "aaaa", FIRST)
    return project


def recipes(project: Project, url: str | None, wanted: str = FIRST) -> None:
    """Write the recipes; without an address they lead to api.openai.com, which wants a key."""
    own = {"provider": "openai", "dims": 8, "api_key_env": "MY_KEY", "max_batch": 10, "normalise": "verify"}
    made = own if url is None else own | {"base_url": url}
    describe(project, {"documents": documents_collection(wanted)}, {FIRST: made, SECOND: made})


def canaries(project: Project) -> dict[str, bool]:
    """Say of each tag whether its canary was kept."""
    return dict(project.sql("SELECT tag, canary IS NOT NULL FROM vecmig.tag"))


def test_where_all_is_embedded_nobody_is_asked(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_documents(ready, COUNT)
    vecmig("upgrade")
    provider.stop()
    monkeypatch.delenv("MY_KEY")
    for url in (provider.url, None):
        recipes(ready, url)
        for command in (("upgrade",), ("sync",), *READING):
            assert "waiting" not in vecmig(*command).stderr
    ready.sql("UPDATE documents SET body = 'another' WHERE id = 1")
    assert vecmig("sync", code=7).stderr.splitlines()[-3:] == [
        "The provider at https://api.openai.com/v1 wants a key, and the variable MY_KEY is not set.",
        "Nothing was embedded by this run.",
        "Set it: export MY_KEY=…",
    ]
    for command in READING:
        if command[-1] != "--check":
            vecmig(*command)


def test_a_backfill_that_is_complete_asks_nobody(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_documents(ready, COUNT)
    vecmig("upgrade", "--until", "backfill")
    provider.forget()
    monkeypatch.delenv("MY_KEY")
    for command in (("backfill",), ("upgrade", "--until", "index"), ("sync",)):
        vecmig(*command)
    assert provider.requests() == []


def test_an_empty_table_goes_live_without_a_provider_and_has_its_canary_before_its_first_vector(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_documents(ready, 0)
    provider.stop()
    monkeypatch.delenv("MY_KEY")
    recipes(ready, None)
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    script(ready, "bbbb", SECOND, old=FIRST, down="aaaa")
    recipes(ready, None, SECOND)
    vecmig("upgrade", "--until", "index")
    shown = vecmig("gate").stdout
    assert "there is no vector yet; the canary is kept with the first one" in shown
    assert vecmig("upgrade").stdout == "bbbb  live  revision bbbb\n"
    assert "canary" not in vecmig("audit").stdout
    assert canaries(ready) == {FIRST: False, SECOND: False}
    provider.start()
    monkeypatch.setenv("MY_KEY", KEY)
    recipes(ready, provider.url, SECOND)
    ready.sql("INSERT INTO documents VALUES (1, 'first', 'record')")
    vecmig("sync")
    assert canaries(ready) == {FIRST: True, SECOND: True}
    sent = [request["inputs"] for request in provider.requests()]
    assert ["first record" in texts for texts in sent] == [False, True, False, True], "the canary comes first"
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(2,)]


def test_a_service_asks_nobody_before_there_is_something_to_embed(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    make_documents(ready, COUNT)
    vecmig("upgrade")
    provider.stop()
    with ready.start("sync", "--watch") as process:
        try:
            wait_for(lambda: "no change is noted; last full pass" in vecmig("status", "--json").stdout, process)
            provider.start()
            assert provider.requests() == []
            ready.sql("UPDATE documents SET body = 'another' WHERE id = 1")
            wait_for(lambda: "title 1 another" in provider.paid(), process)
        finally:
            process.kill()
    assert len(provider.requests()) == 2, "the canary, and the record"
