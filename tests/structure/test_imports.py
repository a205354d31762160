"""Starting is quick because a foreign package is imported only by what needs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.source import ROOT

SHOW = "print('loaded:', *sorted(sys.modules))"
RUN = f"""
import atexit, runpy, sys
atexit.register(lambda: {SHOW})
sys.argv = ["vecmig", *sys.argv[1:]]
runpy.run_module("vecmig", run_name="__main__")
"""

#: Of all packages that pyproject.toml names, those that each command loads; it must load no other.
COMMAND = {"typer"}
SCRIPTS = COMMAND
LEDGER = COMMAND | {"psycopg", "sqlalchemy"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one revision."""
    for command in (["init"], ["revision", "-m", "first"]):
        _loaded(tmp_path, RUN, *command)
    return tmp_path


def _loaded(folder: Path, code: str, *args: str, **environment: str) -> set[str]:
    """Run Python; return the packages of pyproject.toml that it has loaded in the end."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *args]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("loaded:"), done.stdout
    made_by = packages_distributions()
    loaded = {name.split(".")[0] for name in last.split()[1:]}
    return {_normal(maker) for name in loaded for maker in made_by.get(name, [])} & _declared()


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    # typer brings pydantic, and loads it for an option that is given
    return {_normal(Requirement(line).name) for line in listed} - {"vecmig"} | {"pydantic"}


def _normal(name: str) -> str:
    return str(canonicalize_name(name))


@pytest.mark.parametrize("module", ["vecmig", "vecmig.integrations"])
def test_importing_vecmig_loads_nothing_foreign(tmp_path: Path, module: str) -> None:
    assert _loaded(tmp_path, f"import sys, {module}; {SHOW}") == set()


@pytest.mark.parametrize(
    ("module", "package", "needs", "extra"),
    [
        ("langchain", "langchain_core", "langchain-core", "langchain"),
        ("llama_index", "llama_index", "llama-index-core", "llama-index"),
    ],
)
def test_a_retriever_without_its_framework_names_the_command(module: str, package: str, needs: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import vecmig.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: vecmig.integrations.{module} needs {needs}: ")
    assert last.endswith(f"Run: pip install 'vecmig[{extra}]'")


@pytest.mark.parametrize("args", [["--help"], ["upgrade", "--help"], ["status", "--help"]], ids=" ".join)
def test_help_loads_what_reads_the_command_line(tmp_path: Path, args: list[str]) -> None:
    assert _loaded(tmp_path, RUN, *args) == COMMAND


@pytest.mark.parametrize("command", ["heads", "history", "check --offline"])
def test_what_reads_scripts_knows_no_database(project: Path, command: str) -> None:
    loaded = _loaded(project, RUN, *command.split())
    assert loaded <= SCRIPTS | {"pyyaml"}
    assert ("pyyaml" in loaded) is (command == "check --offline")


def test_what_reads_the_ledger_knows_no_vectors(project: Path, database_url: str) -> None:
    _loaded(project, RUN, "ensure_version", VECMIG_DATABASE_URL=database_url)

    loaded = _loaded(project, RUN, "current", VECMIG_DATABASE_URL=database_url)

    assert LEDGER - {"sqlalchemy"} <= loaded <= LEDGER
