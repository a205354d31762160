"""The file of a batch: texts are written into it in place of being asked for, and taken from its answers later."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import IO, Any, Final, Protocol, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from vecmig.backfill.batches import Job
from vecmig.embedders import (
    BatchProvider,
    Deferred,
    Embedded,
    Embedder,
    Kind,
    LineAnswer,
    OrderedBatch,
    document_tokens,
)
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError
from vecmig.homes import chunk_digest
from vecmig.source.keys import Key
from vecmig.text import count, counted

#: How often answers are fetched of which fewer can be read than there are.
_TRIES: Final = 3


class Ordering(Protocol):
    """What orders the texts of a file."""

    provider: BatchProvider
    #: Most tokens of one order.
    most_tokens: float

    def place(self, file: BatchFile) -> None:
        """Order what is in a file, and empty it."""


@dataclass(slots=True)
class BatchFile:
    """What is to be ordered next: lines on disk, and what is known of them."""

    orders: Ordering
    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile, init=False)
    size: int = field(default=0, init=False)
    tokens: int = field(default=0, init=False)
    #: The names of its lines, each the digest of a text as it is sent.
    names: set[str] = field(default_factory=set, init=False)
    #: The digests of the records' texts and chunks, 16 bytes each, by which others with the same text wait for them.
    digests: bytearray = field(default_factory=bytearray, init=False)
    #: The last record that was read before it, and the last one that was read for it.
    after: Key | None = field(default=None, init=False)
    upto: Key | None = field(default=None, init=False)
    #: Whether records of it have chunks whose vectors were there already.
    shared: bool = field(default=False, init=False)

    def add(self, texts: Mapping[str, int]) -> bool:
        """Write texts, with the tokens of each, as lines; return whether a file has room for them.

        What is there is ordered first where they have no room beside it.
        """
        provider = self.orders.provider
        named = {chunk_digest(text): text for text in texts}
        lines = {name: provider.line(name, text) for name, text in named.items() if name not in self.names}
        size, tokens = sum(map(len, lines.values())), sum(texts[named[name]] for name in lines)
        if len(lines) > provider.most_texts or size > provider.most_bytes:
            return False
        if self.names and (
            len(self.names) + len(lines) > provider.most_texts
            or self.size + size > provider.most_bytes
            or self.tokens + tokens > self.orders.most_tokens
        ):
            self.orders.place(self)
            return self.add(texts)
        self.file.writelines(lines.values())
        self.names.update(lines)
        self.size += size
        self.tokens += tokens
        return True

    def note(self, batch: Sequence[Job], digests: Callable[[Job], Sequence[str]]) -> None:
        """Note which records were read for it; ``digests`` gives those of a record's texts."""
        self.upto = batch[-1].record.key
        for job in batch:
            self.shared = self.shared or bool(job.owned)
            for digest, vector in zip_longest(digests(job), job.owned):
                if vector is None:
                    self.digests += UUID(digest).bytes

    def empty(self) -> None:
        """Begin anew, behind the last record that was read."""
        self.file.seek(0)
        self.file.truncate()
        self.size = self.tokens = 0
        self.names, self.digests = set(), bytearray()
        self.after, self.shared = self.upto, False

    def close(self) -> None:
        """Delete the file."""
        self.file.close()


class OrderingEmbedder(Deferred):
    """Writes texts into a file in place of asking for them: all of them are left, for now."""

    def __init__(self, embedder: Embedder, file: BatchFile) -> None:
        super().__init__(embedder.recipe, embedder.limiter, lambda: embedder)
        self._file = file

    @property
    def max_batch_tokens(self) -> int | None:
        """The most tokens that go into a file at once; None for no limit."""
        most = self._file.orders.most_tokens
        found = super().max_batch_tokens
        return found if math.isinf(most) else int(min(most, most if found is None else found))

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        owners: Sequence[Hashable] | None = None,
        tokens: int | None = None,
    ) -> Embedded:
        """Leave all texts; those of a record that no file has room for are asked for after all."""
        if not self._file.add({text: document_tokens(self, text) for text in texts}):
            return super().embed_each(texts, kind, owners=owners, tokens=tokens)
        return Embedded(_no_vectors(len(texts), self.recipe.dims), left=frozenset(range(len(texts))))


