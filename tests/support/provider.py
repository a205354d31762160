"""An embedding provider that speaks OpenAI's protocol, keeps a journal, and fails in every way that we have seen.

Run it as ``python tests/support/provider.py --port 0 --dims 64``; it prints its URL. In tests, use ``Provider``.
The same text always gets the same vector.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

try:
    from support.batch_api import BatchApi, Course
except ImportError:  # as a program
    from batch_api import BatchApi, Course  # type: ignore[import-not-found,no-redef]

#: Faults that stand for an answer with that status.
STATUSES = {
    "400": "invalid_request_error",
    "401": "invalid_api_key",
    "402": "no_credit",
    "403": "permission_denied",
    "404": "model_not_found",
    "408": "timeout",
    "409": "conflict",
    "413": "payload_too_large",
    "422": "unprocessable",
    "429": "rate_limit_exceeded",
    "500": "server_error",
    "502": "bad_gateway",
    "503": "overloaded",
}
MODES = (
    *STATUSES,
    *("insufficient_quota", "html", "truncated", "disconnect", "no_data", "short", "reordered", "unnumbered"),
    *("misnumbered", "nan", "zero", "empty", "null", "missing", "wrong_dims", "quarter", "garbage", "scaled", "hang"),
    *("error_in_200", "drop", "poison", "none"),
)

#: Those that spoil the vector of each input that is marked.
ROWS = ("nan", "zero", "empty", "null", "missing")


@dataclass
class Fault:
    """One way to fail, and when."""

    mode: str
    #: Only every nth request, after ``skip`` requests, at most ``times`` times.
    every: int = 1
    skip: int = 0
    times: int | None = None
    #: Only this share of them, drawn at random from a seed.
    share: float | None = None
    #: Value of the Retry-After header.
    retry_after: str | None = None
    #: Headers of the answer; with mode none, of a good one.
    headers: dict[str, str] = field(default_factory=dict)
    #: poison, nan, zero, empty, null and missing, and any mode where ``marked``: only for inputs that contain it.
    marker: str = "POISON"
    marked: bool = False
    #: Only for requests of more inputs, or of more characters in all.
    above: int = 0
    above_characters: int = 0
    #: hang: for so many seconds.
    seconds: float = 3600.0
    #: Message, code and parameter of an error answer, where not the usual ones.
    message: str | None = None
    code: str | None = None
    param: str | None = None
    seen: int = 0
    hit: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(20))

    def strikes(self, inputs: list[str]) -> bool:
        """Tell whether this request fails, and count it."""
        marked = self.marked or self.mode in ("poison", *ROWS)
        if marked and not any(self.marker in text for text in inputs):
            return False
        if len(inputs) <= self.above or sum(map(len, inputs)) <= self.above_characters:
            return False
        self.seen += 1
        due = self.seen > self.skip and (self.seen - self.skip) % self.every == 0
        due = due and (self.share is None or self.random.random() < self.share)
        if not due or (self.times is not None and self.hit >= self.times):
            return False
        self.hit += 1
        return True


@dataclass
class State:
    """What the server knows; every access under its lock."""

    dims: int
    latency: float
    key: str | None
    max_batch: int
    #: Characters that make one token.
    token: int = 4
    faults: list[Fault] = field(default_factory=list)
    #: Files and batches; None for a server that has none.
    batch_api: BatchApi | None = None
    journal: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, inputs: list[str]) -> Fault | None:
        """Return the first fault that strikes."""
        with self.lock:
            return next((fault for fault in self.faults if fault.strikes(inputs)), None)


def vector(text: str, dims: int) -> NDArray[np.float32]:
    """Return the unit vector of a text: (dims,)."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    values = np.random.Generator(np.random.PCG64(seed)).standard_normal(dims)
    return (values / np.linalg.norm(values)).astype(np.float32)


