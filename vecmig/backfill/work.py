"""Read the records that are pending, cut them into chunks, and pack them into batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from vecmig.chunking import chunker
from vecmig.embedders import Embedder, document_tokens, pack
from vecmig.store.connect import Database
from vecmig.store.vectors import Key, PendingRecord, Space, read_page

_PAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Job:
    """A record on its way, cut into chunks."""

    record: PendingRecord
    chunks: tuple[str, ...]
    #: An estimate, prompts included, good enough to keep a request below the provider's limit.
    tokens: int


def new_job(embedder: Embedder, record: PendingRecord, chunks: Iterable[str]) -> Job:
    """Make a record and its chunks a job."""
    cut = tuple(chunks)
    return Job(record, cut, sum(document_tokens(embedder, chunk) for chunk in cut))


def jobs(database: Database, space: Space, embedder: Embedder, limit: int | None = None) -> Generator[Job]:
    """Yield the pending records of a space in key order, at most ``limit``, on a connection of their own."""
    recipe = embedder.recipe
    cut = chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
    for record in islice(_pending(database, space), limit):
        yield new_job(embedder, record, cut(record.text))


def _pending(database: Database, space: Space) -> Iterator[PendingRecord]:
    after: Key | None = None
    with database.session() as connection:
        while True:
            page = read_page(connection, space, after, _PAGE)
            yield from page.pending
            if page.size < _PAGE:
                return
            after = page.last


def batches(jobs: Iterable[Job], embedder: Embedder) -> Generator[list[Job]]:
    """Pack whole records, up to the embedder's limits; a record above them makes a batch of its own."""
    return pack(jobs, lambda job: (len(job.chunks), job.tokens), embedder)
