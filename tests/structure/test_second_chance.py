"""What .ci/run makes of a failed test: one that fails by chance is reported and passes; all else fails."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.forking import run_python
from support.source import ROOT

pytestmark = pytest.mark.long

#: With the plugins that say which tests run when; to find and import the others takes longer than these tests.
INI = """\
[pytest]
addopts = --import-mode=importlib --strict-markers -ra -p xdist -p randomly {workers}
"""

#: As .ci/run has it, and in this process, which is faster.
WORKERS = "-n2 --dist=worksteal"
ONE_PROCESS = "-n0"

#: Fails the first time it runs, and passes from then on.
ONCE = """
from pathlib import Path

def test_chance():
    mark = Path({mark!r})
    seen = mark.exists()
    mark.touch()
    assert seen, "the first time it fails"
"""
GOOD = "def test_good(): pass\n"
BAD = "def test_bad(): assert 1 + 1 == 3\n"


def _run(folder: Path, *arguments: str, workers: str = ONE_PROCESS, **files: str) -> tuple[int, str]:
    """Run .ci/tests.py on these test files."""
    (folder / "pytest.ini").write_text(INI.format(workers=workers))
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = run_python([ROOT / ".ci" / "tests.py", *arguments], imports=["pytest"], cwd=folder, env=environment)
    return done.returncode, done.stdout + done.stderr


def _closing_line(output: str) -> str:
    found = re.fullmatch(r"=+ (.*) in [\d.]+s(?: \(.*\))? =+", output.splitlines()[-1])
    assert found, output
    return found[1]


def test_the_script_runs_the_tests_this_way() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    _, tests, after = script.partition('\nstep "$venv/bin/python" .ci/tests.py || failed=1\n')
    assert tests
    assert '\n[ -z "${failed:-}" ] || exit 1\n' in after


def test_a_run_without_a_failure_is_pytests_own(tmp_path: Path) -> None:
    code, output = _run(tmp_path, good=GOOD)

    assert (code, _closing_line(output)) == (0, "1 passed")
    assert "flaky" not in output


@pytest.mark.parametrize("workers", [WORKERS, ONE_PROCESS])
def test_a_test_that_passes_alone_is_listed_with_what_it_said(tmp_path: Path, workers: str) -> None:
    once = ONCE.format(mark=str(tmp_path / "mark"))

    code, output = _run(tmp_path, workers=workers, good=GOOD, once=once)

    assert (code, _closing_line(output)) == (0, "1 passed, 1 flaky")
    section = output[re.search(r"=+ flaky =+", output).end() :]  # type: ignore[union-attr]
    assert "AssertionError: the first time it fails" in section
    assert "FLAKY test_once.py::test_chance" in section
    assert "= FAILURES =" not in output


def test_a_test_that_fails_again_fails_the_run(tmp_path: Path) -> None:
    code, output = _run(tmp_path, good=GOOD, bad=BAD, once=ONCE.format(mark=str(tmp_path / "mark")))

    assert (code, _closing_line(output)) == (1, "1 failed, 1 passed, 1 flaky")
    assert "failed again, alone: test_bad.py::test_bad" in output
    assert "FAILED test_bad.py::test_bad" in output
    assert "FLAKY test_once.py::test_chance" in output


def test_a_fixture_that_fails_once_is_flaky_and_counted_once(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    text = f"""
import pytest
from pathlib import Path

@pytest.fixture
def place():
    yield
    assert Path({mark!r}).exists() or Path({mark!r}).touch(), "not tidied"

def test_place(place): pass
"""

    code, output = _run(tmp_path, fixture=text)

    assert (code, _closing_line(output)) == (0, "1 flaky")
    assert "not tidied" in output


def test_a_test_that_skips_itself_the_second_time_has_not_passed(tmp_path: Path) -> None:
    text = ONCE.format(mark=str(tmp_path / "mark")).replace("    mark.touch()", "    mark.touch()\n    skip_if(seen)")
    text += "\n\ndef skip_if(seen):\n    import pytest\n    if seen: pytest.skip('no server')\n"

    code, output = _run(tmp_path, once=text)

    assert (code, _closing_line(output)) == (1, "1 failed")


@pytest.mark.parametrize("workers", [WORKERS, ONE_PROCESS])
def test_an_error_in_collection_fails(tmp_path: Path, workers: str) -> None:
    code, output = _run(tmp_path, workers=workers, good=GOOD, broken="import nothing_of_this_name\n")

    assert code != 0
    assert "1 error" in _closing_line(output)
    assert "alone:" not in output


def test_an_error_in_collection_that_the_run_goes_on_from_fails(tmp_path: Path) -> None:
    files = {"once": ONCE.format(mark=str(tmp_path / "mark")), "broken": "import nothing_of_this_name\n"}

    code, output = _run(tmp_path, "--continue-on-collection-errors", **files)

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "could not be collected" in output
    assert "alone:" not in output


def test_a_crashed_worker_fails(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    text = f"""
import os
from pathlib import Path

def test_crash():
    if not Path({mark!r}).exists():
        Path({mark!r}).touch()
        os._exit(9)
"""

    code, output = _run(tmp_path, workers=WORKERS, good=GOOD, crash=text)

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "a worker crashed" in output
    assert "alone:" not in output


def test_many_failures_are_no_chance(tmp_path: Path) -> None:
    text = "import pytest\n\n@pytest.mark.parametrize('i', range(11))\ndef test_bad(i): assert False\n"

    code, output = _run(tmp_path, bad=text)

    assert (code, _closing_line(output)) == (1, "11 failed")
    assert "alone:" not in output


def test_a_run_that_stops_at_a_failure_fails(tmp_path: Path) -> None:
    once = ONCE.format(mark=str(tmp_path / "mark"))

    code, output = _run(tmp_path, "-x", workers="-n0 -p no:randomly", a_once=once, good=GOOD)

    assert code != 0
    assert "alone:" not in output


def test_no_tests_at_all_fail(tmp_path: Path) -> None:
    assert _run(tmp_path)[0] == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("raised", "code"),
    [("RuntimeError", pytest.ExitCode.INTERNAL_ERROR), ("KeyboardInterrupt", pytest.ExitCode.INTERRUPTED)],
)
def test_an_internal_error_and_an_interrupt_fail(tmp_path: Path, raised: str, code: pytest.ExitCode) -> None:
    (tmp_path / "conftest.py").write_text(f"def pytest_runtest_logfinish(nodeid): raise {raised}\n")

    found, output = _run(tmp_path, once=ONCE.format(mark=str(tmp_path / "mark")))

    assert found == code
    assert "alone:" not in output
