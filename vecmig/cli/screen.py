"""A result that is drawn over the one before, on a terminal's second screen, so that nothing is scrolled out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final, Self

from vecmig.cli import render

_SECOND, _FIRST = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
#: Terminals that know it show all of what stands between at once.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
#: Columns that stay free: behind the last one some terminals erase the character that stands there.
_FREE: Final = 1


class Screen(AbstractContextManager["Screen"]):
    """The second screen of a terminal while it is open; what was drawn last stays on the first one when it closes."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def __enter__(self) -> Self:
        render.write(_SECOND)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        render.write(_FIRST + "".join(f"{line}\n" for line in self._drawn))

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw the results that are printed inside, once they are complete."""
        with render.taken(max(_size().columns - _FREE, 1)) as lines:
            yield
        self._drawn = list(lines)
        self._draw(self._drawn)

    def note(self, text: str) -> None:
        """Draw a line above what was drawn last."""
        with render.taken(max(_size().columns - _FREE, 1)) as lines:
            render.line(text, style="bold red")
        self._draw([*lines, "", *self._drawn])

    @staticmethod
    def _draw(lines: Sequence[str]) -> None:
        rows = _size().lines
        if len(lines) > rows:
            left = len(lines) - rows + 1
            lines = [*lines[: rows - 1], f"… {left:,} more lines"]
        body = f"{_REST_OF_LINE}\n".join(lines)
        render.write(f"{_BEGIN}{_HOME}{body}{_REST_OF_LINE}{_REST}{_END}")


def _size() -> os.terminal_size:
    """Return the size that the terminal has now, whatever the environment says that it had once."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return shutil.get_terminal_size()
