"""A project directory as a user has one, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from support.cli import Prepare, Vecmig, copied, in_project, new_project, prepared
from support.postgres import Postgres
from support.project import Project, Result
from support.provider import Provider
from vecmig.cli.app import main
from vecmig.embedders.wordllama import _logging_untouched


@pytest.fixture(scope="session", autouse=True)
def _made_once() -> Iterator[None]:
    """Put the command line together once for all runs inside this process: it takes longer than most commands do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@cache
def _loading_once() -> Any:
    with _logging_untouched():
        import wordllama
    return cache(wordllama.WordLlama.load)


@pytest.fixture(scope="module", autouse=True)
def _loaded_once() -> Iterator[None]:
    """Load each model once for all runs inside this process; other tests load their own."""
    load = _loading_once()
    import wordllama

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordllama.WordLlama, "load", load)
        yield


@pytest.fixture
def beginning(request: pytest.FixtureRequest) -> Prepare | None:
    """What brings ``project`` to where the test begins, once for all tests that begin there.

    A module says it in ``BEGINNINGS``, by the fixture that stands on it.
    """
    beginnings: dict[str, Prepare] = getattr(request.module, "BEGINNINGS", {})
    return next((prepare for fixture, prepare in beginnings.items() if fixture in request.fixturenames), None)


@pytest.fixture
def copied_project(
    beginning: Prepare | None, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Project] | None:
    """The project that is copied, with the name of its database."""
    if beginning is None:
        return None
    directory = tmp_path_factory.mktemp("beginning") / "project"
    return postgres.prepared(beginning.__module__, lambda url: prepared(directory, url, beginning))


@pytest.fixture
def template(copied_project: tuple[str, Project] | None) -> str | None:
    """The database of the project that is copied."""
    return None if copied_project is None else copied_project[0]


@pytest.fixture
def project(tmp_path: Path, database_url: str, copied_project: tuple[str, Project] | None) -> Project:
    """A project on a fresh, empty database, with no revisions yet; collections.yaml asks for ``OLD_TAG``."""
    directory = tmp_path / "project"
    return (
        new_project(directory, database_url)
        if copied_project is None
        else copied(copied_project[1], directory, database_url)
    )


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
def vecmig(project: Project, capfd: pytest.CaptureFixture[str]) -> Iterator[Vecmig]:
    """``vecmig("upgrade", code=0)``: the program inside this process, in the project's directory.

    It is the same program from its error boundary on, without the half second that a process takes to start.
    """

    def run(*args: str, code: int | None = 0) -> Result:
        capfd.readouterr()
        exit_code = main(list(args))
        out, err = capfd.readouterr()
        result = Result(args, exit_code, out, err)
        return result if code is None else result.expect(code)

    with in_project(project):
        yield run
