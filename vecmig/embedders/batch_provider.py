"""What a Batch API is to those who order through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final, NamedTuple, Protocol
from uuid import UUID

from vecmig.embedders.embedder import Vectors
from vecmig.errors import EmbedderError

_ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class OrderedBatch:
    """How a batch stands at the provider."""

    id: str
    #: The provider's word: validating, in_progress, finalizing, completed, failed, expired, cancelling or cancelled.
    status: str
    #: Texts that have their vectors.
    answered: int
    #: The files of answers and of failures, where there are some.
    files: tuple[str, ...]
    #: Why the provider did not take it, in its words; and whether that is because its queue has no room for it.
    problem: str
    no_room: bool

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _ENDED


class LineAnswer(NamedTuple):
    """What became of one text of a batch."""

    name: str
    #: Of shape (1, dims), as a request's would be; None where there is none.
    vector: Vectors | None
    #: Tokens that are charged; None where the provider does not say.
    tokens: int | None
    #: Whether the provider came to it, and charges for it.
    charged: bool
    #: Why there is no vector; None where the provider did not come to it.
    failure: EmbedderError | None


class BatchProvider(Protocol):
    """Takes texts as files, and gives their vectors within a day."""

    #: Texts and bytes that one file may have.
    most_texts: int
    most_bytes: int

    @property
    def address(self) -> str:
        """The server, without what may be a key."""

    def line(self, name: str, text: str) -> bytes:
        """Return the line of a file that asks for the vector of a text; ``name`` comes back with it."""

    def upload(self, file: IO[bytes], size: int, order: UUID) -> str:
        """Send a file of lines; return the provider's id of it. Nothing is charged yet."""

    def order(self, file: str, order: UUID) -> OrderedBatch:
        """Order what an uploaded file asks for."""

    def find(self, order: UUID, since: datetime) -> OrderedBatch | None:
        """Find the newest batch of an order among those that were made since it was written down; None without one."""

    def look(self, batch: str) -> OrderedBatch | None:
        """Return how a batch stands; None where the provider knows none of that id."""

    def fetch(self, file: str, texts: int, to: IO[bytes]) -> bool:
        """Write a file of answers to that many texts to ``to``; return whether the provider still has it."""

    def answers(self, lines: IO[bytes]) -> Iterator[LineAnswer]:
        """Read a file of answers, which come in any order."""

    def forget(self, *files: str) -> None:
        """Delete files at the provider, as far as it does that."""

    def close(self) -> None:
        """Close the connections."""
