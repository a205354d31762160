"""Embed one batch, and find out which records of it cannot be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecmig.backfill.batches import Job, new_job
from vecmig.embedders import Abandoned, Embedded, Embedder, cut_to_limit, over_limit, row_problems
from vecmig.errors import EmbedderError
from vecmig.freshness.pending import PendingRecord
from vecmig.homes import EmbeddedRecord
from vecmig.model.collection import Storage


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
    chunks = [chunk for job in ready for chunk in job.chunks]
    owners = [at for at, job in enumerate(ready) for _ in job.chunks]
    tokens = sum(job.tokens for job in ready)
    embedded = embedder.embed_each(chunks, owners=owners, tokens=tokens)
    answer = Answer([], rejected, tokens, embedded.failure)
    _sort_into(answer, embedder, ready, embedded, storage)
    return answer


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


def _sort_into(answer: Answer, embedder: Embedder, batch: Sequence[Job], embedded: Embedded, storage: Storage) -> None:
    """Tell the records of a batch that can be written from those to reject, and from those that were left."""
    recipe = embedder.recipe
    problems = row_problems(embedded.vectors, storage=storage, unit=recipe.normalise != "none")
    problems = {row: why for row, why in problems.items() if row not in embedded.left} | dict(embedded.refused)
    end = 0
    for job in batch:
        start, end = end, end + len(job.chunks)
        rows = range(start, end)
        reason = next((problems[row] for row in rows if row in problems), None) if problems else None
        if reason is not None:
            answer.rejected.append((job.record, reason))
        elif embedded.left.isdisjoint(rows):
            texts = job.chunks if recipe.chunk is not None else None
            key, _, source_hash, new = job.record
            answer.embedded.append(EmbeddedRecord(key, source_hash, embedded.vectors[start:end], texts, new))
