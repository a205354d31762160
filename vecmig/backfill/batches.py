"""Read the records that are pending, cut them into chunks, and pack them into batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecmig.backfill.slow import Slow
from vecmig.chunking import Chunker, chunker
from vecmig.embedders import Abandoned, Embedder, document_tokens, pack
from vecmig.freshness.changes import free
from vecmig.freshness.pending import Page, PendingRecord, read_changed, read_page
from vecmig.freshness.stamps import Stamps
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection
from vecmig.source.keys import Key

_PAGE: Final = 2_000
#: Bytes that the vectors of all requests in flight may take; each is held some four times over on its way.
_IN_FLIGHT_BYTES: Final = 48 * 2**20
_COPIES: Final = 4
_SMALLEST_BATCH: Final = 16

#: Returns the next records in key order, behind a key.
ReadPage = Callable[[Connection, Key | None, int], Page]


class Job(NamedTuple):
    """A record on its way, cut into chunks."""

    record: PendingRecord
    chunks: tuple[str, ...]
    #: An estimate for what is to be bought, prompts included, good enough to keep a request below the provider's limit.
    tokens: int
    #: For each chunk the vector that is there already, None for one to buy; empty where all are to be bought.
    owned: tuple[NDArray[np.float32] | None, ...] = ()


def new_job(embedder: Embedder, record: PendingRecord, chunks: Iterable[str]) -> Job:
    """Make a record and its chunks a job."""
    cut = tuple(chunks)
    return Job(record, cut, sum(document_tokens(embedder, chunk) for chunk in cut))


def whole_source(stamps: Stamps, *, after: Key | None = None, upto: Key | None = None) -> ReadPage:
    """Read the records in key order: those behind ``after``, up to ``upto``."""

    def read(connection: Connection, last: Key | None, size: int) -> Page:
        return read_page(connection, stamps, last or after, size, upto)

    return read


def changed_records(stamps: Stamps) -> ReadPage:
    """Read the records that the outbox tells of, but those that an application holds now."""

    def read(connection: Connection, last: Key | None, size: int) -> Page:
        page = read_changed(connection, stamps, last, size)
        return replace(page, pending=tuple(free(connection, stamps, page.pending)))

    return read


def jobs(
    session: ReconnectingSession, read: ReadPage, embedder: Embedder, slow: Slow, limit: int | None = None
) -> Generator[Job]:
    """Yield the pending records that ``read`` finds, in its order, at most ``limit``.

    Args:
        session: what to read with; nothing else uses it.
        read: returns the records.
        embedder: what they are cut for.
        slow: notes the record that is being cut.
        limit: the most records; None for all.

    Raises:
        Abandoned: the run is being ended, and there were records left.
    """
    recipe = embedder.recipe
    cut = chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
    for record in islice(_pending(session, read), limit):
        letters = len(record.text)
        with slow.step(record.key, f"its text of {letters:,} characters is being cut into chunks"):
            job = new_job(embedder, record, _until_closed(cut, record.text, embedder))
        yield job


def _until_closed(cut: Chunker, text: str, embedder: Embedder) -> Iterator[str]:
    """Cut a text, as long as the run is wanted: a very long one takes minutes."""
    for chunk in cut(text):
        yield chunk
        if embedder.limiter.closed:
            raise Abandoned


def _pending(session: ReconnectingSession, read: ReadPage) -> Iterator[PendingRecord]:
    after: Key | None = None
    while True:
        page = session.run(lambda connection, last=after: read(connection, last, _PAGE))  # type: ignore[misc]
        yield from page.pending
        if page.last is None:
            return
        after = page.last


def batch_size(embedder: Embedder, concurrency: int) -> int:
    """Return how many texts to send at once: what the recipe says, or as many as keep memory flat.

    A provider's own limit may be thousands of texts, whose vectors would then be held for every request in flight.
    """
    if embedder.recipe.service.max_batch is not None:
        return embedder.max_batch
    fits = _IN_FLIGHT_BYTES // (concurrency * _COPIES * 4 * embedder.recipe.dims)
    return min(embedder.max_batch, max(fits, _SMALLEST_BATCH))


def batches(jobs: Iterable[Job], embedder: Embedder, most: Callable[[], int] | None = None) -> Generator[list[Job]]:
    """Pack complete records, up to the embedder's limits and ``most`` texts; a record above them makes its own batch.

    Where there is no record the embedder is asked for nothing, its limits included.
    """
    left = iter(jobs)
    for first in left:
        yield from pack(chain([first], left), lambda job: (len(job.chunks), job.tokens), embedder, most)
