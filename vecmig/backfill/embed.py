"""Embed one batch, and find out which records of it cannot be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecmig.backfill.work import Job, new_job
from vecmig.config import Storage
from vecmig.embedders import Embedder, cut_to_limit, embed_all, over_limit, row_problems
from vecmig.errors import PoisonInputError
from vecmig.store.vectors import EmbeddedRecord, PendingRecord


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one batch: records to write, and records to reject with the reason."""

    embedded: list[EmbeddedRecord]
    rejected: list[tuple[PendingRecord, str]]
    tokens: int

    @property
    def chunks(self) -> int:
        """Vectors to write."""
        return sum(len(record.vectors) for record in self.embedded)


def embed(embedder: Embedder, batch: Sequence[Job], storage: Storage) -> Answer:
    """Embed one batch for a storage type.

    A record that the provider cannot take is found by halving the batch, and rejected; so is one whose vector the
    storage type, or the constraint on the tag's partition, would refuse.
    """
    ready, rejected = _fitting(embedder, batch)
    answer = Answer([], rejected, sum(job.tokens for job in ready))
    _embed_into(answer, embedder, ready, storage)
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


def _embed_into(answer: Answer, embedder: Embedder, batch: Sequence[Job], storage: Storage) -> None:
    if not batch:
        return
    try:
        chunks = [chunk for job in batch for chunk in job.chunks]
        vectors = embed_all(embedder, chunks, sum(job.tokens for job in batch))
    except PoisonInputError as error:
        if len(batch) == 1:
            answer.rejected.append((batch[0].record, error.message))
            return
        middle = len(batch) // 2
        _embed_into(answer, embedder, batch[:middle], storage)
        _embed_into(answer, embedder, batch[middle:], storage)
        return
    problems = row_problems(vectors, storage=storage, unit=embedder.recipe.normalise != "none")
    chunked = embedder.recipe.chunk is not None
    end = 0
    for job in batch:
        start, end = end, end + len(job.chunks)
        reason = next((problems[row] for row in range(start, end) if row in problems), None) if problems else None
        if reason is not None:
            answer.rejected.append((job.record, reason))
            continue
        texts = job.chunks if chunked else None
        key, _, source_hash, new = job.record
        answer.embedded.append(EmbeddedRecord(key, source_hash, vectors[start:end], texts, new))
