"""Show what a run does: one line a step, and a progress line that moves on a terminal and repeats elsewhere."""

from __future__ import annotations

import math
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from vecmig.cli import render
from vecmig.errors import Interrupted
from vecmig.events import Event, Progress, StepDone, StepStarted, Waiting, Warned

if TYPE_CHECKING:
    from rich.status import Status

#: Seconds between two progress lines where there is no terminal.
_PLAIN_EVERY: Final = 5.0


class Narrator(AbstractContextManager["Narrator"]):
    """Listens to a run and tells it on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._moving: Status | None = None
        self._last = time.monotonic()
        self._revision = ""
        self._waiting = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            self._moving = render.stderr().status("")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if kind is KeyboardInterrupt:
            hint = "To go on, run the same command again."
            raise Interrupted("Interrupted.", state="What was committed stays.", hint=hint) from None

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        match event:
            case Warned():
                self._say(f"  warning: {event.message}", style="yellow")
            case _ if self._quiet:
                return
            case StepStarted():
                self._start(event)
            case StepDone():
                self._stop()
                self._say(f"  {event.step:<10}{event.summary} ({seconds(event.seconds)})")
            case Progress():
                self._move(progress_text(event))
            case Waiting():
                self._wait(event)

    def _start(self, event: StepStarted) -> None:
        if event.revision and event.revision != self._revision:
            self._revision = event.revision
            self._say(f"{event.revision}  {event.collection}", style="bold")
        self._last = time.monotonic()
        if self._moving is not None:
            self._moving.update(f"{event.step} {event.subject}")
            self._moving.start()

    def _move(self, text: str) -> None:
        if self._moving is not None:
            self._moving.update(text)
        elif time.monotonic() - self._last >= _PLAIN_EVERY:
            self._last = time.monotonic()
            self._say(f"  {text}")

    def _wait(self, event: Waiting) -> None:
        again = f", next try in {event.seconds:.0f} s" if event.seconds is not None else ""
        text = f"waiting: {event.reason}{again}"
        if self._moving is not None:
            self._moving.update(text)
        elif event.reason != self._waiting or time.monotonic() - self._last >= _PLAIN_EVERY:
            self._waiting, self._last = event.reason, time.monotonic()
            self._say(f"  {text}")

    def _say(self, text: str, *, style: str | None = None) -> None:
        render.note(text, style=style)

    def _stop(self) -> None:
        if self._moving is not None:
            self._moving.stop()


def progress_text(event: Progress) -> str:
    """Put a backfill's progress into words: rows, rate, time left, coverage."""
    parts = [f"backfill {event.done:,} of {event.total:,}", f"{event.rate:,.0f}/s"]
    if event.eta is not None and event.done < event.total:
        parts.append(f"{seconds(event.eta)} left")
    parts.append(f"coverage {percent(event.coverage)}")
    if event.rejected:
        parts.append(f"{event.rejected:,} rejected")
    return ", ".join(parts)


def percent(share: float) -> str:
    """Write a share as a percentage that is never rounded up: 0.99996 is 99.99 %, and 100 % means all."""
    if share >= 1:
        return "100 %"
    return f"{int(share * 10_000) / 100:.2f} %"


def percent_above(share: float) -> str:
    """Write a share that must stay small as a percentage that is never rounded down: 0.00001 is 0.01 %."""
    return f"{math.ceil(round(share * 10_000, 6)) / 100:.2f} %"


def seconds(value: float) -> str:
    """Write a duration for people: 8 ms, 4.2 s, 3 min 20 s, 2 h 5 min."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