class Handler(BaseHTTPRequestHandler):
    """Answers ``/v1/embeddings``, ``/journal`` and ``/faults``."""

    protocol_version = "HTTP/1.1"
    # One small write for each answer must not wait for the client's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    state: State

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Say nothing."""

    def do_GET(self) -> None:
        """Give the journal, what was ordered, a file or a batch."""
        api = self.state.batch_api
        if self.path == "/orders" and api is not None:
            with api.lock:
                orders = {"paid": api.paid, "batches": list(api.batches.values()), "files": list(api.files)}
            self._send(200, orders)
            return
        if self.path.startswith("/v1/") and api is not None:
            path = self.path.removeprefix("/v1")
            self._reply(*api.garble(f"GET {path}", api.get(path)))
            return
        with self.state.lock:
            self._send(200, {"requests": self.state.journal, "most_in_flight": self.state.most_in_flight})

    def do_DELETE(self) -> None:
        """Empty the journal, or delete a file."""
        if self.path.startswith("/v1/") and self.state.batch_api is not None:
            self._reply(*self.state.batch_api.delete(self.path.removeprefix("/v1")))
            return
        with self.state.lock:
            self.state.journal.clear()
            self.state.most_in_flight = 0
        self._send(200, {})

    def do_POST(self) -> None:
        """Embed, take a file or an order, or set the faults."""
        sent, api = self._read(), self.state.batch_api
        if self.path in ("/v1/files", "/v1/batches") and api is not None:
            path = self.path.removeprefix("/v1")
            self._reply(*api.garble(f"POST {path}", api.post(path, self.headers["Content-Type"], sent)))
            return
        body = json.loads(sent) if not self.path.endswith(("/files", "/batches")) else {}
        if self.path == "/courses":
            assert api is not None
            with api.lock:
                api.courses, api.room = [Course(**course) for course in body["courses"]], body["room"]
                api.garbled = body["garbled"]
            self._send(200, {})
        elif self.path == "/faults":
            with self.state.lock:
                self.state.faults = [Fault(**fault) for fault in body]
            self._send(200, {})
        elif self.path.endswith("/embeddings"):
            self._count_and_embed(body)
        else:
            self._refuse("404", f"Not found: {self.path}", {})

    def _read(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _reply(self, status: int, body: bytes) -> None:
        self._raw(status, body, "application/json", None)

    def _count_and_embed(self, body: dict[str, Any]) -> None:
        inputs = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
        entry = {
            "model": body.get("model"),
            "inputs": inputs,
            "dimensions": body.get("dimensions"),
            "encoding_format": body.get("encoding_format"),
            "authorization": self.headers.get("Authorization"),
            "fields": {name: value for name, value in body.items() if name != "input"},
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "at": time.time(),
            "tokens": 0,
            "status": None,
            "fault": None,
        }
        with self.state.lock:
            self.state.journal.append(entry)
            self.state.in_flight += 1
            self.state.most_in_flight = max(self.state.most_in_flight, self.state.in_flight)
        try:
            self._embed(body, inputs, entry)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.state.lock:
                self.state.in_flight -= 1

    def _embed(self, body: dict[str, Any], inputs: list[str], entry: dict[str, Any]) -> None:
        time.sleep(self.state.latency)
        if self.state.key is not None and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            self._refuse("401", f"Incorrect API key provided: {given}.", entry)
        elif not inputs or any(not text for text in inputs):
            self._refuse("400", "'input' cannot be an empty string.", entry, param="input")
        elif len(inputs) > self.state.max_batch:
            self._refuse("422", f"batch size {len(inputs)} > maximum allowed batch size {self.state.max_batch}", entry)
        elif fault := self.state.fault(inputs):
            entry["fault"] = fault.mode
            self._fail(fault, body, inputs, entry)
        else:
            self._send(200, self._answer(body, inputs), entry)

    def _fail(self, fault: Fault, body: dict[str, Any], inputs: list[str], entry: dict[str, Any]) -> None:
        headers = fault.headers | ({} if fault.retry_after is None else {"Retry-After": fault.retry_after})
        if fault.mode in STATUSES:
            message = fault.message or f"Refused with {fault.mode}."
            self._refuse(fault.mode, message, entry, code=fault.code, param=fault.param, headers=headers)
        elif fault.mode == "insufficient_quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            self._refuse("429", message, entry, code="insufficient_quota", headers=headers)
        elif fault.mode == "poison":
            self._refuse("400", fault.message or "The input contains an invalid token.", entry, param="input")
        elif fault.mode == "drop":
            self.close_connection = True
        elif fault.mode == "hang":
            time.sleep(fault.seconds)
            self._send(200, self._answer(body, inputs), entry)
        elif fault.mode == "none":
            self._send(200, self._answer(body, inputs), entry, headers=headers)
        elif fault.mode == "html":
            self._raw(200, b"<!doctype html><html><body>Welcome</body></html>", "text/html", entry)
        else:
            self._spoil(fault, self._answer(body, inputs, fault), entry)

    def _spoil(self, fault: Fault, answer: dict[str, Any], entry: dict[str, Any]) -> None:
        data = answer["data"]
        text = json.dumps(answer)
        if fault.mode == "truncated":
            self._raw(200, text[: len(text) // 2].encode(), "application/json", entry)
        elif fault.mode == "disconnect":
            self._raw(200, text[: len(text) // 2].encode(), "application/json", entry, promised=len(text))
        elif fault.mode == "no_data":
            self._send(200, {"error": "the model is not an embedding model"}, entry)
        elif fault.mode == "error_in_200":
            error = {"message": fault.message or "Too busy.", "code": _number_or_word(fault.code or "429")}
            self._send(200, {"error": error}, entry)
        elif fault.mode == "short":
            self._send(200, answer | {"data": data[:-1]}, entry)
        elif fault.mode == "reordered":
            self._send(200, answer | {"data": data[::-1]}, entry)
        elif fault.mode == "misnumbered":
            self._send(200, answer | {"data": [row | {"index": row["index"] + 1} for row in data[::-1]]}, entry)
        elif fault.mode == "unnumbered":
            self._send(200, answer | {"data": [{"embedding": row["embedding"]} for row in data]}, entry)
        else:
            self._send(200, answer, entry)

    def _answer(self, body: Mapping[str, Any], inputs: list[str], fault: Fault | None = None) -> dict[str, Any]:
        dims = body.get("dimensions") or self.state.dims
        as_base64 = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encoded(_spoiled(text, dims, fault), as_base64, fault),
            }
            for index, text in enumerate(inputs)
        ]
        if fault is not None and fault.mode in ("empty", "null", "missing"):
            for row, text in zip(data, inputs, strict=True):
                if fault.marker in text:
                    row |= {"embedding": None if fault.mode == "null" else []}
                    if fault.mode == "missing":
                        del row["embedding"]
        tokens = sum(len(text) // self.state.token + 1 for text in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body.get("model"), "data": data, "usage": usage}

    @classmethod
    def answers(cls) -> Callable[[Mapping[str, Any], list[str]], dict[str, Any]]:
        """Return what answers the lines of a batch as a request of its own is answered."""
        handler = cls.__new__(cls)
        return handler._answer

    def _refuse(
        self,
        status: str,
        message: str,
        entry: dict[str, Any],
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        error = {"message": message, "type": "error", "param": param, "code": code or STATUSES[status]}
        body = json.dumps({"error": error}).encode()
        self._raw(int(status), body, "application/json", entry, headers=headers)

    def _send(
        self,
        status: int,
        body: Mapping[str, Any],
        entry: dict[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._raw(status, json.dumps(body).encode(), "application/json", entry, headers=headers)

    def _raw(
        self,
        status: int,
        body: bytes,
        kind: str,
        entry: dict[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        promised: int | None = None,
    ) -> None:
        if entry is not None:
            entry["status"] = status
            if status == 200:
                entry["tokens"] = sum(len(text) // self.state.token + 1 for text in entry["inputs"])
        self.send_response(status)
        for name, value in ({"Content-Type": kind} | dict(headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if promised:
            self.close_connection = True


def _number_or_word(code: str) -> int | str:
    return int(code) if code.isdecimal() else code


def _spoiled(text: str, dims: int, fault: Fault | None) -> NDArray[np.float32]:
    mode = fault.mode if fault else ""
    values = vector(text, dims + 1 if mode == "wrong_dims" else dims)
    if fault and mode in ("nan", "zero") and fault.marker in text:
        values = np.full(dims, np.nan if mode == "nan" else 0, dtype=np.float32)
    return values * np.float32(3) if mode == "scaled" else values


def _encoded(values: NDArray[np.float32], as_base64: bool, fault: Fault | None) -> Any:
    if fault and fault.mode == "garbage":
        return "not base64!" if as_base64 else ["a", "b"]
    if as_base64 and fault and fault.mode == "quarter":
        return base64.b64encode((values * 127).astype(np.int8).tobytes()).decode()
    return base64.b64encode(values.astype("<f4").tobytes()).decode() if as_base64 else values.tolist()


class Server(ThreadingHTTPServer):
    """Takes many connections at once and ends with its process."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class Provider:
    """The server in a process of its own; use it with ``with``."""

    def __init__(
        self,
        *,
        dims: int = 64,
        latency: float = 0.0,
        key: str | None = None,
        max_batch: int = 2048,
        token: int = 4,
        batches: bool = False,
    ) -> None:
        options = {"--dims": dims, "--latency": latency, "--max-batch": max_batch, "--token": token}
        self._command = [str(Path(__file__)), "--guard"]
        self._command += [f"{name}={value}" for name, value in options.items()]
        self._command += [] if key is None else [f"--key={key}"]
        self._command += ["--batches"] if batches else []
        self._process: subprocess.Popen[str] | None = None
        #: Without ``/v1``.
        self.root = ""

    @property
    def url(self) -> str:
        """The ``base_url`` of a recipe."""
        return f"{self.root}/v1"

    def start(self) -> Self:
        """Start it, after ``stop`` where it was before, and wait until it listens."""
        from support.forking import Python  # the program itself goes without

        command = self._command + ([f"--port={urlsplit(self.root).port}"] if self.root else [])
        pipe = subprocess.PIPE
        self._process = Python(command, imports=["numpy", "http.server", "argparse"], stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        self.root = self._process.stdout.readline().strip().removesuffix("/v1")
        assert self.root, "the provider did not start"
        return self

    def stop(self) -> None:
        """Kill it, as a provider that goes down would be."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def faults(self, *faults: Mapping[str, Any] | str) -> None:
        """Fail from now on in these ways; with none, work."""
        self._call("POST", "/faults", [{"mode": fault} if isinstance(fault, str) else dict(fault) for fault in faults])

    @contextmanager
    def failing(self, mode: str, **options: Any) -> Iterator[None]:
        """Fail in one way for a while."""
        self.faults({"mode": mode, **options})
        try:
            yield
        finally:
            self.faults()

    def requests(self) -> list[dict[str, Any]]:
        """Return every embedding request so far, with its inputs and the status of its answer."""
        requests: list[dict[str, Any]] = self._call("GET", "/journal")["requests"]
        return requests

    def most_in_flight(self) -> int:
        """Return how many requests were open at once."""
        return int(self._call("GET", "/journal")["most_in_flight"])

    def paid(self) -> list[str]:
        """Return every text that was embedded, so paid for; one that stands twice was paid for twice."""
        return [text for request in self.requests() if request["status"] == 200 for text in request["inputs"]]

    def tokens(self) -> int:
        """Return how many tokens it has charged for."""
        return sum(request["tokens"] for request in self.requests())

    def forget(self) -> None:
        """Empty the journal."""
        self._call("DELETE", "/journal")

    def get(self, path: str) -> Any:
        """Get a file or a batch as a client does."""
        return self._call("GET", path)

    def delete(self, path: str) -> None:
        """Delete a file as a client does."""
        self._call("DELETE", path)

    def orders(self) -> dict[str, Any]:
        """Return the batches, the texts of each that were paid for, and the files that are there."""
        orders: dict[str, Any] = self._call("GET", "/orders")
        return orders

    def courses(
        self,
        *courses: Mapping[str, Any],
        room: int | None = None,
        garbled: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Say what becomes of the next batches, how many tokens the queue has room for, and which answers are spoilt.

        Of those, by request, what is answered in their place, 200 for a web page, and how often.
        """
        said = {"courses": [dict(course) for course in courses], "room": room, "garbled": garbled or {}}
        self._call("POST", "/courses", said)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.root}{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--key", help="refuse every other key")
    parser.add_argument("--max-batch", type=int, default=2048)
    parser.add_argument("--token", type=int, default=4, help="characters that make one token")
    parser.add_argument("--batches", action="store_true", help="have a Batch API, too")
    parser.add_argument("--guard", action="store_true", help="end when stdin does, so with the parent")
    options = parser.parse_args()
    Handler.state = State(options.dims, options.latency, options.key, options.max_batch, options.token)
    if options.batches:
        Handler.state.batch_api = BatchApi(Handler.answers())
    server = Server(("127.0.0.1", options.port), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)  # noqa: T201  # what the caller waits for
    if options.guard:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
    else:
        server.serve_forever()


if __name__ == "__main__":
    main()
