"""``vecmig serve`` and ``vecmig report`` as processes: who may look, what they may do, and how it ends."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cli import Vecmig, one_live_tag
from support.project import Project
from support.waiting import wait_for

TOKEN = "0123456789abcdef0123"


#: What ``live`` stands on.
BEGINNINGS = {"live": one_live_tag}


@pytest.fixture
def live(project: Project) -> Project:
    """A project whose only tag is live."""
    return project


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    code: int
    headers: http.client.HTTPMessage
    text: str


@dataclass(frozen=True)
class Server:
    """``vecmig serve`` at work."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, path: str = "/", method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Send a request; underscores in the names of headers are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()


@contextmanager
def serving(project: Project, *args: str) -> Iterator[Server]:
    """Serve until the block ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    with project.running("serve", "--port", str(port), *args) as process:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, process)
        yield Server(process, port)


def test_a_page_for_this_machine_alone(live: Project) -> None:
    with serving(live) as server:
        page = server.ask()
        assert page.code == 200
        assert "Searches use" in page.text
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (page.headers["X-Content-Type-Options"], page.headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert "server" not in page.headers
        # every address that the page loads is its own
        for address in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
            assert address == "data:," or server.ask(f"/{address}").code == 200, address
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page.text), "nothing is inline"
        # a page elsewhere, whose name was made to lead here
        for name in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "", "[::1]x.evil"):
            assert server.ask(Host=name).code == (200 if name == "[::1]x.evil" else 403), name
        for name in ("localhost", f"127.0.0.1:{server.port}", f"[::1]:{server.port}"):
            assert server.ask(Host=name).code == 200
        assert 'vecmig_records{collection="documents"} 40.0' in server.ask("/metrics").text
        assert server.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0").text.endswith("# EOF\n")
        server.process.send_signal(signal.SIGTERM)
        _, noted = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert noted == f"Serving http://127.0.0.1:{server.port}/; Ctrl-C ends it.\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_for_reading_only(live: Project, method: str) -> None:
    with serving(live) as server:
        assert server.ask(method=method).code == 405
        assert server.ask("/token", method).code == 405, "without a token there is nothing to log in to"


def test_other_addresses_want_a_token(live: Project, vecmig: Vecmig) -> None:
    for host in ("0.0.0.0", "::", "db.example.com"):
        refused = vecmig("serve", "--host", host, code=2).stderr
        assert f"Others can reach {host}: whoever looks has to know a token.\nSet VECMIG_WEB_TOKEN" in refused
    assert "A token has at least 16 characters." in vecmig("serve", "--token", "short", code=2).stderr


@pytest.mark.parametrize("given", ["option", "variable"])
def test_who_knows_the_token_looks(live: Project, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == "variable":
        monkeypatch.setenv("VECMIG_WEB_TOKEN", TOKEN)
    args = ["--token", TOKEN] if given == "option" else []
    with serving(live, *args) as server:
        for path in ("/", "/metrics", "/changes", "/nothing"):
            stranger = server.ask(path)
            assert stranger.code == 401
            assert "documents" not in stranger.text
        assert "This page asks for its token" in server.ask().text
        assert server.ask(Host="db.example.com", Authorization=f"Bearer {TOKEN}").code == 200
        for wrong in (TOKEN[:-1], TOKEN + "0", "", "0" * 20, "é" * 20):
            header = urllib.parse.quote(wrong) if not wrong.isascii() else wrong
            assert server.ask(Authorization=f"Bearer {header}").code == 401
            refused = server.ask("/token", "POST", urllib.parse.urlencode({"token": wrong}))
            assert (refused.code, "Set-Cookie" in refused.headers) == (401, False)
        entered = server.ask("/token", "POST", urllib.parse.urlencode({"token": TOKEN}))
        assert (entered.code, entered.headers["Location"]) == (303, ".")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie, "other servers of this host get it, too"
        assert "Searches use" in server.ask(Cookie=cookie.partition(";")[0]).text
        server.process.send_signal(signal.SIGINT)
        out, noted = server.process.communicate(timeout=60)
    assert TOKEN not in out + noted
    assert "to whoever has the token" in noted


def test_a_browser_that_follows_does_not_keep_it_from_ending(live: Project) -> None:
    with serving(live) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/changes")
        stream = connection.getresponse()
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.readline() == b"retry: 5000\n"
        live.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
        live.vecmig("pause", "--reason", "a change that the page shows").expect()
        while (line := stream.readline()) != b"event: changed\n":
            assert line in {b"\n", b":\n"}
        server.process.send_signal(signal.SIGTERM)
        _, noted = server.process.communicate(timeout=60)
        connection.close()
    assert server.process.returncode == 0
    assert noted.splitlines()[1:] == [], "nothing is said of it"


def test_a_port_that_is_taken(live: Project, vecmig: Vecmig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = vecmig("serve", "--port", str(port), code=2)
    assert f"Nothing can listen on 127.0.0.1:{port}: Address already in use.\nName another --port" in failed.stderr


def test_a_report_is_a_file_or_what_is_printed(live: Project, vecmig: Vecmig, tmp_path: Path) -> None:
    printed = vecmig("report").stdout
    assert printed.startswith("<!doctype html>")
    file = tmp_path / "report.html"
    assert vecmig("report", "--output", str(file)).stdout == ""
    assert "Searches use" in file.read_text(encoding="utf-8")
    failed = vecmig("report", "--output", str(tmp_path / "nowhere" / "x.html"), code=2)
    assert "cannot be written: No such file or directory." in failed.stderr


def test_a_report_of_a_database_that_is_away(live: Project) -> None:
    found = live.vecmig("report", env={"VECMIG_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert (found.code, found.stdout) == (6, "")


@pytest.mark.parametrize("command", ["serve", "report"])
def test_without_the_extra_the_error_names_it(live: Project, command: str) -> None:
    program = "import sys; sys.modules['starlette'] = None; from vecmig.cli.app import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, command], cwd=live.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.search(r"The page needs the extra web: .*\nRun: pip install 'vecmig\[web\]'", done.stderr)
