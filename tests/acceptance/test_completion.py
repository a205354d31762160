"""A shell offers the names that stand in a project, without a database, and says nothing where there is none."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import Vecmig, describe, documents_collection, local, script, tag, write_hashing
from support.project import Project

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash")
A, B = tag("a", 16), tag("b", 32)


@pytest.fixture
def described(project: Project) -> Project:
    """A project with two revisions, whose database is away."""
    write_hashing(project, 16, 32)
    describe(
        project, {"documents": documents_collection(B), "drafts": documents_collection(A)}, {A: local(16), B: local(32)}
    )
    script(project, "aaaa1", A)
    script(project, "aaab2", B, old=A, down="aaaa1")
    (project.path / "evals").mkdir()
    (project.path / "evals" / "faq.yaml").write_text("")
    return project


def offered(path: Path, *words: str, tmp_path: Path) -> list[str]:
    """Press Tab behind some words, in a bash that has read what vecmig says it has to."""
    program = tmp_path / "bin" / "vecmig"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vecmig "$@"\n')
    program.chmod(0o755)
    typed = " ".join(shlex.quote(word) for word in words)
    command = (
        f"source <(vecmig --show-completion bash) && COMP_WORDS=({typed}) && COMP_CWORD={len(words) - 1} && "
        "_vecmig_completion vecmig && printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    path_of_it = f"{program.parent}:{os.environ['PATH']}"
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", command],
        cwd=path,
        env=os.environ | {"PATH": path_of_it, "VECMIG_DATABASE_URL": "postgresql://127.0.0.1:1/x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("vecmig", "down"), ["downgrade"]),
        (("vecmig", "gate", ""), ["documents", "drafts"]),
        (("vecmig", "gate", "documents", "dr"), ["drafts"]),
        (("vecmig", "view", "detach", "doc"), ["documents"]),
        (("vecmig", "search", "documents", "--tag", "b"), [B]),
        (("vecmig", "retire", "documents", ""), [A, B]),
        (("vecmig", "upgrade", "aaa"), ["aaab2", "aaaa1"]),
        (("vecmig", "upgrade", "h"), ["head"]),
        (("vecmig", "tune", "documents", "con"), ["concurrency="]),
        (("vecmig", "eval", ""), ["faq"]),
        (("vecmig", "status", "--wat"), ["--watch"]),
    ],
    ids=" ".join,
)
def test_what_stands_in_the_project_is_offered(
    described: Project, tmp_path: Path, words: tuple[str, ...], names: list[str]
) -> None:
    assert offered(described.path, *words, tmp_path=tmp_path) == names


def test_another_configuration_is_read_where_it_is_named(described: Project, tmp_path: Path) -> None:
    words = ("vecmig", "-c", str(described.ini), "gate", "dr")
    assert offered(tmp_path, *words, tmp_path=tmp_path) == ["drafts"]


@pytest.mark.parametrize("words", [("vecmig", "gate", "x"), ("vecmig", "upgrade", "x")], ids=" ".join)
def test_where_there_is_no_project_nothing_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert offered(tmp_path, *words, tmp_path=tmp_path) in ([], [""])


def test_a_script_that_prints_or_fails_disturbs_nobody(described: Project, vecmig: Vecmig, tmp_path: Path) -> None:
    path = described.versions[0]
    path.write_text(path.read_text() + "\nprint('loaded')\n")
    assert offered(described.path, "vecmig", "upgrade", "aaaa", tmp_path=tmp_path) == ["aaaa1"]
    path.write_text("raise SystemExit")
    assert offered(described.path, "vecmig", "upgrade", "aaaa", tmp_path=tmp_path) in ([], [""])
