"""Show what a run does: one line a step, and a progress line that moves on a terminal and repeats elsewhere."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from vecmig.cli import render
from vecmig.errors import Interrupted
from vecmig.events import (
    Event,
    IndexProgress,
    Noted,
    Progress,
    StepDone,
    StepStarted,
    TransferProgress,
    Waiting,
    Warned,
)
from vecmig.text import duration, percent

if TYPE_CHECKING:
    from rich.status import Status

#: Seconds between two progress lines where there is no terminal.
_PLAIN_EVERY: Final = 5.0


class Narrator(AbstractContextManager["Narrator"]):
    """Listens to a run and tells it on stderr."""

    def __init__(self, *, quiet: bool = False, named: bool = False) -> None:
        """Listen; with ``named`` each line says which collection it is about, as it always does from the second on."""
        self._quiet = quiet
        self._named = named
        #: Whether what goes on is shown in a line that moves, which line that is now, and what stands there.
        self._moves = False
        self._moving: Status | None = None
        self._text = ""
        #: A wait may be told from another thread.
        self._lock = RLock()
        self._last = time.monotonic()
        self._revision = ""
        self._seen: set[str | None] = set()
        #: The collection of the step that is at work.
        self._at: str | None = None
        self._waiting = ""

    def __enter__(self) -> Self:
        self._moves = not self._quiet and render.moves()
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
        with self._lock:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Warned():
                self._say(f"  warning: {event.message}", style="yellow")
            case _ if self._quiet:
                return
            case Noted():
                self._say(f"  {event.message}")
            case StepStarted():
                self._start(event)
            case StepDone():
                self._stop()
                self._at = None
                summary = self._of(event.collection, event.summary)
                self._say(f"  {event.step:<10}{summary} ({duration(event.seconds)})")
            case Progress():
                self._move(self._of(event.collection, progress_text(event)))
            case IndexProgress():
                self._move(self._of(event.collection, index_text(event)))
            case TransferProgress():
                self._move(self._of(event.collection, f"{event.what} {event.done:,} of {event.total:,} vectors"))
            case Waiting():
                self._wait(event)

    def _of(self, collection: str | None, text: str) -> str:
        """Begin a line with the name of its collection, unless it does so already."""
        begins = collection and text.startswith((f"{collection}:", f"{collection},"))
        return f"{collection}: {text}" if self._named and collection and not begins else text

    def _start(self, event: StepStarted) -> None:
        self._at = event.collection
        self._seen.add(self._at)
        self._named |= len(self._seen - {None}) > 1
        if event.revision and event.revision != self._revision:
            self._revision = event.revision
            self._say(f"{event.revision}  {event.collection}", style="bold")
        self._last = time.monotonic()
        if self._moves:
            self._show(self._of(self._at, f"{event.step} {event.subject}"))

    def _move(self, text: str) -> None:
        if self._moves:
            self._show(text)
        elif time.monotonic() - self._last >= _PLAIN_EVERY:
            self._last = time.monotonic()
            self._say(f"  {text}")

    def _wait(self, event: Waiting) -> None:
        text = self._of(self._at, f"waiting: {event.words}")
        if self._moves:
            self._show(text)
        elif event.what != self._waiting or time.monotonic() - self._last >= _PLAIN_EVERY:
            self._waiting, self._last = event.what, time.monotonic()
            self._say(f"  {text}")

    def _show(self, text: str) -> None:
        self._text = text
        moving = self._moving or render.moving()
        # beside what moves; a longer line would be cut off
        moving.update("\n".join(render.broken(render.visible(text), moving.console.width - 3)))
        if self._moving is None:
            self._moving = moving
            moving.start()

    def _say(self, text: str, *, style: str | None = None) -> None:
        # what moves would stand before it on its line
        shown = self._moving is not None
        self._stop()
        render.note(text, style=style)
        if shown:
            self._show(self._text)

    def _stop(self) -> None:
        # one that is started again takes the lines above it for its own, as many as it had
        if self._moving is not None:
            self._moving.stop()
            self._moving = None


def progress_text(event: Progress) -> str:
    """Put a backfill's progress into words: rows, rate, time left, coverage."""
    parts = [f"backfill {event.done:,} of {event.total:,}", f"{event.rate:,.0f}/s"]
    if event.eta is not None and event.done < event.total:
        parts.append(f"{duration(event.eta)} left")
    parts.append(f"coverage {percent(event.coverage)}")
    if event.rejected:
        parts.append(f"{event.rejected:,} rejected")
    return ", ".join(parts)


def index_text(event: IndexProgress) -> str:
    """Put the progress of an index build into words: what PostgreSQL is at, how much of it, time left."""
    text = f"index {event.phase}"
    if not event.total:
        return text
    unit = "" if event.phase == "loading tuples" else " pages"
    parts = [f"{text}: {event.done:,} of {event.total:,}{unit} ({percent(event.share)})"]
    if event.eta is not None and event.done < event.total:
        parts.append(f"{duration(event.eta)} left")
    return ", ".join(parts)
