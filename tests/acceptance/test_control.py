"""An operator pauses, resumes and tunes a run from another terminal or host, and sees how it stands."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    script,
    tag,
    write_hashing,
)
from support.project import Project
from support.provider import Provider
from support.terminal import in_terminal, plain
from support.waiting import wait_for

TAG = tag("fake", 8)
A = tag("a", 16)
COUNT, BATCH, FLYING = 600, 2, 4
#: Seconds in which a command must have acted on a run, and what a busy machine may add.
ACTS_WITHIN, SLACK = 2.0, 4.0


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 40)
    write_hashing(project, 16)
    wanted = {"documents": documents_collection(A), "papers": documents_collection(A)}
    describe(project, wanted, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade", "--until", "expand")


#: What ``begun`` stands on.
BEGINNINGS = {"begun": _prepare}


@pytest.fixture
def begun(project: Project) -> Project:
    """A project on 40 documents whose revision has begun and embedded nothing yet."""
    return project


def at_work(project: Project, **changes: Any) -> None:
    """Enter a run as a process elsewhere would."""
    row = {
        "id": uuid4(),
        "collection": "documents",
        "tag": A,
        "what": "backfill",
        "host": "build-7",
        "pid": 4711,
        "state": "running",
        "reason": None,
        "done": 1280,
        "total": 7595,
        "rejected": 0,
        "rate": 640.4,
        "concurrency": 8,
    } | changes
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    project.sql(f"INSERT INTO vecmig.run ({names}) VALUES ({marks})", *row.values())


# The commands -------------------------------------------------------------------------------------------------------


def test_pause_and_resume_while_nobody_runs(begun: Project, vecmig: Vecmig) -> None:
    first, second = vecmig("pause", "documents", "--reason", "night job").stdout.splitlines()
    assert first.startswith("documents: paused by postgres on ")
    assert first.endswith(" UTC: night job")
    assert second == "  no run is at work on it now; the next run follows this"
    again = vecmig("pause", "documents").stdout
    assert again == f"{first.replace('paused', 'already paused')}\n{second}\n"
    shown = vecmig("status").stdout
    assert "\n  paused  by postgres on " in shown
    assert shown.count("UTC: night job; to go on: vecmig resume documents\n") == 1
    assert vecmig("resume").stdout == (
        "documents: resumed\n  no run is at work on it now\npapers: was not paused\n  no run is at work on it now\n"
    )
    assert "paused" not in vecmig("status").stdout


def test_tune_sets_shows_and_takes_back(begun: Project, vecmig: Vecmig) -> None:
    assert vecmig("tune", "documents", "concurrency=4", "max-rate=500").stdout == (
        "documents: concurrency 4, max-rate 500 records/s\n  no run is at work on it now; the next run follows this\n"
    )
    assert "\n  tuned  concurrency 4, max-rate 500 records/s\n" in vecmig("status").stdout
    assert vecmig("tune", "concurrency=default", "documents").stdout.startswith(
        "documents: concurrency as the recipe says, max-rate 500 records/s\n"
    )
    assert vecmig("tune").stdout == (
        "documents: concurrency as the recipe says, max-rate 500 records/s\n"
        "  no run is at work on it now; the next run follows this\n"
        "papers: concurrency as the recipe says, max-rate none\n"
        "  no run is at work on it now\n"
    )
    (events,) = begun.sql(
        "SELECT array_agg(kind || ' ' || collection ORDER BY id) FROM vecmig.event WHERE kind = 'tune'"
    )
    assert events == (["tune documents", "tune documents"],)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune", "speed=3"], "There is no setting 'speed'."),
        (["tune", "concurrency=none=3"], "concurrency=none=3: a whole number from 1 to 99999 is needed, or default."),
        (["tune", "dokuments", "concurrency=3"], "migrations/collections.yaml has no collection 'dokuments'"),
        (["pause", "dokuments"], "migrations/collections.yaml has no collection 'dokuments'"),
        (["upgrade", "--max-cost", "0"], "--max-cost 0 is not an amount above 0, in US dollars."),
        (["backfill", "--max-cost", "nan"], "--max-cost nan is not an amount above 0, in US dollars."),
        (["sync", "--max-cost", "-1"], "--max-cost -1 is not an amount above 0, in US dollars."),
        (["plan", "--max-cost", "inf"], "--max-cost inf is not an amount above 0, in US dollars."),
    ],
)
def test_wrong_words(begun: Project, vecmig: Vecmig, words: list[str], message: str) -> None:
    refused = vecmig(*words, code=2)
    assert message in refused.stderr
    assert begun.sql("SELECT count(*) FROM vecmig.control") == [(0,)]


@pytest.mark.parametrize("words", [["pause"], ["resume"], ["tune", "concurrency=3"]])
def test_before_vecmig_is_there(project: Project, vecmig: Vecmig, words: list[str]) -> None:
    refused = vecmig(*words, code=2)
    assert refused.stderr.startswith("There is nothing to control: vecmig was never used in the database at ")
    assert refused.stderr.endswith("\nRun: vecmig upgrade\n")
    assert project.sql("SELECT to_regnamespace('vecmig')") == [(None,)]


# What is seen -------------------------------------------------------------------------------------------------------


def test_status_tells_programs_of_runs_settings_and_spending(begun: Project, vecmig: Vecmig) -> None:
    documents, papers = vecmig("status", "--json").json["collections"]
    assert (documents["runs"], documents["control"], papers["runs"]) == ([], None, [])
    at_work(begun, state="throttled", reason="replica reports is 12.0 s behind", rejected=2)
    begun.sql("INSERT INTO vecmig.spend VALUES ('aaaa', 'backfill', 12345, 0.024690)")
    vecmig("pause", "documents", "--reason", "night job")
    vecmig("tune", "documents", "max-rate=0.5")
    found = vecmig("status", "--json").json
    assert found["spend"] == [{"revision": "aaaa", "what": "backfill", "tokens": 12345, "usd": 0.02469}]
    documents, papers = found["collections"]
    (run,) = documents["runs"]
    assert run.pop("started_at").startswith("20")
    assert run.pop("seen_at").startswith("20")
    assert run == {
        "what": "backfill",
        "tag": A,
        "host": "build-7",
        "pid": 4711,
        "state": "throttled",
        "reason": "replica reports is 12.0 s behind",
        "done": 1280,
        "total": 7595,
        "rejected": 2,
        "rate": 640.4,
        "concurrency": 8,
        "ends_at": None,
    }
    control = documents["control"]
    assert control.pop("paused_at").startswith("20")
    assert control.pop("paused_by").startswith("postgres on ")
    assert control == {"paused": True, "reason": "night job", "concurrency": None, "max_rate": 0.5}
    assert (papers["runs"], papers["control"]) == ([], None)


def test_status_tells_people_at_any_width(begun: Project, vecmig: Vecmig) -> None:
    at_work(begun, state="throttled", reason="replica reports is 12.0 s behind; max_replica_lag is 10 s")
    begun.sql("INSERT INTO vecmig.spend VALUES ('aaaa', 'backfill', 12345, 0.024690)")
    whole = (
        f"  at work  backfill of {A} by build-7 pid 4711: throttled (replica reports is 12.0 s behind; max_replica_lag "
        "is 10 s), 1,280 of 7,595, 640/s, up to 8 requests in flight, seen "
    )
    shown = vecmig("status").stdout
    assert whole in shown, "without a terminal a line is as long as it is"
    assert "spent     $0.0247 for aaaa: 12,345 tokens by backfill\n" in shown
    # on a busy machine so much time passes that the run would count as gone
    begun.sql("UPDATE vecmig.run SET seen_at = now()")
    wide = plain(in_terminal(begun, "status", columns=300))
    assert whole in wide
    begun.sql("UPDATE vecmig.run SET seen_at = now()")
    narrow = plain(in_terminal(begun, "status", columns=80))
    assert max(map(len, narrow.splitlines())) <= 80
    block = re.split(r"\n\n|\n +state ", narrow[narrow.index("  at work") :])[0].splitlines()
    assert all(line.startswith(" " * 11) for line in block[1:]), "what is wrapped stands under its column"
    assert " ".join(narrow.split()).count(" ".join(whole.replace(A, "…/dim-16").split())) == 1, "nothing is cut"
    assert "\x1b[3" not in in_terminal(begun, "status", columns=80, env={"NO_COLOR": "1"})


def test_a_command_says_who_is_at_work(begun: Project, vecmig: Vecmig) -> None:
    at_work(begun)
    assert vecmig("pause", "documents").stdout.partition("\n")[2] == (
        f"  backfill of {A} by build-7 pid 4711: running, 1,280 of 7,595, 640/s, up to 8 requests in flight\n"
        "  Pauses within 2 s, after writing the requests in flight.\n"
    )
    assert vecmig("resume", "documents").stdout.splitlines()[-1] == "  Resumes within 2 s."
    assert vecmig("tune", "documents", "concurrency=1").stdout.splitlines()[-1] == "  It follows within 2 s."
    assert vecmig("tune", "documents").stdout.splitlines()[-1].startswith("  backfill of "), "nothing was changed"


def test_a_plan_reckons_with_limits_and_budget(begun: Project, vecmig: Vecmig) -> None:
    limits = {"price_per_million_tokens": 1000, "budget_usd": 0.5, "tokens_per_minute": 100, "max_batch": 10}
    wanted = {"documents": documents_collection(A)}
    describe(begun, wanted, {A: local(16) | limits})
    (found,) = vecmig("plan", "--json").json
    assert found["requests"] == 4
    assert found["tokens"] > 300
    assert found["limited_by"] == "tokens_per_minute"
    assert found["limited_seconds"] == pytest.approx((found["tokens"] / 100 - 1) * 60)
    assert found["seconds"] is None
    assert vecmig("plan", "--json", "--rate", "1000").json[0]["seconds"] == found["limited_seconds"]
    assert (found["budget_usd"], found["spent_usd"], found["over_budget"]) == (0.5, 0, True)
    begun.sql("INSERT INTO vecmig.spend VALUES ('aaaa', 'backfill', 400, 0.4), ('aaaa', 'sync', 1, 99)")
    shown = vecmig("plan", "--rate", "1000")
    assert "  requests  about 4\n" in shown.stdout
    assert "  budget    $0.50, of which $0.40 is spent\n" in shown.stdout
    assert " because of tokens_per_minute; the provider alone about 40 ms at 1,000 records/s" in shown.stdout
    assert "  rollback  < 1 s\n" in shown.stdout
    assert shown.stderr == (
        "warning: aaaa may cost more than its budget; it would stop there, and go on once that is raised.\n"
    )
    raised = vecmig("plan", "--max-cost", "5")
    assert "  budget    $5.00, of which $0.40 is spent\n" in raised.stdout
    assert raised.stderr == ""
    describe(begun, wanted, {A: local(16)})
    assert "cannot be kept without price_per_million_tokens" in vecmig("plan", "--max-cost", "5").stdout
    vecmig("tune", "max-rate=2")
    (tuned,) = vecmig("plan", "--json", "--rate", "1000").json
    assert (tuned["limited_by"], tuned["seconds"], tuned["budget_usd"]) == ("max-rate", 20.0, None)


# A run at work ------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow() -> Iterator[Provider]:
    """A provider that takes 100 ms for each request."""
    with Provider(dims=8, latency=0.1) as server:
        yield server


@pytest.fixture
def long(project: Project, slow: Provider, vecmig: Vecmig) -> Project:
    """A project whose backfill takes 300 requests of 2 records, 4 at a time, so 7.5 s at least."""
    make_documents(project, COUNT)
    recipe = {"provider": "openai", "dims": 8, "base_url": slow.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe})
    script(project, "aaaa", TAG)
    vecmig("upgrade", "--until", "expand")
    return project


def sent(provider: Provider) -> list[float]:
    """Give the times at which requests with records arrived."""
    return [
        request["at"] for request in provider.requests() if any(text.startswith("title") for text in request["inputs"])
    ]


def state(project: Project) -> str | None:
    rows = project.sql("SELECT state FROM vecmig.run WHERE collection = 'documents'")
    return rows[0][0] if rows else None


def test_a_running_backfill_is_paused_resumed_and_tuned(long: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = long
    with project.running("backfill") as process:
        wait_for(lambda: len(sent(slow)) >= 12, process)
        vecmig("pause", "documents", "--reason", "the site is slow")
        paused_at = time.time()
        wait_for(lambda: state(project) == "paused", process)
        assert time.time() - paused_at < ACTS_WITHIN + SLACK
        # long enough for twenty more requests
        time.sleep(0.5)
        before = sent(slow)
        assert max(before) < paused_at + ACTS_WITHIN + SLACK, "no request left later than that"
        assert len(before) < COUNT / BATCH, "the pause came before the end"
        shown = vecmig("status")
        assert "UTC: the site is slow; to go on: vecmig resume documents\n" in shown.stdout
        assert f"  at work  backfill of {TAG} by " in shown.stdout
        assert f" pid {process.pid}: paused, " in shown.stdout
        written = project.sql("SELECT count(*) FROM documents_vectors")
        assert written == [(len(before) * BATCH,)], "what was in flight is written"
        assert sent(slow) == before, "and nothing was sent meanwhile"

        vecmig("tune", "documents", "concurrency=1", "max-rate=40")
        vecmig("resume", "documents")
        wait_for(lambda: len(sent(slow)) >= len(before) + 4, process)
        slow.forget()
        wait_for(lambda: len(sent(slow)) >= 4, process)
        assert slow.most_in_flight() == 1
        vecmig("tune", "documents", "concurrency=default", "max-rate=none")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == f"documents: {COUNT} of {COUNT} records fresh, 100 %\n"
    assert "paused by postgres on" in err
    assert "the site is slow" in err
    assert state(project) is None, "a run that has ended takes itself off the list"


def test_a_cost_limit_ends_a_run_resumably(long: Project, slow: Provider, vecmig: Vecmig) -> None:
    project = long
    recipe = {"provider": "openai", "dims": 8, "base_url": slow.url, "max_batch": BATCH, "concurrency": FLYING}
    describe(project, {"documents": documents_collection(TAG)}, {TAG: recipe | {"price_per_million_tokens": 1000}})
    stopped = vecmig("backfill", "--max-cost", "0.5", code=7)
    assert "0.5" in stopped.stderr
    (spend,) = vecmig("status", "--json").json["spend"]
    assert (spend["revision"], spend["what"]) == ("aaaa", "backfill")
    assert 0 < spend["usd"] <= 0.5
    written = project.sql("SELECT count(*) FROM documents_vectors")[0][0]
    assert 0 < written < COUNT
    assert written == len([text for text in slow.paid() if text.startswith("title")]), "what was paid for is written"
    assert "$0.50" in vecmig("plan", "--max-cost", "0.5").stdout


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_paused_run_can_be_ended(long: Project, slow: Provider, vecmig: Vecmig, signal_number: int) -> None:
    vecmig("pause", "--reason", "later")
    with long.running("backfill") as process:
        wait_for(lambda: state(long) == "paused", process)
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "To go on, run the same command again."
    assert slow.requests() == [], "nothing was sent, not even to see that the model is the tag's"
    assert state(long) is None


def test_a_plan_during_a_run_reckons_with_its_rate(long: Project, slow: Provider, vecmig: Vecmig) -> None:
    assert vecmig("plan", "--json").json[0]["rate"] is None
    at_work(long, tag=TAG, rate=12.5)
    (found,) = vecmig("plan", "--json").json
    assert (found["rate"], found["seconds"]) == (12.5, COUNT / 12.5)
