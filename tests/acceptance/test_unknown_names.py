"""A collection or tag that does not exist is a mistake on the command line, whichever command is given its name."""

from __future__ import annotations

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.project import Project

A, OTHER = tag("hashing", 16), tag("hashing", 32)

COMMANDS = [
    ["search", "papers", "x"],
    ["search", "documents", "x", "--tag", OTHER],
    ["search", "documents", "x", "--tag", "no tag"],
    ["rejected", "papers"],
    ["rejected", "papers", "--retry"],
    ["audit", "papers"],
    ["gate", "papers"],
    ["backfill", "papers"],
    ["sync", "papers"],
    ["pause", "papers"],
    ["resume", "papers"],
    ["tune", "papers", "concurrency=2"],
    ["retire", "papers", A, "--yes"],
    ["retire", "documents", OTHER, "--yes"],
    ["retire", "documents", "no tag", "--yes"],
    ["route", "papers"],
    ["route", "papers", "--shadow", A],
    ["route", "documents", "--shadow", OTHER],
    ["compare", "papers"],
    ["eval", "--make", "known-item", "--collection", "papers", "--output", "evals/new.yaml"],
    ["eval", "known-item", "--tag", OTHER],
    ["plan", "papers"],
    ["upgrade", "papers"],
]


@pytest.fixture
def ready(project: Project, vecmig: Vecmig) -> Project:
    """A project whose one tag is live, with a suite."""
    make_documents(project, 30)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade")
    vecmig("eval", "--make", "known-item", "--collection", "documents")
    return project


def test_an_unknown_name_is_a_mistake_on_the_command_line(ready: Project, vecmig: Vecmig) -> None:
    results = [vecmig(*command, code=None) for command in COMMANDS]

    assert [(" ".join(r.args), r.code, r.stderr) for r in results if r.code != 2] == []
    assert [(" ".join(r.args), r.stdout) for r in results if r.stdout] == []
    for result in results:
        name = next(word for word in reversed(result.args) if word in ("papers", OTHER, "no tag"))
        assert name in result.stderr, result.args


def test_of_a_database_without_vecmig_an_unknown_name_is_the_same_mistake(project: Project, vecmig: Vecmig) -> None:
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})

    for command in (
        ["search", "papers", "x"],
        ["search", "documents", "x"],
        ["route", "papers"],
        ["rejected", "papers"],
    ):
        assert vecmig(*command, code=None).code == 2, command
