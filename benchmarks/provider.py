"""An OpenAI-compatible embedding server for benchmarks: real HTTP, in a process of its own, and fast.

    python benchmarks/provider.py [--port 0] [--dims 1536] [--latency 0.05] [--requests-per-second N]

Its vectors are made and encoded beforehand, so that an answer costs little more than sending it. The same text always
gets the same vector. It prints its URL.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_HEAD: Final = "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
_REFUSAL: Final = b'{"error": {"message": "Too many requests.", "type": "requests", "code": "rate_limit_exceeded"}}'


class Pool:
    """Encoded vectors; a text has the one that its checksum picks."""

    def __init__(self, size: int, dims: int) -> None:
        self._size = size or 1 << 32
        self._dims = dims
        #: By place and format. Without a size, every text has a vector of its own, and none is kept.
        self._kept: dict[tuple[int, bool], bytes] = {}
        for place in range(size):
            self._encoded(place, as_base64=True)

    def body(self, texts: list[str], *, as_base64: bool) -> bytes:
        """Give the answer for some texts."""
        pieces = [b'{"object":"list","model":"benchmark","data":[']
        for index, text in enumerate(texts):
            comma = b"," if index else b""
            pieces.append(b'%s{"object":"embedding","index":%d,"embedding":' % (comma, index))
            pieces.append(self._encoded(zlib.crc32(text.encode()) % self._size, as_base64=as_base64))
        tokens = sum(len(text) for text in texts) // 4
        pieces.append(b'],"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (tokens, tokens))
        return b"".join(pieces)

    def _encoded(self, place: int, *, as_base64: bool) -> bytes:
        found = self._kept.get((place, as_base64))
        if found is None:
            vector = np.random.default_rng(place).standard_normal(self._dims, dtype=np.float32)
            vector /= np.linalg.norm(vector)
            text = f'"{b64encode(vector.tobytes()).decode()}"' if as_base64 else _as_json(vector)
            found = f"{text}}}".encode()
            if self._size < 1 << 32:
                self._kept[place, as_base64] = found
        return found


def _as_json(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(f"{number:.9g}" for number in vector.tolist()) + "]"


@dataclass(slots=True)
class Limit:
    """So many requests in each second of the clock; None for as many as come."""

    per_second: int | None
    second: int = 0
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self) -> tuple[bool, int]:
        """Tell whether a request may pass, and how many more may in this second."""
        if self.per_second is None:
            return True, 0
        with self.lock:
            now = int(time.time())
            if now != self.second:
                self.second, self.used = now, 0
            self.used += 1
            return self.used <= self.per_second, max(0, self.per_second - self.used)

    def headers(self, left: int) -> str:
        """Say what OpenAI says about its limits."""
        if self.per_second is None:
            return ""
        reset = max(1, round((1 - time.time() % 1) * 1_000))
        return (
            f"x-ratelimit-limit-requests: {self.per_second}\r\nx-ratelimit-remaining-requests: {left}\r\n"
            f"x-ratelimit-reset-requests: {reset}ms\r\nretry-after-ms: {reset}\r\n"
        )


@dataclass(slots=True)
class Server:
    """Answers every POST as ``/embeddings``, each connection in a thread."""

    pool: Pool
    latency: float
    limit: Limit
    listener: socket.socket

    def serve(self) -> None:
        """Take connections for ever."""
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=[connection], daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while (request := _read(stream)) is not None:
                began = time.monotonic()
                admitted, left = self.limit.admit()
                headers = self.limit.headers(left)
                if not admitted:
                    self._send(connection, "429 Too Many Requests", headers, _REFUSAL)
                    continue
                texts, as_base64 = _asked(request)
                body = self.pool.body(texts, as_base64=as_base64)
                time.sleep(max(0.0, self.latency - (time.monotonic() - began)))
                self._send(connection, "200 OK", headers, body)

    def _send(self, connection: socket.socket, status: str, headers: str, body: bytes) -> None:
        connection.sendall(_HEAD.format(status=status, length=len(body), more=headers).encode())
        connection.sendall(body)


def _read(stream: BufferedReader) -> bytes | None:
    if not stream.readline():
        return None
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return stream.read(length)


def _asked(request: bytes) -> tuple[list[str], bool]:
    wanted = json.loads(request)
    texts = wanted["input"]
    return [texts] if isinstance(texts, str) else texts, wanted.get("encoding_format") == "base64"


class Provider:
    """The server in a process of its own; use it with ``with``."""

    def __init__(
        self, *, dims: int, latency: float = 0.05, pool: int = 2_048, requests_per_second: int | None = None
    ) -> None:
        self._command = [sys.executable, str(Path(__file__)), "--guard", f"--dims={dims}", f"--latency={latency}"]
        self._command += [f"--pool={pool}"]
        self._command += [f"--requests-per-second={requests_per_second}"] if requests_per_second else []
        self._process: subprocess.Popen[str] | None = None
        #: The ``base_url`` of a recipe.
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            sys.exit("the provider did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dims", type=int, default=1_536)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds from a request to its answer")
    parser.add_argument("--pool", type=int, default=2_048, help="different vectors; 0: every text has its own")
    parser.add_argument("--requests-per-second", type=int, help="answer 429 to all above")
    parser.add_argument("--guard", action="store_true", help="end when stdin does, so with the parent")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=256)
    pool = Pool(options.pool, options.dims)
    server = Server(pool, options.latency, Limit(options.requests_per_second), listener)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    if options.guard:
        threading.Thread(target=server.serve, daemon=True).start()
        sys.stdin.read()
    else:
        server.serve()


if __name__ == "__main__":
    main()
