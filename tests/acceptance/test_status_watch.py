"""``vecmig status --watch``: drawn in place, ended at once, for people, for pipes and for programs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from support.cli import Vecmig, one_live_tag
from support.postgres import Postgres
from support.project import Project
from support.terminal import Terminal, terminal

EDIT = "UPDATE documents SET body = 'edited' WHERE id = 1"


#: What ``live`` stands on.
BEGINNINGS = {"live": one_live_tag}


@pytest.fixture
def live(project: Project) -> Project:
    """A project whose only tag is live."""
    return project


@contextmanager
def drawn(project: Project, *args: str, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """Watch on a terminal."""
    command = ("-m", "vecmig", "status", "--watch", "--interval", "0.2", *args)
    with terminal(project, *command, columns=columns, rows=rows) as opened:
        yield opened


def piped(project: Project, *args: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Watch without a terminal."""
    return project.running("status", "--watch", "--interval", "0.2", *args)


def _until(process: subprocess.Popen[str], end: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith(end):
        lines.append(process.stdout.readline().rstrip("\n"))
        assert lines[-1] or process.poll() is None, lines
    return lines


def test_it_is_drawn_in_place_and_leaves_the_last_status_behind(live: Project) -> None:
    with drawn(live) as opened:
        first = opened.wait_for(lambda screen: "next      nothing to do" in screen.text)
        assert "documents  OK  live model/dim-16, 0 behind" in first.text
        live.sql(EDIT)
        second = opened.wait_for(lambda screen: "next      vecmig sync" in screen.text)
        assert "documents  PENDING  live model/dim-16, 1 behind" in second.text
        assert "nothing to do" not in second.text, "what stood there is gone"
        for _ in range(5):
            drawings = opened.written.count("\x1b[H")
            opened.wait_for(lambda _: opened.written.count("\x1b[H") > drawings)  # noqa: B023  # called at once
        assert opened.screen.scrolled == 0
        assert "\x1b[2J" not in opened.written, "nothing is cleared that is drawn again: it would flicker"
        opened.process.send_signal(signal.SIGINT)
        opened.to_its_end()
    assert opened.process.returncode == 0
    assert opened.screen.behind is None, "the first screen is back"
    assert opened.screen.text.splitlines()[0].startswith("database  ")
    assert opened.screen.text.splitlines()[-1] == "next      vecmig sync"
    assert opened.screen.text.count("database  ") == 1
    assert opened.written.count("\x1b[?25l") == opened.written.count("\x1b[?25h") == 1


def test_a_terminal_that_is_too_low_shows_the_beginning(live: Project) -> None:
    with drawn(live, rows=6) as opened:
        shown = opened.wait_for(lambda screen: "more lines" in screen.text)
        assert (len(shown.lines), shown.scrolled) == (6, 0)
        assert shown.text.splitlines()[0].startswith("database  ")
        opened.process.send_signal(signal.SIGINT)
        opened.to_its_end()
    assert opened.screen.text.splitlines()[-1] == "next      nothing to do", "at the end all of it is there"


def test_check_ends_once_nothing_is_pending(live: Project, vecmig: Vecmig) -> None:
    live.sql(EDIT)
    with drawn(live, "--check") as opened:
        opened.wait_for(lambda screen: "next      vecmig sync" in screen.text)
        vecmig("sync")
        opened.to_its_end()
    assert opened.process.returncode == 0
    assert opened.screen.text.splitlines()[-1] == "next      nothing to do"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_check_that_is_ended_says_what_is_pending(live: Project, number: int) -> None:
    live.sql(EDIT)
    with drawn(live, "--check") as opened:
        opened.wait_for(lambda screen: "next      vecmig sync" in screen.text)
        opened.process.send_signal(number)
        opened.to_its_end()
    assert opened.process.returncode == 4
    assert opened.screen.text.splitlines()[-2:] == ["Something is pending.", "Run: vecmig sync"]


def test_without_a_terminal_one_status_follows_the_other(live: Project) -> None:
    with piped(live) as process:
        first = _until(process, "next ")
        live.sql(EDIT)
        lines: list[str] = []
        while not lines or lines[-1] != "next      vecmig sync":
            lines = _until(process, "next ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert first[-1] == "next      nothing to do"
    assert lines[0] == "", "they are a blank line apart"
    assert lines[1].startswith("database  ")
    assert "\x1b" not in "".join([*first, *lines, out])
    assert (process.returncode, err) == (0, "")


def test_no_colour_is_plain_on_a_terminal_too(live: Project) -> None:
    command = ("-m", "vecmig", "status", "--watch", "--interval", "0.2")
    with terminal(live, *command, columns=80, env={"NO_COLOR": "1"}) as opened:
        opened.wait_for(lambda screen: screen.text.count("nothing to do") > 1)
        opened.process.send_signal(signal.SIGINT)
        assert "\x1b" not in opened.to_its_end()


def test_a_line_of_json_each(live: Project) -> None:
    with piped(live, "--json", "--check") as process:
        assert process.stdout is not None
        out, err = process.communicate(timeout=60)
    (found,) = [json.loads(line) for line in out.splitlines()]
    assert (found["settled"], found["collections"][0]["verdict"], process.returncode, err) == (True, "OK", 0, "")
    live.sql(EDIT)
    with piped(live, "--json", "--check") as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert [(line["next"], line["collections"][0]["verdict"]) for line in lines] == [("vecmig sync", "PENDING")] * 2
    assert (process.returncode, err) == (4, "Something is pending.\nRun: vecmig sync\n")


def test_a_database_that_went_away_is_waited_for(live: Project, postgres: Postgres) -> None:
    name = live.sql("SELECT current_database()")[0][0]
    allow = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"
    other = Project(live.path, postgres.url("postgres"))
    with drawn(live) as opened:
        opened.wait_for(lambda screen: "nothing to do" in screen.text)
        other.sql(allow.format(name, "false"))
        gone = opened.wait_for(lambda screen: "Tried again in 0.2 s" in " ".join(screen.text.split()))
        assert "documents  OK  live model/dim-16, 0 behind" in gone.text, "what was seen last stays"
        other.sql(allow.format(name, "true"))
        opened.wait_for(lambda screen: "Tried again" not in screen.text)
        opened.process.send_signal(signal.SIGINT)
        opened.to_its_end()
    assert opened.process.returncode == 0


def test_a_database_that_was_never_there_ends_it(live: Project) -> None:
    gone = {"VECMIG_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/gone"}
    assert live.vecmig("status", "--watch", env=gone).expect(6).stdout == ""
