"""What happened is told in full, oldest first, and what comes to it once, whatever commits when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect
from vecmig import runner
from vecmig.errors import ConfigError
from vecmig.events import Event, Waiting
from vecmig.ledger import history
from vecmig.ledger.rows import EventRow

Connection = psycopg.Connection[Any]
WRITE = "INSERT INTO vecmig.event (kind, collection, version, at) VALUES (%s, %s, '0', now() - %s::interval)"


class _Over(Exception):
    """A test has seen enough."""


def _write(connection: Connection, kind: str, collection: str | None = "documents", ago: str = "0") -> None:
    connection.execute(WRITE, [kind, collection, ago])


def _kinds(events: Iterator[EventRow] | list[EventRow]) -> list[str]:
    return [event.kind for event in events]


def _followed(lab: Lab, steps: list[Callable[[], object]], **how: Any) -> list[list[str]]:
    """Follow; each step happens between two looks. Return what each look has found."""
    found: list[list[str]] = [[]]

    def sleep(_seconds: float) -> None:
        if not steps:
            raise _Over
        steps.pop(0)()
        found.append([])

    with suppress(_Over):
        for event in runner.follow_events(lab.config, sleep=sleep, **how):
            found[-1].append(event.kind)
    return found


@pytest.mark.upgraded("r1")
def test_everything_is_told_with_its_figures(lab: Lab) -> None:
    found = list(runner.events(lab.config))
    assert _kinds(found) == ["expand", "backfill", "index", "cutover"]
    assert {(event.collection, event.tag, event.revision, event.role) for event in found} == {
        ("documents", SMALL, "r1", "postgres")
    }
    assert found[1].data["written"] == 20
    assert all(event.host and event.version for event in found)
    assert [event.id for event in found] == sorted(event.id for event in found)
    assert runner.newest_event(lab.config) == found[-1]
    assert runner.known_tags(lab.config) == {"documents": (SMALL,)}


@pytest.mark.upgraded("r1")
def test_since_and_collection(lab: Lab, connection: Connection) -> None:
    _write(connection, "old", ago="10 days")
    _write(connection, "older", ago="20 days")
    _write(connection, "of another", "papers")
    _write(connection, "of none", None)
    own = ["expand", "backfill", "index", "cutover"]
    assert _kinds(runner.events(lab.config, since=timedelta(days=7))) == [*own, "of another", "of none"]
    assert _kinds(runner.events(lab.config, since=timedelta(days=11), collection="documents")) == [*own, "old"]
    assert _kinds(runner.events(lab.config, since=datetime.now(UTC) + timedelta(days=1))) == []
    assert _kinds(runner.events(lab.config, since=datetime(2020, 1, 1, tzinfo=UTC), collection="papers")) == [
        "of another"
    ]
    newest = runner.newest_event(lab.config, "papers")
    assert newest is not None
    assert newest.kind == "of another", "the history knows a collection that collections.yaml does not name"
    with pytest.raises(ConfigError, match="papes"):
        runner.newest_event(lab.config, "papes")


@pytest.mark.upgraded("r1")
def test_a_long_history_is_read_page_by_page(lab: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_PAGE", 3)
    for number in range(5):
        _write(connection, f"e{number}")
    assert _kinds(runner.events(lab.config))[4:] == [f"e{number}" for number in range(5)]
    assert len(_kinds(runner.events(lab.config))) == 9


@pytest.mark.upgraded("r1")
def test_what_happens_is_followed(lab: Lab, connection: Connection) -> None:
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: _write(connection, "a"),
        lambda: _write(connection, "of another", "papers"),
        lambda: connection.cursor().executemany(WRITE, [(kind, "documents", "0") for kind in ("b", "c")]),
        lambda: None,
        lambda: None,
    ]
    first = ["expand", "backfill", "index", "cutover"]
    assert _followed(lab, steps, collection="documents") == [first, [], ["a"], [], ["b", "c"], [], []]


@pytest.mark.upgraded("r1")
def test_an_event_that_commits_after_a_later_one_is_told(lab: Lab, connection: Connection, connect: Connect) -> None:
    slow = connect()
    slow.autocommit = False

    def begin() -> None:
        _write(slow, "slow")
        _write(connection, "quick")

    steps: list[Callable[[], object]] = [begin, lambda: None, lambda: None, slow.commit, lambda: None, lambda: None]
    assert _followed(lab, steps, since=timedelta(0)) == [[], ["quick"], [], [], ["slow"], [], []]


@pytest.mark.upgraded("r1")
def test_what_was_settled_is_not_read_again(lab: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that finds nothing costs nothing that grows with the history."""
    read: list[int] = []
    page = history.History.read

    def counted(self: history.History, *, after: int = 0, **how: Any) -> Iterator[EventRow]:
        read.append(after)
        return page(self, after=after, **how)

    monkeypatch.setattr(history.History, "read", counted)
    steps: list[Callable[[], object]] = [lambda: None, lambda: None, lambda: _write(connection, "a"), lambda: None]
    _followed(lab, steps, since=timedelta(0))
    ((last,),) = lab.sql("SELECT max(id) - 1 FROM vecmig.event")
    assert (read[0], read[2], read[3]) == (0, last, last)


@pytest.mark.upgraded("r1")
def test_a_session_that_is_ended_is_opened_again(lab: Lab, connection: Connection) -> None:
    waits: list[Event] = []
    others = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'vecmig%'"
    )

    def end() -> None:
        assert connection.execute(others).rowcount == 1
        _write(connection, "a")

    first = ["expand", "backfill", "index", "cutover"]
    assert _followed(lab, [end, lambda: None], listener=waits.append) == [first, ["a"], []]
    (wait,) = waits
    assert isinstance(wait, Waiting)
    assert "cannot be reached" in wait.reason


def test_before_vecmig_is_there_nothing_happened_and_then_it_does(lab: Lab) -> None:
    steps: list[Callable[[], object]] = [lambda: None, lambda: lab.upgrade("r1"), lambda: None]
    own = ["expand", "backfill", "index", "cutover"]
    assert _followed(lab, steps) == [[], [], own, []]


@pytest.mark.upgraded("r1")
def test_after_vecmig_was_uninstalled_it_begins_again(lab: Lab) -> None:
    own = ["expand", "backfill", "index", "cutover"]
    steps: list[Callable[[], object]] = [
        lambda: runner.uninstall(lab.config),
        lambda: lab.upgrade("r1"),
        lambda: None,
    ]
    assert _followed(lab, steps) == [own, [], own, []]
    assert LARGE not in runner.known_tags(lab.config)["documents"]
