"""What vecmig is compared with: COPY, a load generator, and a bare pipeline as a good engineer writes it by hand."""

from __future__ import annotations

import base64
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_END: Final = struct.pack(">h", -1)
_COPY: Final = "COPY copied FROM STDIN WITH (FORMAT binary)"
_TOO_MANY: Final = 429


# COPY --------------------------------------------------------------------------------------------------------------


def make_copied(connection: psycopg.Connection[Any]) -> None:
    """Make the table that COPY fills: a key and a vector."""
    connection.execute("DROP TABLE IF EXISTS copied")
    connection.execute("CREATE TABLE copied (id bigint PRIMARY KEY, embedding vector NOT NULL)")


def laid_out(ids: Sequence[int] | NDArray[np.int64], vectors: NDArray[np.float32]) -> memoryview:
    """Lay keys and vectors, float32 of shape (n, dims), out as rows of COPY's binary format, in one piece by numpy."""
    dims = vectors.shape[1]
    row = np.dtype(
        [
            *(("fields", ">i2"), ("id_length", ">i4"), ("id", ">i8")),
            *(("length", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("vector", ">f4", (dims,))),
        ]
    )
    rows = np.empty(len(vectors), dtype=row)
    rows["fields"], rows["id_length"], rows["id"] = 2, 8, ids
    rows["length"], rows["dims"], rows["unused"] = 4 + 4 * dims, dims, 0
    rows["vector"] = vectors
    return rows.view(np.uint8).data


def copy_rows(connection: psycopg.Connection[Any], pieces: Iterator[memoryview]) -> None:
    """Send rows that are laid out to the table ``copied``, as one COPY."""
    with connection.cursor().copy(_COPY) as copy:
        copy.write(_SIGNATURE)
        for piece in pieces:
            copy.write(piece)
        copy.write(_END)


def copy_old(connection: psycopg.Connection[Any], vectors: NDArray[np.float32]) -> None:
    """Give the records 1 to n of public.documents the old vectors that they have in production."""
    make_copied(connection)
    copy_rows(connection, iter([laid_out(np.arange(1, len(vectors) + 1), vectors)]))
    connection.execute("UPDATE public.documents d SET embedding = c.embedding FROM copied c WHERE c.id = d.id")
    connection.execute("DROP TABLE copied")
    connection.execute("VACUUM FULL public.documents")


def measure_copy(
    connection: psycopg.Connection[Any], records: int, vectors: NDArray[np.float32], *, ready: bool
) -> float:
    """Give the rows a second of one COPY BINARY of ``records`` rows, the vectors taken again and again.

    Args:
        connection: in autocommit mode.
        records: how many rows.
        vectors: float32 of shape (n, dims).
        ready: whether the bytes are laid out before the clock starts, or from the float32 array while it runs.
    """
    make_copied(connection)
    size = len(vectors)
    ranges = [np.arange(first, min(first + size, records)) for first in range(0, records, size)]
    pieces: Iterator[memoryview] = (laid_out(ids, vectors[: len(ids)]) for ids in ranges)
    if ready:
        pieces = iter(list(pieces))
    began = time.perf_counter()
    copy_rows(connection, pieces)
    return records / (time.perf_counter() - began)


def measure_copy_rows(connection: psycopg.Connection[Any], records: int, vectors: NDArray[np.float32]) -> float:
    """Give the rows a second of the same COPY as it is mostly written: ``write_row``, and pgvector's own adapter."""
    make_copied(connection)
    register_vector(connection)
    began = time.perf_counter()
    with connection.cursor().copy(_COPY) as copy:
        copy.set_types(["int8", "vector"])
        for number in range(records):
            copy.write_row((number, vectors[number % len(vectors)]))
    return records / (time.perf_counter() - began)


# What the server allows --------------------------------------------------------------------------------------------


def measure_server(url: str, texts: list[str], *, requests: int, in_flight: int) -> float:
    """Give the rows a second of a load generator that reads answers and throws them away.

    The request is made once, and sent over plain sockets: nothing is decoded.
    """
    parts = urlsplit(url)
    body = json.dumps({"model": "benchmark", "input": texts, "encoding_format": "base64"}).encode()
    head = f"POST {parts.path}/embeddings HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    numbers = count()
    began = time.perf_counter()

    def work() -> None:
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            scratch = bytearray(1 << 20)
            while next(numbers) < requests:
                while wait := _exchange(connection, head.encode() + body, scratch):
                    time.sleep(wait)

    in_threads(in_flight, work)
    return requests * len(texts) / (time.perf_counter() - began)


def _exchange(connection: socket.socket, request: bytes, scratch: bytearray) -> float:
    """Send a request and read its answer; give the seconds to wait if it was refused, else 0."""
    connection.sendall(request)
    seen = b""
    while b"\r\n\r\n" not in seen:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the provider hung up")
        seen += piece
    head, _, start = seen.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    left = int(headers["content-length"]) - len(start)
    while left > 0:
        left -= connection.recv_into(scratch, min(left, len(scratch)))
    return float(headers["retry-after-ms"]) / 1_000 if f" {_TOO_MANY} " in status else 0.0


# The bare pipeline ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Pages of texts, so many requests in flight, base64 read by numpy, one COPY BINARY an answer. No checks at all."""

    database_url: str
    provider_url: str
    in_flight: int
    batch: int
    #: Connections that write.
    writers: int

    def measure(self) -> float:
        """Embed public.documents into the table ``copied``; give the rows a second."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            make_copied(connection)
        began = time.perf_counter()
        rows = self.run()
        return rows / (time.perf_counter() - began)

    def run(self) -> int:
        """Do it; give the number of rows."""
        pages: queue.Queue[list[tuple[int, str]] | None] = queue.Queue(2 * self.in_flight)
        connections: queue.Queue[psycopg.Connection[Any]] = queue.Queue()
        for _ in range(self.writers):
            connections.put(psycopg.connect(self.database_url, autocommit=True))
        reader = threading.Thread(target=self._read, args=[pages])
        reader.start()
        written: list[int] = []
        limits = httpx2.Limits(max_connections=self.in_flight, max_keepalive_connections=self.in_flight)
        with httpx2.Client(limits=limits, timeout=60) as client:

            def work() -> None:
                while (page := pages.get()) is not None:
                    vectors = self._embed(client, [text for _, text in page])
                    connection = connections.get()
                    copy_rows(connection, iter([laid_out([key for key, _ in page], vectors)]))
                    connections.put(connection)
                    written.append(len(page))

            in_threads(self.in_flight, work)
        reader.join()
        for _ in range(self.writers):
            connections.get().close()
        return sum(written)

    def _read(self, pages: queue.Queue[list[tuple[int, str]] | None]) -> None:
        with psycopg.connect(self.database_url) as connection, connection.cursor("texts") as cursor:
            cursor.execute("SELECT id, body FROM public.documents ORDER BY id")
            while page := cursor.fetchmany(self.batch):
                pages.put(page)
        for _ in range(self.in_flight):
            pages.put(None)

    def _embed(self, client: httpx2.Client, texts: list[str]) -> NDArray[np.float32]:
        request = {"model": "benchmark", "input": texts, "encoding_format": "base64"}
        while True:
            answer = client.post(f"{self.provider_url}/embeddings", json=request)
            if answer.status_code != _TOO_MANY:
                break
            time.sleep(float(answer.headers["retry-after-ms"]) / 1_000)
        rows = json.loads(answer.raise_for_status().content)["data"]
        return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in rows])


def in_threads(number: int, work: Callable[[], None]) -> None:
    """Run ``work`` in so many threads at once; raise what the first of them that failed raised."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
