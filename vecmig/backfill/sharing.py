"""Buy the vector of a text once: what has the same text waits for it, or takes one that the tag has already."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from vecmig.backfill.batches import Job
from vecmig.backfill.seen_texts import SeenTexts
from vecmig.embedders import Embedder, document_tokens
from vecmig.freshness.stamps import Stamps
from vecmig.homes import Shared, Vector, chunk_digest, find_gathered, find_own, find_texts, forget_gathered
from vecmig.postgres.reconnecting import ReconnectingSession

#: Chunks, and characters of texts, that are looked up at once.
_CHUNKS: Final = 2_000
_LETTERS: Final = 8 * 2**20


@dataclass(slots=True)
class TextSharing:
    """One pass over the pending records, in which none is let through whose text is on its way already."""

    stamps: Stamps
    embedder: Embedder
    #: What to look up with; nothing else uses it meanwhile.
    session: ReconnectingSession
    #: Whether vectors are looked up among all that the tag has; else only among those of an edited record itself.
    looks_up: bool = False
    #: What tells the texts on their way; None where each record is let through.
    seen: SeenTexts | None = None
    #: Records that were let through, and that wait for the vector of another one.
    passed: int = 0
    waiting: int = 0
    #: How often the tag's stamps were looked at, and whether the role may have no temporary table for more.
    _looks: int = field(default=0, init=False)
    _refused: bool = field(default=False, init=False)

    def over(self, jobs: Generator[Job]) -> Generator[Job]:
        """Yield those of the jobs that have all vectors, or texts of their own, with what the tag has of them."""
        # alone where nothing is looked up, so that none waits for the next to be cut
        for group in _groups(jobs) if self.looks_up else ([job] for job in jobs):
            digests = [self.digests(job) for job in group]
            shared = self._shared(group, digests)
            for job, own in zip(group, digests, strict=True):
                bought = own if not shared else [digest for digest in own if digest not in shared]
                if self._on_its_way(bought):
                    self.waiting += 1
                else:
                    self.passed += 1
                    yield self._with_owned(job, tuple(shared.get(digest) for digest in own)) if shared else job

    def close(self) -> None:
        """Let go of what was gathered for it."""
        if self._looks > 1 and not self._refused:
            self.session.run(forget_gathered)

    def digests(self, job: Job) -> list[str]:
        """Return the digests by which the texts of a record are known: one, or one for each of its chunks."""
        if not self.stamps.chunks:
            return [job.record.source_hash]
        return [chunk_digest(chunk) for chunk in job.chunks]

    def _shared(self, group: Sequence[Job], digests: Sequence[Sequence[str]]) -> Shared:
        """Find the vectors that the tag has of the texts of some jobs."""
        stamps = self.stamps
        if self.looks_up and not self._refused:
            wanted = list(dict.fromkeys(digest for own in digests for digest in own))
            find = find_gathered if self._looks else find_texts
            found = self.session.run(lambda connection: find(connection, stamps, wanted))
            self._looks, self._refused = self._looks + 1, found is None
            # what was gathered may have been replaced since, by another record's edit
            return (found or {}) | self._own(group, digests, found or {})
        return self._own(group, digests, {})

    def _own(self, group: Sequence[Job], digests: Sequence[Sequence[str]], found: Shared) -> Shared:
        """Find the vectors of chunks that edited records have already, of those that were not found elsewhere."""
        stamps = self.stamps
        pairs = zip(group, digests, strict=True) if stamps.chunks else ()
        edited = [(job, own) for job, own in pairs if not job.record.new and any(one not in found for one in own)]
        if not edited:
            return {}
        keys = [job.record.key for job, _ in edited]
        wanted = list(dict.fromkeys(digest for _, own in edited for digest in own if digest not in found))
        return self.session.run(lambda connection: find_own(connection, stamps, keys, wanted))

    def _with_owned(self, job: Job, owned: tuple[Vector | None, ...]) -> Job:
        bought = (chunk for chunk, vector in zip(job.chunks, owned, strict=True) if vector is None)
        return job._replace(owned=owned, tokens=sum(document_tokens(self.embedder, chunk) for chunk in bought))

    def _on_its_way(self, bought: Sequence[str]) -> bool:
        if self.seen is None or not bought:
            return False
        if len(bought) == 1:
            return self.seen.add(bought[0])
        if any(digest in self.seen for digest in bought):
            return True
        for digest in bought:
            self.seen.add(digest)
        return False


def _groups(jobs: Generator[Job]) -> Iterator[list[Job]]:
    """Cut the jobs into groups that are looked up at once."""
    group: list[Job] = []
    chunks = letters = 0
    for job in jobs:
        group.append(job)
        chunks, letters = chunks + len(job.chunks), letters + len(job.record.text)
        if chunks >= _CHUNKS or letters >= _LETTERS:
            yield group
            group, chunks, letters = [], 0, 0
    if group:
        yield group
