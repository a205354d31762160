"""What the library tells while it works: frozen records, which only the command line turns into words on a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vecmig.text import duration


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of a revision begins: expand, backfill, index, gate, cutover, rollback, …."""

    step: str
    revision: str
    collection: str | None
    #: What the step is about, for people: a tag, or two.
    subject: str
    #: The tag that it serves.
    tag: str = ""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step ended and was checked on a fresh connection."""

    step: str
    revision: str
    collection: str | None
    #: One sentence with the figures.
    summary: str
    #: How long it took, in seconds.
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the backfill of one tag is."""

    collection: str
    tag: str
    #: Records written by this run, and those that it found pending when it began.
    done: int
    total: int
    rejected: int
    #: Records per second over this run.
    rate: float
    #: Share of the eligible records that are fresh now, from 0 to 1, as far as this run knows.
    coverage: float

    @property
    def eta(self) -> float | None:
        """Seconds left at this rate; None before there is one."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far the index build of one tag is, by PostgreSQL's own account."""

    collection: str
    tag: str
    #: What PostgreSQL is at, in its words: loading tuples, validation scanning table, ….
    phase: str
    #: Vectors while they are loaded, else pages of 8 kB; both 0 where PostgreSQL does not count.
    done: int
    total: int
    #: Seconds left in this phase at the pace of the last seconds; None before there is one.
    eta: float | None = None

    @property
    def share(self) -> float:
        """Done of total, from 0 to 1."""
        return self.done / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far vectors are on their way into a file, or out of one."""

    collection: str
    tag: str
    #: ``export`` or ``import``.
    what: str
    #: Vectors that were written or read, and all of the tag or the file; of texts that repeat only one is exported.
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run waits, and for what. The only event that may come from any thread."""

    reason: str
    #: Seconds until the next try; None where it is not known.
    seconds: float | None = None
    #: What tells this wait from another one, where ``reason`` changes while it lasts: it may count seconds.
    cause: str = ""

    @property
    def what(self) -> str:
        """What is waited for: the same for as long as it is."""
        return self.cause or self.reason

    @property
    def words(self) -> str:
        """Why, and when the next try is."""
        return self.reason if self.seconds is None else f"{self.reason}, next try in {duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the operator should know, that stops nothing."""

    message: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something the operator may want to know, that asks for nothing."""

    message: str


Event = StepStarted | StepDone | Progress | IndexProgress | TransferProgress | Waiting | Warned | Noted
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
