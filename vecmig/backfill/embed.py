"""Embed one batch, and find out which records of it cannot be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vecmig.backfill.batches import Job, new_job
from vecmig.embedders import (
    Abandoned,
    Embedded,
    Embedder,
    cut_to_limit,
    document_tokens,
    over_limit,
    row_problems,
)
from vecmig.errors import EmbedderError
from vecmig.freshness.pending import PendingRecord
from vecmig.homes import EmbeddedRecord
from vecmig.model.collection import Storage

#: In place of a row of the answer, for a chunk that has its vector already.
_OWNED: Final = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one batch: records to write, and records to reject with the reason."""

    embedded: list[EmbeddedRecord]
    rejected: list[tuple[PendingRecord, str]]
    tokens: int
    #: What ended it before all records were embedded.
    failure: EmbedderError | Abandoned | None = None

    @property
    def chunks(self) -> int:
        """Vectors to write."""
        return sum(len(record.vectors) for record in self.embedded)


def embed(embedder: Embedder, batch: Sequence[Job], storage: Storage) -> Answer:
    """Embed one batch for a storage type.

    A record is rejected if the provider cannot take one of its chunks, or if the storage type, or the constraint on
    the tag's partition, would refuse one of its vectors.
    """
    ready, rejected = _fitting(embedder, batch)
    if not ready:
        return Answer([], rejected, 0)
    order, recipe = _ordered(embedder, ready), embedder.recipe
    embedded = Embedded(np.empty((0, recipe.dims), np.float32))
    if order.texts:
        embedded = embedder.embed_each(order.texts, owners=order.owners, tokens=order.tokens)
    answer = Answer([], rejected, order.tokens, embedded.failure)
    problems = row_problems(embedded.vectors, storage=storage, unit=recipe.normalise != "none")
    problems = {row: why for row, why in problems.items() if row not in embedded.left} | dict(embedded.refused)
    for job, rows in zip(ready, order.rows, strict=True):
        reason = next((problems[row] for row in rows if row in problems), None) if problems else None
        if reason is not None:
            answer.rejected.append((job.record, reason))
        elif embedded.left.isdisjoint(rows):
            texts = job.chunks if recipe.chunk is not None else None
            key, _, source_hash, new = job.record
            answer.embedded.append(EmbeddedRecord(key, source_hash, _vectors(job, rows, embedded), texts, new))
    return answer


@dataclass(frozen=True, slots=True)
class _Order:
    """What is bought for a batch."""

    texts: list[str]
    #: Whose each of them is: the place of its record in the batch, or something else where several have it.
    owners: list[int]
    tokens: int
    #: For each record the rows of its chunks in the answer; _OWNED for one that has its vector already.
    rows: list[list[int]]


def _ordered(embedder: Embedder, batch: Sequence[Job]) -> _Order:
    texts: list[str] = []
    owners: list[int] = []
    rows: list[list[int]] = []
    places: dict[str, int] = {}
    for at, job in enumerate(batch):
        rows.append([])
        for chunk, vector in zip_longest(job.chunks, job.owned):
            row = _OWNED if vector is not None else places.setdefault(chunk, len(texts))
            if row == len(texts):
                texts.append(chunk)
                owners.append(at)
            elif row != _OWNED and owners[row] != at:
                # it is sent whatever becomes of one of them
                owners[row] = -1 - row
            rows[-1].append(row)
    bought = len(texts) == sum(len(job.chunks) for job in batch)
    tokens = sum(job.tokens for job in batch) if bought else sum(document_tokens(embedder, text) for text in texts)
    return _Order(texts, owners, tokens, rows)


def _fitting(embedder: Embedder, batch: Sequence[Job]) -> tuple[list[Job], list[tuple[PendingRecord, str]]]:
    ready: list[Job] = []
    rejected: list[tuple[PendingRecord, str]] = []
    if embedder.max_input_tokens is None and all(job.chunks for job in batch):
        return list(batch), rejected
    for job in batch:
        reason = _too_long(embedder, job)
        if not job.chunks:
            rejected.append((job.record, "the text has no chunk that is not blank"))
        elif reason is None:
            ready.append(job)
        elif embedder.recipe.too_long == "cut":
            ready.append(new_job(embedder, job.record, (cut_to_limit(embedder, chunk) for chunk in job.chunks)))
        else:
            rejected.append((job.record, reason))
    return ready, rejected


def _too_long(embedder: Embedder, job: Job) -> str | None:
    for chunk in job.chunks:
        tokens = over_limit(embedder, chunk)
        if tokens is not None:
            return f"{tokens} tokens, but the model takes {embedder.max_input_tokens} (too_long: cut, or chunk it)"
    return None


def _vectors(job: Job, rows: list[int], embedded: Embedded) -> NDArray[np.float32]:
    """Return the vectors of a record, of shape (chunks, dims); those that were all bought for it are no copy."""
    if not job.owned and rows == list(range(rows[0], rows[0] + len(rows))):
        return embedded.vectors[rows[0] : rows[-1] + 1]
    owned = job.owned or [None] * len(rows)
    return np.stack(
        [embedded.vectors[row] if vector is None else vector for row, vector in zip(rows, owned, strict=True)]
    )
