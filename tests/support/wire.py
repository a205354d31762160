"""Servers of raw bytes: one that says what a test writes, a proxy, and certificates of an authority of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

Reply = Callable[[socket.socket, bytes], None]


def answer(body: bytes | str, *, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """Write an HTTP answer."""
    data = body.encode() if isinstance(body, str) else body
    lines = {"Content-Type": kind, "Content-Length": str(len(data))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data


def embeddings(request: bytes, dims: int = 8) -> bytes:
    """Answer a request as an embedding server does."""
    texts = json.loads(request.partition(b"\r\n\r\n")[2])["input"]
    rows = [{"index": index, "embedding": [1.0] + [0.0] * (dims - 1)} for index in range(len(texts))]
    return answer(json.dumps({"data": rows}))


def received(connection: socket.socket) -> bytes:
    """Read one request; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < sum(lengths):
        if not (part := connection.recv(65536)):
            return b""
        body += part
    return head + b"\r\n\r\n" + body


@dataclass
class Wire:
    """A server on the loopback; ``reply`` is called for each request, in a thread for each connection."""

    reply: Reply = lambda connection, request: connection.sendall(embeddings(request))
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    #: Set when a test is over: a reply that never ends looks at it.
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        # wakes the thread that accepts; it would take one more connection otherwise
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    @property
    def origin(self) -> str:
        """Its address without a path."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The ``base_url`` of a recipe."""
        return f"{self.origin}/v1"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self.tls is not None:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            while request := received(connection):
                self.requests.append(request)
                self.reply(connection, request)


def proxying(user: str | None = None, refusal: bytes | None = None) -> Reply:
    """Make a server a proxy for plain requests and for tunnels.

    Args:
        user: ``name:password`` that it wants.
        refusal: what it says to every request.
    """
    wanted = None if user is None else b"proxy-authorization: basic " + base64.b64encode(user.encode())

    def reply(connection: socket.socket, request: bytes) -> None:
        head = request.partition(b"\r\n\r\n")[0]
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if refusal is not None:
            connection.sendall(refusal)
        elif wanted is not None and wanted.lower() not in head.lower():
            connection.sendall(answer("", status="407 Proxy Authentication Required"))
        elif method == b"CONNECT":
            host, port = target.decode().rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _join(connection, server)
        else:
            origin, path = target.decode().removeprefix("http://").split("/", 1)
            host, port = origin.rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                server.sendall(request.replace(target, f"/{path}".encode(), 1))
                while part := server.recv(65536):
                    connection.sendall(part)
                    if part.endswith(b"}"):
                        break

    return reply


def _join(one: socket.socket, other: socket.socket) -> None:
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=[other, one], daemon=True)
    back.start()
    copy(one, other)
    back.join()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test, and a server's certificate that it has signed."""

    #: In PEM form: for SSL_CERT_FILE.
    file: Path
    server: ssl.SSLContext

    @classmethod
    def made(cls, folder: Path, name: str = "IP:127.0.0.1") -> Authority:
        """Make one that signs a server of this name."""

        def openssl(*words: str | Path) -> None:
            subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority"
        )
        (folder / "names").write_text(f"subjectAltName={name}\n")
        openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=test server")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        return cls(folder / "ca.pem", context)


def trickling(data: bytes, over: threading.Event, pause: float = 0.02) -> Iterator[bytes]:
    """Yield byte after byte, with pauses, until the test is over; then the rest."""
    for at in range(len(data)):
        if over.wait(pause):
            yield data[at:]
            return
        yield data[at : at + 1]
