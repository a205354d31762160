"""Metrics as a process gives them: a scrape of the service, a file, and what is said where they cannot be had."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from support.cli import Vecmig, one_live_tag
from support.project import Project
from support.waiting import wait_for

#: What ``live`` stands on.
BEGINNINGS = {"live": one_live_tag}


@pytest.fixture
def live(project: Project) -> Project:
    """A project whose only tag is live."""
    return project


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _scrape(port: int, accept: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def _samples(families: object) -> dict[str, float]:
    return {sample.name: sample.value for family in families for sample in family.samples}  # type: ignore[attr-defined]


def test_the_service_answers_scrapes_in_both_formats(live: Project) -> None:
    port = _free_port()
    with live.running("sync", "--watch", "--metrics", f"127.0.0.1:{port}") as process:
        wait_for(lambda: _listens(port), process)
        text = _scrape(port, "application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        families = openmetrics(text)  # type: ignore[no-untyped-call]
        assert _samples(families)["vecmig_up"] == 1
        again = _samples(plain(_scrape(port, "text/plain")))
        assert again["vecmig_records"] == 40
        assert again["vecmig_measured_age_seconds"] > 0, "the same look serves the next scrape"
        process.send_signal(signal.SIGTERM)
        _, noted = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"Metrics: http://127.0.0.1:{port}/metrics" in noted


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_file_is_what_is_printed(live: Project, vecmig: Vecmig, tmp_path: Path) -> None:
    printed = _samples(plain(vecmig("metrics").stdout))
    file = tmp_path / "vecmig.prom"
    assert vecmig("metrics", "--output", str(file)).stdout == ""
    written = _samples(plain(file.read_text()))
    assert printed.keys() == written.keys()
    assert [path.name for path in tmp_path.glob("vecmig.prom*")] == ["vecmig.prom"], "nothing half written stays"


def test_what_cannot_be_is_told(live: Project, vecmig: Vecmig, tmp_path: Path) -> None:
    failed = vecmig("metrics", "--output", str(tmp_path / "nowhere" / "vecmig.prom"), code=2)
    assert "cannot be written: No such file or directory." in failed.stderr
    assert (
        "--metrics is for a service.\nAdd --watch, or run: vecmig metrics"
        in vecmig("sync", "--metrics", "127.0.0.1:9187", code=2).stderr
    )
    for address in ("9187", "127.0.0.1:", ":9187", "127.0.0.1:http", "127.0.0.1:70000"):
        assert "is no address.\nWrite HOST:PORT" in vecmig("sync", "--watch", "--metrics", address, code=2).stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = vecmig("sync", "--watch", "--metrics", address, code=2)
    assert f"Nothing can listen on {address}: Address already in use." in failed.stderr


def test_a_database_that_is_away(live: Project) -> None:
    found = live.vecmig("metrics", env={"VECMIG_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert (found.code, found.stdout) == (6, "")


def test_without_the_extra_the_error_names_it(live: Project) -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; from vecmig.cli.app import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, "metrics"], cwd=live.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.search(r"Metrics need the extra web: .*\nRun: pip install 'vecmig\[web\]'", done.stderr)
