"""Count what a run does, and tell of it."""

from __future__ import annotations

import math
import time
from dataclasses import astuple, dataclass, field
from typing import Final

from vecmig.backfill.pipeline import BatchResult
from vecmig.backfill.slow import Slow
from vecmig.errors import Interrupted
from vecmig.events import Listener, Progress, Waiting, Warned
from vecmig.freshness.coverage import Coverage
from vecmig.freshness.stamps import Stamps
from vecmig.ledger.control import Run, What
from vecmig.text import counted, noun

#: Seconds between two reports of progress.
_REPORT_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True)
class Figures:
    """What was done up to a moment."""

    written: int = 0
    rejected: int = 0
    refused: int = 0
    tokens: int = 0
    #: Vectors that were taken over from the source, and those that are not such as the tag can have.
    adopted: int = 0
    unsound: int = 0

    def since(self, before: Figures) -> Figures:
        """Return what was done since an earlier moment."""
        pairs = zip(astuple(self), astuple(before), strict=True)
        return Figures(*(now - then for now, then in pairs))

    @property
    def is_progress(self) -> bool:
        """Whether something was done."""
        return any(count > 0 for count in astuple(self))


@dataclass(slots=True)
class Counters:
    """What a run has done so far; counted by the thread that began it, read by any."""

    stamps: Stamps
    what: What
    listener: Listener
    #: Records to do in this run, and how the tag stood when it began.
    total: int = 0
    fresh: int = 0
    eligible: int = 0
    started: float = field(default_factory=time.monotonic)
    written: int = 0
    #: What was done before ``started``.
    before: int = 0
    rejected: int = 0
    #: Records that changed, went or were held between reading and writing: in this pass, and in the one before.
    refused: int = 0
    refused_before: float = math.inf
    tokens: int = 0
    adopted: int = 0
    unsound: int = 0
    reported: float = 0.0
    #: Why the database was waited for, until something is written again.
    waits_for: str | None = None
    #: The records that take long.
    slow: Slow = field(init=False)

    def __post_init__(self) -> None:
        self.slow = Slow(self.stamps.source.collection.name, lambda reason: self.listener(Waiting(reason)))

    def expect(self, before: Coverage, limit: int | None) -> None:
        """Set what there is to do."""
        pending = before.eligible - before.fresh - before.rejected
        self.total = pending if limit is None else min(pending, limit)
        self.fresh, self.eligible = before.fresh, before.eligible

    def again(self) -> None:
        """Begin another pass of a run without end: the counts go on, the rate begins again."""
        self.started, self.before, self.refused, self.waits_for = time.monotonic(), self.done, 0, None

    def rest(self, reason: str) -> None:
        """Enter that there is nothing to do for now, and what is waited for."""
        self.total, self.waits_for = self.handled + self.adopted, reason

    @property
    def figures(self) -> Figures:
        """What was done so far."""
        return Figures(self.written, self.rejected, self.refused, self.tokens, self.adopted, self.unsound)

    @property
    def handled(self) -> int:
        """Records embedded and written, or rejected."""
        return self.written + self.rejected

    @property
    def done(self) -> int:
        """Records that have their vectors by this run, be they embedded or taken over."""
        return self.written + self.adopted

    @property
    def rate(self) -> float:
        """Records done a second, over the run, or the pass that it began last."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    def add(self, result: BatchResult) -> None:
        """Count a batch."""
        name = self.stamps.source.collection.name
        for record, reason in result.rejected[:3]:
            self.listener(Warned(f"Record {', '.join(record.key)} of {name} is rejected: {reason}"))
        refused = result.embedded - result.written
        self.count(Figures(result.written, len(result.rejected), refused, result.tokens))

    def count(self, done: Figures) -> None:
        """Count what was done."""
        self.written += done.written
        self.rejected += done.rejected
        self.refused += done.refused
        self.tokens += done.tokens
        self.adopted += done.adopted
        self.unsound += done.unsound
        self.waits_for = None
        if time.monotonic() - self.reported >= _REPORT_EVERY:
            self.report()

    def report(self) -> None:
        """Tell how far the run is."""
        self.reported = time.monotonic()
        coverage = min(1.0, (self.fresh + self.done) / self.eligible) if self.eligible else 1.0
        collection, tag = self.stamps.source.collection.name, self.stamps.tag
        self.listener(
            Progress(collection, tag, self.done, max(self.total, self.done), self.rejected, self.rate, coverage)
        )

    def wait(self, reason: str, seconds: float | None = None) -> None:
        """Tell why the database is waited for; from any thread."""
        self.waits_for = reason.removesuffix(".")
        self.listener(Waiting(self.waits_for, seconds))

    @property
    def kept(self) -> str:
        """What a run that failed leaves behind."""
        if not self.written:
            return "Nothing was embedded by this run."
        were, stay = noun(self.written, "was", "were"), noun(self.written, "stays", "stay")
        return f"{counted(self.written, 'record')} {were} embedded by this run, and {stay}."

    def interrupted(self, state: str = "") -> Interrupted:
        """Say that the run was ended by a signal; ``state`` where not all that was in flight came to its end."""
        state = state or "What was in flight was finished and written; nothing is paid for twice."
        hint = "To go on, run the same command again."
        return Interrupted(f"Interrupted after {counted(self.done, 'record')}.", state=state, hint=hint)

    def standing(self) -> Run:
        """Return the run as it stands, for operators elsewhere."""
        return Run(
            self.stamps.source.collection.name,
            self.stamps.tag,
            self.what,
            "running" if self.waits_for is None else "waiting",
            self.waits_for or self.slow.reason,
            self.written,
            self.total,
            self.rejected,
            self.rate,
        )
