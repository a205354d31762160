"""An application beside a migration: it reads or writes all the time, and notes how long each statement took.

    python benchmarks/application.py reader|writer|author|idler --url URL --records N --dims N --pause SECONDS
        [--sessions N]

It works until its stdin ends, then prints one JSON document: ``[[began, seconds], …]`` by the system's monotonic clock.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import psycopg

_READ = "SELECT id FROM documents_live ORDER BY embedding <=> %s::vector LIMIT 10"
_WRITE = "UPDATE public.documents SET body = body || ' ' || %s WHERE id = %s"
#: One that was adopted has a vector beside its text.
_WRITE_BOTH = "UPDATE public.documents SET body = left(%s || body, 600), embedding = %s::vector WHERE id = %s"
_QUERIES = 64


def vector_texts(dims: int) -> list[str]:
    """Make some vectors of length 1, as pgvector reads them."""
    vectors = np.random.default_rng(5).standard_normal((_QUERIES, dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"[{','.join(f'{number:.7g}' for number in vector)}]" for vector in vectors.tolist()]


def reader(connection: psycopg.Connection[Any], options: argparse.Namespace) -> Callable[[], None]:
    """Look the ten nearest records up, by the live view."""
    queries = vector_texts(options.dims)

    def read() -> None:
        rows = connection.execute(_READ, [random.choice(queries)]).fetchall()
        if len(rows) != min(10, options.records):
            raise RuntimeError(f"{len(rows)} rows were found")

    return read


def writer(connection: psycopg.Connection[Any], options: argparse.Namespace) -> Callable[[], None]:
    """Edit the text of a record, any of them."""

    def write() -> None:
        connection.execute(_WRITE, [random.randrange(1_000), random.randint(1, options.records)])

    return write


def author(connection: psycopg.Connection[Any], options: argparse.Namespace) -> Callable[[], None]:
    """Edit text and vector of a record, any of them."""
    vectors = vector_texts(options.dims)

    def write() -> None:
        values = [f"{random.randrange(1_000)} ", random.choice(vectors), random.randint(1, options.records)]
        connection.execute(_WRITE_BOTH, values)

    return write


def idler(connection: psycopg.Connection[Any], options: argparse.Namespace) -> Callable[[], None]:
    """Read, and leave the transaction open for a while; the next one follows at once."""

    def idle() -> None:
        with connection.transaction():
            connection.execute("SELECT 1 FROM documents_live LIMIT 1")
            time.sleep(options.pause)

    return idle


def _work(options: argparse.Namespace, number: int, ended: threading.Event, taken: list[tuple[float, float]]) -> None:
    """Work in a session of its own; of several, one begins after the other."""
    idles = options.role == "idler"
    ended.wait(options.pause * number / options.sessions if idles else 0)
    name = f"application {options.role}"
    with psycopg.connect(options.url, autocommit=True, application_name=name) as connection:
        work = {"reader": reader, "writer": writer, "author": author, "idler": idler}[options.role](connection, options)
        while not ended.is_set():
            began = time.monotonic()
            work()
            taken.append((began, time.monotonic() - began))
            ended.wait(0 if idles else options.pause)


def _until_stdin_ends(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main() -> None:
    """Work until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["reader", "writer", "author", "idler"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--dims", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between statements; idler: within")
    parser.add_argument("--sessions", type=int, default=1, help="sessions that do so at once")
    options = parser.parse_args()
    ended = threading.Event()
    threading.Thread(target=_until_stdin_ends, args=[ended], daemon=True).start()
    taken: list[tuple[float, float]] = []
    with ThreadPoolExecutor(options.sessions) as sessions:
        works = [sessions.submit(_work, options, number, ended, taken) for number in range(options.sessions)]
        for work in as_completed(works):
            work.result()
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main()