@dataclass(slots=True)
class Answers:
    """A context with what the provider has answered to a batch, on disk: in memory is a place for each text."""

    dims: int
    #: The most texts that are answered.
    texts: int
    #: Where each text has its vector.
    places: dict[str, int] = field(default_factory=dict)
    #: Texts that the provider refuses, and why.
    refused: dict[str, str] = field(default_factory=dict)
    #: Why further texts would get no vector either; None where nothing says so.
    failure: EmbedderError | None = None
    #: Texts whose answer is charged, tokens of these as far as the provider says, and texts of which it says none.
    _charged: set[str] = field(default_factory=set)
    _tokens: int = 0
    _uncounted: int = 0
    _file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _vectors: NDArray[np.float32] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._vectors = None
        self._file.close()

    def fetch(self, provider: BatchProvider, batch: OrderedBatch) -> None:
        """Take what a batch came to.

        Raises:
            TerminalEmbedderError: the provider gives fewer answers than it has counted, or none any more.
        """
        for _ in range(_TRIES):
            self._read(provider, batch)
            if len(self._charged) >= batch.answered:
                break
        else:
            raise TerminalEmbedderError(
                f"Of the {counted(batch.answered, 'answer')} to batch {batch.id} the provider gives "
                f"{count(len(self._charged))} that can be read.",
                state="They are still on order.",
            )
        if self.places:
            self._file.flush()
            self._vectors = np.memmap(self._file, np.float32, "r", shape=(len(self.places), self.dims))

    def _read(self, provider: BatchProvider, batch: OrderedBatch) -> None:
        with tempfile.TemporaryFile() as lines:
            for file in batch.files:
                if not provider.fetch(file, self.texts, lines):
                    raise TerminalEmbedderError(
                        f"The provider does not have the answers to batch {batch.id} any more.",
                        state="They are still on order.",
                    )
                for answer in provider.answers(lines):
                    self._take(answer)

    def _take(self, answer: LineAnswer) -> None:
        name, vector, tokens, charged, failure = answer
        if charged and name not in self._charged:
            self._charged.add(name)
            self._tokens += tokens or 0
            self._uncounted += tokens is None
        if vector is not None and name not in self.places:
            self.places[name] = len(self.places)
            self._file.write(np.ascontiguousarray(vector[0], np.float32).tobytes())
        elif isinstance(failure, PoisonInputError):
            self.refused[name] = failure.message
        elif isinstance(failure, TerminalEmbedderError):
            self.failure = failure

    def charged(self, mean: float) -> int:
        """Return the tokens that are charged: ``mean`` for each text of which the provider says none."""
        return self._tokens + round(mean * self._uncounted)

    def of(self, name: str) -> NDArray[np.float32] | None:
        """Return the vector of a text, of shape (dims,)."""
        place = self.places.get(name)
        return None if place is None or self._vectors is None else self._vectors[place]


class CollectedEmbedder(Deferred):
    """Takes vectors from the answers to a batch; what has none there is left."""

    def __init__(self, embedder: Embedder, answers: Answers) -> None:
        super().__init__(embedder.recipe, embedder.limiter, lambda: embedder)
        self._answers = answers

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",  # noqa: ARG002  # they were all ordered as documents
        *,
        owners: Sequence[Hashable] | None = None,  # noqa: ARG002  # nothing is sent
        tokens: int | None = None,  # noqa: ARG002
    ) -> Embedded:
        """Find the vectors of texts, and name those that the provider has refused."""
        vectors = np.full((len(texts), self.recipe.dims), np.nan, np.float32)
        refused: dict[int, str] = {}
        left: set[int] = set()
        for row, text in enumerate(texts):
            name = chunk_digest(text)
            vector = self._answers.of(name)
            if vector is not None:
                vectors[row] = vector
            elif name in self._answers.refused:
                refused[row] = self._answers.refused[name]
            else:
                left.add(row)
        return Embedded(vectors, refused, left=frozenset(left))


def _no_vectors(count: int, dims: int) -> NDArray[Any]:
    """Return rows without numbers, which take no memory."""
    return np.broadcast_to(np.float32(np.nan), (count, dims))
