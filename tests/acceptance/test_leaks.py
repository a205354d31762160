"""No command shows or stores a secret that a provider repeats: processes of their own, all output, all tables."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from support.cli import describe, documents_collection, make_documents, script, tag
from support.leaks import SECRETS, leaked
from support.project import Project, Result
from support.provider import vector
from support.wire import Wire, answer

pytestmark = pytest.mark.long

A, B = tag("fake", 8), tag("fake", 8, norm="none")
#: All secrets in one sentence, whole and cut.
SAID = " and ".join((*SECRETS.values(), *(secret[3:-3] for secret in SECRETS.values())))
ERROR = json.dumps({"error": {"message": f"Not here: {SAID}", "code": SAID}})


def _vectors(request: bytes) -> bytes:
    texts = json.loads(request.partition(b"\r\n\r\n")[2])["input"]
    rows = [{"index": index, "embedding": vector(text, 8).tolist()} for index, text in enumerate(texts)]
    return answer(json.dumps({"data": rows}), X_Request_Id=SECRETS["key"])


def _refusing(marker: bytes) -> Callable[[socket.socket, bytes], None]:
    def reply(connection: socket.socket, request: bytes) -> None:
        bad = marker in request
        connection.sendall(answer(ERROR, status="400 Bad Request") if bad else _vectors(request))

    return reply


def _saying(data: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _: connection.sendall(data)


def _slow(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + SAID.encode())


FAULTS = {
    "refused": answer(ERROR, status="401 Unauthorized"),
    "forbidden": answer(SAID, status="403 Forbidden", kind="text/plain"),
    "moved": answer(
        "", status="307 Moved", Location=f"https://me:{SECRETS['path']}@h/{SECRETS['path']}?k={SECRETS['path']}"
    ),
    "inside": answer(json.dumps({"error": SAID})),
    "failing": answer(ERROR, status="500 Oops"),
    "page": answer(f"<html><body>{SAID}</body>", status="502 Bad Gateway", kind="text/html"),
    "garbage": answer(json.dumps({"data": [{"index": 0, "embedding": [SAID]}]})),
    "slow": None,
}


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The provider, and the proxy before it, in one."""
    with Wire(_refusing(b"subject3")) as started:
        yield started


class Runs:
    """Runs commands as processes and keeps what they have printed."""

    def __init__(self, project: Project, wire: Wire) -> None:
        self.results: list[Result] = []
        self._project = project
        self._environ = {
            "GATEWAY_KEY": SECRETS["key"],
            "GATEWAY_PATH": SECRETS["path"],
            "TEAM": SECRETS["header"],
            "HTTP_PROXY": f"http://me:{quote(SECRETS['proxy'], safe='')}@127.0.0.1:{wire.port}",
            "OPENAI_LOG": "debug",
        }

    def __call__(self, *args: str, code: int | None = None) -> Result:
        result = self._project.vecmig("--raiseerr", *args, env=self._environ)
        self.results.append(result)
        assert code is None or result.code == code, f"{args}: {result.code}\n{result.stdout}\n{result.stderr}"
        return result


def _stored(project: Project) -> str:
    tables = project.sql(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'vecmig'::regnamespace AND relkind IN ('r', 'p')"
    )
    return "\n".join(row for (name,) in tables for (row,) in project.sql(f"SELECT t::text FROM {name} AS t"))


def test_what_a_provider_repeats_is_neither_printed_nor_stored(project: Project, wire: Wire) -> None:
    run = Runs(project, wire)
    count = make_documents(project, 30)
    recipe = {
        "provider": "openai",
        "dims": 8,
        "model": "fake",
        "base_url": "http://models.example/${GATEWAY_PATH}/v1",
        "api_key_env": "GATEWAY_KEY",
        "headers": {"x-team": "Team ${TEAM}"},
        "timeout": 1,
    }
    describe(project, {"documents": documents_collection(A)}, {A: recipe, B: recipe})
    script(project, "aaaa", A, gate="Gate(coverage=0.5)")
    run("upgrade", code=0)
    reasons = [reason for (reason,) in project.sql("SELECT reason FROM vecmig.rejected")]
    assert len(reasons) == len([number for number in range(1, count + 1) if number % 7 == 3])
    assert all("refuses an input (HTTP 400): Not here: ***" in reason for reason in reasons)
    run("eval", "--make", "known-item", "--size", "5", "--title", "title", code=0)
    for command in (
        ["status"],
        ["rejected"],
        ["rejected", "--json"],
        ["search", "documents", "title 1"],
        ["gate"],
        ["eval"],
    ):
        run(*command)

    for fault, data in FAULTS.items():
        wire.reply = _slow if data is None else _saying(data)
        project.sql("UPDATE documents SET body = body || %s WHERE id = 1", fault)
        assert run("sync", "--provider-wait", "0").code == 7, fault
        if fault in ("refused", "moved", "inside"):
            assert [run("search", "documents", "x").code, run("eval").code] == [7, 7], fault
            run("gate")
        run("status")

    assert any("Traceback (most recent call last)" in result.stderr for result in run.results)
    assert any("openai._base_client" in result.stderr for result in run.results), "the SDK's log was on"
    shown = {result.args: leaked(result.stdout + result.stderr)[:1] for result in run.results}
    assert [args for args, parts in shown.items() if parts] == []
    assert leaked(_stored(project)) == []
    assert "${GATEWAY_PATH}" in _stored(project)
