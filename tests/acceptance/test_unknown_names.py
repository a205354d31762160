"""A collection or tag that does not exist is a mistake on the command line, whichever command is given its name."""

from __future__ import annotations

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
    ["untrack", "papers"],
    ["view", "detach", "papers"],
    ["view", "attach", "papers"],
    ["adopt-source", "papers"],
    ["revision", "--collection", "papers"],
    ["status", "papers"],
    ["upgrade", "papers"],
]


def _prepare(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 30)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade")
    vecmig("eval", "--make", "known-item", "--collection", "documents")


#: What ``ready`` stands on.
BEGINNINGS = {"ready": _prepare}


@pytest.fixture
def ready(project: Project) -> Project:
    """A project whose one tag is live, with a suite."""
    return project


def test_an_unknown_name_is_a_mistake_on_the_command_line(ready: Project, vecmig: Vecmig) -> None:
    results = [vecmig(*command, code=None) for command in COMMANDS]

    assert [(" ".join(r.args), r.code, r.stderr) for r in results if r.code != 2] == []
    assert [(" ".join(r.args), r.stdout) for r in results if r.stdout] == []
    for result in results:
        name = next(word for word in reversed(result.args) if word in ("papers", OTHER, "no tag"))
        assert name in result.stderr, result.args


def test_a_condition_that_does_not_work_is_one_too(ready: Project, vecmig: Vecmig) -> None:
    hint = "Correct it. It is a condition over public.documents, whose columns are: id, title, body\n"
    for where, said in {
        "nope = 1": 'column "nope" does not exist (at character 1 of nope = 1).',
        "id = ": "syntax error (at the end of id = ).",
        "id = 'x'": "invalid input syntax for type bigint: \"x\" (at character 6 of id = 'x').",
    }.items():
        refused = vecmig("search", "documents", "x", "--where", where, code=2)
        assert refused.stderr == f"where does not work: {said}\n{hint}"
    vecmig("search", "documents", "x", "--where", "id = %s", "--param", "y", code=2)
    assert vecmig("search", "documents", "x", "--where", "id = %s", "--param", "7").code == 0


@pytest.mark.parametrize("field", ["text", "where"])
def test_an_expression_that_does_not_work_is_one_for_every_command(ready: Project, vecmig: Vecmig, field: str) -> None:
    write_hashing(ready, 16, 32)
    tags = {A: local(16), OTHER: local(32)}
    describe(ready, {"documents": documents_collection(OTHER)}, tags)
    script(ready, "bbbb", OTHER, old=A, down="aaaa")
    vecmig("upgrade", "--until", "expand")
    describe(ready, {"documents": documents_collection(OTHER, **{field: "nope || title"})}, tags)
    for command in ("sync", "check", "upgrade", "plan", "backfill", "gate documents"):
        refused = vecmig(*command.split(), code=None)
        assert (command, refused.code) == (command, 2)
        assert 'column "nope" does not exist' in refused.stderr
        assert "Traceback" not in refused.stderr
    assert 'column "nope" does not exist' in vecmig("status").stdout


def test_of_a_database_without_vecmig_an_unknown_name_is_the_same_mistake(project: Project, vecmig: Vecmig) -> None:
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})

    for command in (
        ["search", "papers", "x"],
        ["search", "documents", "x"],
        ["route", "papers"],
        ["rejected", "papers"],
    ):
        assert vecmig(*command, code=None).code == 2, command
