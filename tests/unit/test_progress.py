"""What a run tells fits its line, says how much is left, and is not repeated where nothing moves."""

from __future__ import annotations

import time

import pytest

from vecmig.cli.progress import Narrator, index_text
from vecmig.events import IndexProgress, Progress, StepDone, StepStarted, TransferProgress, Waiting, Warned

STARTED = StepStarted("index", "aaaa", "documents", "a@1/dim-3")


def index(phase: str, done: int = 0, total: int = 0, eta: float | None = None) -> IndexProgress:
    return IndexProgress("documents", "a@1/dim-3", phase, done, total, eta)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            index("loading tuples", 12_000, 50_000, 65.0),
            "index loading tuples: 12,000 of 50,000 (24 %), 1 min 5 s left",
        ),
        (index("loading tuples", 49_999, 50_000), "index loading tuples: 49,999 of 50,000 (99.99 %)"),
        (index("loading tuples", 7, 7, 0.0), "index loading tuples: 7 of 7 (100 %)"),
        (
            index("validation, scanning table", 3, 40, 0.5),
            "index validation, scanning table: 3 of 40 pages (7.5 %), 0.5 s left",
        ),
        (index("validation, sorting tuples"), "index validation, sorting tuples"),
    ],
)
def test_how_far_an_index_is(event: IndexProgress, text: str) -> None:
    assert index_text(event) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_how_far_vectors_are_on_their_way(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Narrator() as tell:
        tell(StepStarted("import", "", "documents", "a@1/dim-3"))
        for done in (1_000, 7_000, 12_000):
            tell(TransferProgress("documents", "a@1/dim-3", "import", done, 12_000))
            clock[0] += 3
    assert capsys.readouterr().err.splitlines() == ["  import 12,000 of 12,000 vectors"]


def test_without_a_terminal_a_line_is_told_every_5_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Narrator() as tell:
        tell(STARTED)
        for done in range(11):
            tell(index("loading tuples", done, 20))
            clock[0] += 1
        tell(StepDone("index", "aaaa", "documents", "20 vectors", 11.0))
    assert capsys.readouterr().err.splitlines() == [
        "aaaa  documents",
        "  index loading tuples: 5 of 20 (25 %)",
        "  index loading tuples: 10 of 20 (50 %)",
        "  index     20 vectors (11 s)",
    ]


def test_a_blocker_that_grows_older_is_the_same_and_another_is_told_at_once(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Narrator() as tell:
        tell(STARTED)
        for pid, age in (
            (7, "00:00:01"),
            (7, "00:00:02"),
            (8, "23:59:59"),
            (8, "1 day 00:00:00"),
            (8, "2 days 01:00:00"),
        ):
            blocker = f"pid {pid} (web, transaction open for {age})"
            tell(Waiting(f"the index waits for old snapshots: {blocker}", cause=f"old snapshots: {pid}"))
            clock[0] += 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  waiting: the index waits for old snapshots: pid 7 (web, transaction open for 00:00:01)",
        "  waiting: the index waits for old snapshots: pid 8 (web, transaction open for 23:59:59)",
    ]


def test_a_quiet_run_tells_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Narrator(quiet=True) as tell:
        for event in (STARTED, index("loading tuples", 1, 2), Waiting("it is night"), Warned("it is late")):
            tell(event)
    assert capsys.readouterr().err == "  warning: it is late\n"


def test_from_the_second_collection_on_each_line_names_its_own(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Narrator() as tell:
        for revision, name in (("aaaa", "documents"), ("bbbb", "notes"), ("cccc", "documents")):
            tell(StepStarted("index", revision, name, "a@1/dim-3"))
            tell(Waiting("for old snapshots"))
            tell(StepDone("index", revision, name, "20 vectors", 1.0))
            tell(Waiting("for the database"))
    assert capsys.readouterr().err.splitlines() == [
        "aaaa  documents",
        "  waiting: for old snapshots",
        "  index     20 vectors (1 s)",
        "  waiting: for the database",
        "bbbb  notes",
        "  notes: waiting: for old snapshots",
        "  index     notes: 20 vectors (1 s)",
        "  waiting: for the database",
        "cccc  documents",
        "  documents: waiting: for old snapshots",
        "  index     documents: 20 vectors (1 s)",
        "  waiting: for the database",
    ]


def test_a_sync_names_its_collection_in_each_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Narrator(named=True) as tell:
        tell(StepStarted("sync", "", "documents", "a@1/dim-3"))
        clock[0] += 5
        tell(Progress("documents", "a@1/dim-3", 5, 10, 0, 1.0, 0.5))
        tell(StepDone("sync", "", "documents", "documents, a@1/dim-3: 10 records embedded", 10.0))
    assert capsys.readouterr().err.splitlines() == [
        "  documents: backfill 5 of 10, 1/s, 5 s left, coverage 50 %",
        "  sync      documents, a@1/dim-3: 10 records embedded (10 s)",
    ]


def test_a_collection_called_like_a_step_is_named(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Narrator(named=True) as tell:
        clock[0] += 5
        tell(Progress("backfill", "a@1/dim-3", 5, 10, 0, 1.0, 0.5))
    assert capsys.readouterr().err == "  backfill: backfill 5 of 10, 1/s, 5 s left, coverage 50 %\n"
