"""Run the tests as pytest does, and each that failed once more, alone; one that then passes is listed as flaky.

A run with a crashed worker, an error in collection or more than a few failures is no matter of chance, and fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

MOST_FAILURES = 10


class SecondChance:
    """Pytest plugin that runs failed tests again when the others are done."""

    def __init__(self) -> None:
        self.crashed = False
        self.terminal: Any = None
        self.flaky: dict[str, list[pytest.TestReport]] = {}

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Find where to write."""
        self.terminal = session.config.pluginmanager.get_plugin("terminalreporter")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name a test that failed at once: the summary comes an hour later on a busy machine."""
        if report.failed and self.terminal is not None:
            self.terminal.ensure_newline()
            self.terminal.write_line(f"{report.nodeid} ({report.when}) failed", red=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object | None) -> None:
        """Note that a worker died, which pytest-xdist counts as a failure of the test that it ran."""
        self.crashed = self.crashed or bool(error)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Run again what failed, take what passes now off the failures, and pass the run when none is left."""
        terminal = self.terminal
        if terminal is None or session.exitstatus != pytest.ExitCode.TESTS_FAILED:
            return
        failed = _by_test(terminal.stats)
        terminal.ensure_newline()
        if reason := self._refusal(session, failed):
            terminal.write_line(f"No failed test is run again: {reason}.", red=True)
            return
        for test, reports in failed.items():
            passed, output = _run_alone(test, session.config.rootpath)
            terminal.write_sep("-", f"{'passed' if passed else 'failed again'}, alone: {test}")
            if passed:
                self.flaky[test] = reports
            else:
                terminal.write_line(output)
        _move(self.flaky, terminal.stats)
        if len(self.flaky) == len(failed):
            session.exitstatus = pytest.ExitCode.OK

    def _refusal(self, session: pytest.Session, failed: dict[str, list[Any]]) -> str | None:
        if self.crashed:
            return "a worker crashed"
        if session.shouldfail or session.shouldstop:
            return "the run stopped before its end"
        if not all(isinstance(report, pytest.TestReport) for reports in failed.values() for report in reports):
            return "some tests could not be collected"
        if not 0 < len(failed) <= MOST_FAILURES:
            return f"{len(failed)} failed, and with more than {MOST_FAILURES} it is no chance"
        return None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the flaky tests with what they said."""
        if not self.flaky:
            return
        terminalreporter.section("flaky", yellow=True)
        for test, reports in self.flaky.items():
            for report in reports:
                terminalreporter.write_sep("_", f"{test} ({report.when})")
                terminalreporter.write_line(report.longreprtext)
        for test in self.flaky:
            terminalreporter.write_line(f"FLAKY {test}")


def _by_test(stats: dict[str, list[Any]]) -> dict[str, list[Any]]:
    failed: dict[str, list[Any]] = {}
    for report in [*stats.get("failed", []), *stats.get("error", [])]:
        failed.setdefault(report.nodeid, []).append(report)
    return failed


def _run_alone(test: str, directory: Path) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:randomly", f"--junitxml={report}", test]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, errors="replace", check=False)
        passed = done.returncode == 0 and _outcomes(report) == [("tests", 1)]
        return passed, done.stdout + done.stderr


def _outcomes(report: Path) -> list[tuple[str, int]]:
    """Return the counts of a junit report that are not 0; a test that skips itself this time has not passed."""
    (suite,) = ET.parse(report).getroot()  # noqa: S314 - pytest wrote it a moment ago
    counts = ((name, int(suite.attrib[name])) for name in ("tests", "errors", "failures", "skipped"))
    return [(name, count) for name, count in counts if count]


def _move(flaky: dict[str, list[pytest.TestReport]], stats: dict[str, list[Any]]) -> None:
    """Count flaky tests as such in pytest's closing line, once each, and no longer as passed or failed."""
    for kind in ("failed", "error", "passed"):
        kept = [report for report in stats.pop(kind, []) if report.nodeid not in flaky]
        if kept:
            stats[kind] = kept
    if flaky:
        stats["flaky"] = [reports[0] for reports in flaky.values()]


if __name__ == "__main__":
    sys.exit(pytest.main(plugins=[SecondChance()]))
