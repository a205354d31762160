"""A provider that stays away: waited for as long as is worth it, then exit code 7, and the same command goes on."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import Project
from support.provider import Provider
from support.waiting import wait_for
from vecmig.embedders import pulse

TAG = tag("fake", 8)
COUNT = 60
AGAIN = "Run the same command again when the provider is back: it goes on from there. Longer: --provider-wait"


@pytest.fixture
def ready(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which ``vecmig upgrade`` would succeed, on a build server."""
    monkeypatch.setenv("CI", "1")
    make_documents(project, COUNT)
    recipe = {
        "provider": "openai",
        "dims": 8,
        "base_url": provider.url,
        "max_batch": 10,
        "concurrency": 1,
        "normalise": "verify",
    }
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe})
    script(project, "aaaa", TAG)
    return project


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of our own, which may go down."""
    with Provider(dims=8) as server:
        yield server


def test_a_build_server_waits_for_so_long_and_goes_on_when_the_provider_is_back(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIG_PROVIDER_WAIT", "1")
    vecmig("upgrade", "--until", "expand")
    vecmig("backfill", "--limit", "20")
    provider.stop()
    for command in ("upgrade", "backfill", "sync"):
        stopped = vecmig(command, code=7)
        said = stopped.stderr.splitlines()
        assert (
            f"waiting: The provider at {provider.url} cannot be reached: ConnectError, next try in " in stopped.stderr
        )
        problem = next(line for line in said if "It has answered no request for " in line)
        assert problem.startswith(f"The provider at {provider.url} cannot be reached: ConnectError. It has ")
        assert problem.endswith(" s, and provider_wait is 1 s.")
        assert said[-3:] == ["Nothing was embedded by this run.", "Check base_url and the network", AGAIN]
        assert stopped.stdout == ""
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    provider.start()
    vecmig("upgrade", "--until", "index")
    paid = [text for text in provider.paid() if text.startswith("title")]
    assert len(paid) == len(set(paid)) == COUNT - 20, "nothing is paid for twice"
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"


def test_a_provider_that_goes_down_halfway_ends_the_run_with_what_it_wrote(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    vecmig("upgrade", "--until", "expand")
    provider.faults({"mode": "503", "skip": 3})
    stopped = vecmig("backfill", "--provider-wait", "0", code=7)
    failed = f"The provider at {provider.url} failed (HTTP 503): Refused with 503."
    assert stopped.stderr.splitlines()[-3:] == [
        f"{failed} It has answered no request for 0 s, and provider_wait is 0 s.",
        "20 records were embedded by this run, and stay.",
        AGAIN,
    ]
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(20,)]
    provider.faults({"mode": "429", "retry_after": "3600"})
    stopped = vecmig("backfill", code=7)
    assert "(HTTP 429): Refused with 429. It asks to wait 1 h, and 10 min are left of provider_wait (10 min)." in (
        stopped.stderr
    )
    provider.faults()
    vecmig("upgrade")


def test_a_wait_that_is_none_is_a_usage_error(ready: Project, vecmig: Vecmig) -> None:
    asked = vecmig("upgrade", "--provider-wait", "soon", code=2)
    assert asked.stderr.splitlines() == [
        "The command line: provider_wait is 'soon'; a number of seconds from 0 is needed, or unlimited."
    ]


def test_a_service_waits_without_end_unless_its_own_command_says_otherwise(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    vecmig("upgrade")
    monkeypatch.setenv("VECMIG_PROVIDER_WAIT", "0")
    ready.sql("UPDATE documents SET body = 'again'")
    provider.stop()
    stopped = vecmig("sync", "--watch", "--provider-wait", "0", code=7)
    assert "and provider_wait is 0 s." in stopped.stderr
    with ready.start("sync", "--watch") as process:
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if line.startswith("  waiting: "))
            provider.start()
            next(line for line in process.stderr if f"{COUNT} embedded under {TAG}" in line)
        finally:
            process.kill()
    assert ready.sql("SELECT count(*) FROM documents_vectors v JOIN documents d USING (id) WHERE d.body = 'again'") == [
        (COUNT,)
    ]


def runs(vecmig: Vecmig) -> list[dict[str, Any]]:
    """Give the runs at work on the collection, as status shows them."""
    shown: list[dict[str, Any]] = vecmig("status", "--json").json["collections"][0]["runs"]
    return shown


@pytest.mark.parametrize("command", ["upgrade", "sync"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_its_canary_shows_and_ends_at_once(
    ready: Project, vecmig: Vecmig, provider: Provider, command: str, end: signal.Signals
) -> None:
    vecmig("upgrade", "--until", "expand")
    provider.stop()
    with ready.start(command, "--provider-wait", "unlimited") as process:
        try:
            wait_for(lambda: any("; next try in " in (run["reason"] or "") for run in runs(vecmig)), process)
            shown = vecmig("status").stdout
            process.send_signal(end)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.search(
        rf"waiting \(The provider at {provider.url} cannot be reached: ConnectError; "
        rf"next try (in [\d.]+ m?s|now)\), 0 of {COUNT}",
        " ".join(shown.split()),
    )
    assert said.splitlines()[-3] == "Interrupted after 0 records."
    assert runs(vecmig) == []


def test_what_a_dead_provider_was_sent_is_not_waited_for_at_the_end(
    ready: Project, vecmig: Vecmig, provider: Provider
) -> None:
    provider.faults({"mode": "503", "skip": 2, "times": 1}, {"mode": "hang", "skip": 2, "seconds": 600})
    with ready.start("upgrade") as process:
        try:
            wait_for(lambda: [request["fault"] for request in provider.requests()][-2:] == ["503", "hang"], process)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.splitlines()[-3:] == [
        "Interrupted after 10 records.",
        "What was written stays; 1 request in flight was left, and is sent again next time.",
        "To go on, run the same command again.",
    ]
    provider.faults()
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"


def test_a_request_without_an_answer_shows(
    ready: Project, vecmig: Vecmig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the progress, as in status; also where nothing but the gate's look and an eval ask."""
    monkeypatch.setattr(pulse, "LONG", 0.5)
    provider.faults({"mode": "hang", "times": 1, "seconds": 4})
    silent = "  waiting: the provider has not answered for "
    assert silent in vecmig("upgrade", "--until", "index").stderr
    provider.faults({"mode": "hang", "times": 1, "seconds": 4})
    assert silent in vecmig("gate").stderr
    assert silent not in vecmig("gate").stderr
