"""What a run tells on a terminal: nothing of it is eaten, and where nothing may move it is told in plain lines."""

from __future__ import annotations

import re

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.project import Project
from support.terminal import shown, terminal

#: A run that waits for something that takes two lines of 60 columns to say, and tells something else meanwhile.
WAITS = """
from vecmig.cli.progress import Narrator
from vecmig.events import Noted, StepDone, StepStarted, Waiting, Warned

with Narrator() as tell:
    tell(StepStarted("backfill", "aaaa", "documents", "a@1/dim-3"))
    tell(Noted("before it waits"))
    tell(Waiting("a lock is taken by pid 4711 (web, transaction open for 00:12:01, idle in transaction)", 1.5))
    tell(Noted("while it waits"))
    tell(Warned("still while it waits"))
    tell(Waiting("it is paused"))
    tell(Noted("while it is paused"))
    tell(StepDone("backfill", "aaaa", "documents", "20 records embedded", 2.0))
    tell(Noted("in the end"))
"""
#: What stays of it.
TOLD = [
    "aaaa  documents",
    "  before it waits",
    "  while it waits",
    "  warning: still while it waits",
    "  while it is paused",
    "  backfill  20 records embedded (2 s)",
    "  in the end",
]


def _run(project: Project, code: str, env: dict[str, str] | None = None) -> str:
    with terminal(project, "-c", code, columns=60, env=env) as opened:
        return opened.to_its_end()


def test_a_line_after_a_wait_of_two_lines_is_not_eaten(project: Project) -> None:
    written = _run(project, WAITS)
    assert "waiting: a lock is taken by pid 4711" in written, "it was shown"
    assert shown(written, columns=60).text.splitlines() == TOLD
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h"), "and the cursor is back"


def test_a_wait_before_the_first_step_is_shown(project: Project) -> None:
    code = WAITS.replace('    tell(StepStarted("backfill", "aaaa", "documents", "a@1/dim-3"))\n', "")
    written = _run(project, code)
    assert "waiting: a lock is taken by pid 4711" in written
    assert shown(written, columns=60).text.splitlines() == TOLD[1:]


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_on_a_plain_terminal_waits_and_progress_are_lines(project: Project, variables: dict[str, str]) -> None:
    progress = """
from vecmig.cli import progress
from vecmig.events import Progress
progress._PLAIN_EVERY = 0.0
"""
    begins = 'tell(StepStarted("backfill", "aaaa", "documents", "a@1/dim-3"))'
    code = progress + WAITS.replace(begins, f'{begins}; tell(Progress("documents", "a@1/dim-3", 5, 20, 0, 10.0, 0.25))')
    written = _run(project, code, variables)
    assert "\x1b" not in written
    said = ["  backfill 5 of 20, 10/s, 1.5 s left, coverage 25 %"]
    blocker = "pid 4711 (web, transaction open for 00:12:01, idle in transaction)"
    waits = f"  waiting: a lock is taken by {blocker}, next try in 1.5 s"
    expected = [TOLD[0], *said, TOLD[1], waits, *TOLD[2:4], "  waiting: it is paused", *TOLD[4:]]
    assert written.replace("\r\n", "\n").splitlines() == expected


def test_a_quiet_run_on_a_terminal_shows_warnings_only(project: Project) -> None:
    code = WAITS.replace("Narrator()", "Narrator(quiet=True)")
    assert _run(project, code, {"NO_COLOR": "1"}) == f"{TOLD[3]}\r\n"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_pause_is_shown(project: Project, vecmig: Vecmig, variables: dict[str, str]) -> None:
    made = tag("model", 16)
    make_documents(project, 40)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(made)}, {made: local(16)})
    script(project, "aaaa", made)
    vecmig("upgrade", "--until", "expand")
    vecmig("pause", "--reason", "the site is slow")
    with terminal(project, "-m", "vecmig", "backfill", columns=60, env=variables) as opened:
        opened.wait_for(lambda screen: "the site is slow" in " ".join(screen.text.split()))
        vecmig("resume")
        text = shown(opened.to_its_end(), columns=60).text
    assert opened.process.wait() == 0
    assert re.search(r"^  backfill  documents: 40 records embedded", text, re.MULTILINE)
    assert text.endswith("documents: 40 of 40 records fresh, 100 %")
    assert ("waiting: " in text) == bool(variables), "what moved is gone, a plain line stays"
