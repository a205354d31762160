"""A project directory as a user has one, on a database of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Vecmig, new_project
from support.project import Project, Result
from support.provider import Provider
from vecmig.cli.app import main


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    """A project on a fresh, empty database, with no revisions yet; collections.yaml asks for ``OLD_TAG``."""
    return new_project(tmp_path / "project", database_url)


@pytest.fixture
def documents(project: Project) -> int:
    """``public.documents`` with 300 records of the corpus in the project's database; the value is their number."""
    return project.load_documents()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of 8 dimensions that answers at once and takes every key."""
    with Provider(dims=8) as server:
        yield server


@pytest.fixture
def vecmig(project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Vecmig]:
    """``vecmig("upgrade", code=0)``: the program inside this process, in the project's directory.

    It is the same program from its error boundary on, without the half second that a process takes to start.
    """
    known_modules, known_path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(project.path)

    def run(*args: str, code: int | None = 0) -> Result:
        capfd.readouterr()
        exit_code = main(list(args))
        out, err = capfd.readouterr()
        result = Result(args, exit_code, out, err)
        return result if code is None else result.expect(code)

    yield run
    sys.path[:] = known_path
    for name in set(sys.modules) - known_modules:
        if name.startswith(("hashing", "noise")):
            del sys.modules[name]
