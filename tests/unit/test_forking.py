"""A forked Python is what one that begins anew is, for all that the tests ask of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.forking import Python, run_python

SHOW = (
    "import os, sys; print(__name__, sys.argv[1:], sys.stdin.read(), os.getcwd(), os.environ['WORD'], sorted(vars()))"
)
PROGRAMS = {
    "shows what it was given": f"{SHOW}; print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors)",
    "ends with a code": "import sys; print('said'); sys.exit(3)",
    "ends with a word": "import sys; sys.exit('no')",
    "is interrupted": "import os, signal; print('said'); signal.raise_signal(signal.SIGINT)",
    "is killed": "import os, signal; print('lost'); os.kill(os.getpid(), signal.SIGKILL)",
    "leaves in a hurry": "import os; print('lost'); os._exit(4)",
    "has something to do at its end": "import atexit; atexit.register(print, 'at the end')",
    "has a thread": "import threading; threading.Timer(0.01, print, ['late']).start()",
    "writes what it found": "import sys; print(sys.stdin.errors, sys.stderr.errors, sys.stderr.line_buffering)",
}


def _like(args: list[str], folder: Path) -> tuple[tuple[int, str], tuple[int, str]]:
    """Run Python with these arguments in both ways; give exit code and stdout of each."""
    environment = os.environ | {"WORD": "ä", "PYTHONUTF8": "1"}
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    new = subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, stdin=nothing, stdout=pipe, stderr=pipe, check=False
    )
    forked = run_python(args, imports=[], cwd=folder, env=environment)
    return (new.returncode, new.stdout.decode()), (forked.returncode, forked.stdout)


@pytest.mark.parametrize("code", PROGRAMS.values(), ids=PROGRAMS)
def test_code_runs_as_in_a_new_process(tmp_path: Path, code: str) -> None:
    new, forked = _like(["-c", code, "one", "two"], tmp_path)

    assert forked == new


@pytest.mark.parametrize("how", [["-m", "shown"], ["shown.py"], [str(Path("folder", "shown.py"))]])
def test_a_module_and_a_script_run_as_in_a_new_process(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    for place in (tmp_path, tmp_path / "folder"):
        (place / "shown.py").write_text(
            "import sys, beside; print(__name__, __file__, sys.argv)\nsys.exit(beside.CODE)"
        )
        (place / "beside.py").write_text(f"CODE = {len(place.name)}")

    new, forked = _like([*how, "one"], tmp_path)

    assert forked == new
    assert forked[1]


def test_it_can_be_waited_for_signalled_and_asked_for_its_code() -> None:
    with Python(["-c", "input()"], imports=[], stdin=subprocess.PIPE) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == process.poll() == -signal.SIGTERM
    process.kill()


def test_it_has_its_own_group_where_it_is_asked_for() -> None:
    code = "import os; print(os.getpid() == os.getpgrp())"
    outputs = [run_python(["-c", code], imports=[], start_new_session=own).stdout for own in (False, True)]

    assert outputs == ["False\n", "True\n"]


def test_what_it_imports_is_there_before_it_begins() -> None:
    code = "import sys; print('wave' in sys.modules, 'antigravity' in sys.modules)"

    assert run_python(["-c", code], imports=["wave"]).stdout == "True False\n"
