"""A gate and an index build whose session is ended begin anew, for as long as the backfill would wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.lab import LARGE, Lab
from vecmig import runner
from vecmig.errors import DatabaseUnreachable
from vecmig.events import Event, IndexProgress, Waiting
from vecmig.gate import look
from vecmig.homes import Home, index_build
from vecmig.operations import judging
from vecmig.operations.indexing import build_index
from vecmig.runner.project import Project

BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"


@pytest.fixture
def ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The session of a gate is ended once, in the middle; gives the processes."""
    pids: list[int] = []

    def end_and_look(home: Home, *others: Any) -> Any:
        if not pids:
            pids.append(home.session.info.backend_pid)
            lab.sql("SELECT pg_terminate_backend(%s, 5000)", pids[0])
        return look(home, *others)

    monkeypatch.setattr(judging, "look", end_and_look)
    return pids


def _waits(lab: Lab) -> list[str]:
    return [event.reason for event in lab.events if isinstance(event, Waiting)]


def test_a_gate_of_an_upgrade_begins_anew(lab: Lab, ended: list[int]) -> None:
    assert lab.upgrade("r1") == ["live"]
    assert len(ended) == 1
    assert "cannot be reached: terminating connection due to administrator command" in _waits(lab)[0]


@pytest.mark.upgraded("r1", until="index")
def test_the_command_gate_says_so(lab: Lab, ended: list[int]) -> None:
    said: list[str] = []
    _, report = runner.gate_reports(replace(lab.config, on_wait=lambda reason, _cause: said.append(reason)))[
        "documents"
    ]
    assert report.passed
    assert len(ended) == 1
    assert "cannot be reached" in said[0]


@pytest.mark.upgraded("r1", until="index")
def test_a_gate_gives_up_after_reconnect_wait(lab: Lab, ended: list[int]) -> None:
    with pytest.raises(DatabaseUnreachable):
        runner.gate_reports(replace(lab.config, reconnect_wait=0.0))
    assert len(ended) == 1


def _first(kind: type[Event], then: Callable[[], object]) -> Callable[[Event], None]:
    done: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, kind) and not done:
            done.append(event)
            then()

    return listen


def test_an_index_build_begins_anew(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_build, "_TICK", 0.02)
    lab = lab.write(chain=(LARGE,), options={"hnsw": {"m": 32, "ef_construction": 200}})
    lab.upgrade(until="backfill")
    lab.sql(
        "INSERT INTO documents_vectors (tag, id, embedding, source_hash) SELECT %s, n + 1000, l2_normalize(("
        "SELECT array_agg(random() - 0.5 + 0 * n * i) FROM generate_series(1, 256) i)::vector), md5('')::uuid "
        "FROM generate_series(1, 4000) n",
        LARGE,
    )
    end = _first(IndexProgress, lambda: lab.sql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({BUILDING}) b"))

    def listen(event: Event) -> None:
        lab.listen(event)
        end(event)

    project = Project(lab.config, listen)
    assert build_index(project.context, lab.stamps(LARGE)) is not None
    assert any("terminating connection" in reason for reason in _waits(lab))
    assert lab.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
