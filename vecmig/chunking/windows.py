"""Cut a long text as the splitter would cut it in one go, at a cost that grows with its length and not with its square.

For each chunk the splitter counts the rest of the line that it is in, and goes over all line breaks that are left.
What it finds depends on much less: on what fits into the chunk, and a little more. So it is given windows. The last
chunks of a window are found again by the next one, which begins with a few that are known and has to find the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vecmig.chunking.splitter import Splitter

#: Chunks of a window, about.
_WINDOW: Final = 48
#: A line of more chunks is a window, or several, of its own: the rest of it is counted for each chunk.
_LONG_LINE: Final = 12
#: Chunks of a long line that are shown to a window which ends before it.
_SHOWN: Final = 8
#: Chunks at the end of a window that what follows may change, and chunks that two windows have to agree on.
_UNSURE: Final = 4
_SAME: Final = 3
#: Chunks at which the next window may begin, the last ones first.
_TRIES: Final = 4

_LINE_BREAK: Final = re.compile(r"[\r\n]")
#: White space as the splitter has it, which is Unicode's: Python's has the separators U+001C to U+001F too.
_SPACE: Final = re.compile(r"[^\S\x1c-\x1f]*")
_LONG_RUN: Final = re.compile(r"(?<!\S)\S{20000,}|(?<!\s)\s{20000,}")
_RUN: Final = 20_000

#: A chunk, and where it begins.
Found = tuple[int, str]


def chunks(text: str, splitter: Splitter) -> Iterator[str]:
    """Yield the chunks of a text as the splitter finds them."""
    for piece in _pieces(text):
        for _, chunk in _Windows(piece, splitter).chunks():
            yield chunk


def _pieces(text: str) -> Iterator[str]:
    """Take long runs apart: a tokenizer's time grows with their square, to 26 s for a million times one letter."""
    start = 0
    if len(text) < _RUN:
        yield text
        return
    for run in _LONG_RUN.finditer(text):
        for end in range(run.start() + _RUN, run.end() + 1, _RUN):
            yield text[start:end]
            start = end
    yield text[start:]


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of the text, cut."""

    end: int
    found: list[Found]

    @property
    def sure(self) -> list[Found]:
        """What would be found in the text too."""
        return self.found[:-_UNSURE]


class _Windows:
    """The windows of one text."""

    def __init__(self, text: str, splitter: Splitter) -> None:
        self._text = text
        self._cut = splitter.cut
        #: Characters from the beginning of one chunk to that of the next, about.
        self._stride = splitter.usual

    def chunks(self) -> Iterator[Found]:
        """Yield the chunks in their order."""
        window = self._window(0)
        while window.end < len(self._text):
            begin, following = self._next(window.sure)
            yield from window.sure[:begin]
            window = following
        yield from window.found

    def _window(self, start: int) -> _Window:
        """Cut the text from ``start`` on, as far as there are enough chunks to go on from."""
        while True:
            end = self._end(start)
            found = [(start + at, chunk) for at, chunk in self._cut(self._text[start:end])]
            if end == len(self._text) or len(found) > _UNSURE + _SAME:
                break
            self._stride *= 2
        if len(found) > 1:
            self._stride = max(1, (found[-1][0] - found[0][0]) // (len(found) - 1))
        return _Window(end, found)

    def _end(self, start: int) -> int:
        """Find where a window ends: with the long line that it begins in, within the next one, or after white space."""
        text, length, long = self._text, _WINDOW * self._stride, _LONG_LINE * self._stride
        if len(text) - start <= long:
            return len(text)
        end = start + length
        if end + length // 4 >= len(text):
            end = len(text)
        line = start
        for found in _LINE_BREAK.finditer(text, start, end):
            if found.start() - line > long:
                return found.start() if line == start else line + _SHOWN * self._stride
            line = found.end()
        after = _SPACE.match(text, end)
        return after.end() if after is not None and _is_space(text[end - 1 : end]) else end

    def _next(self, sure: list[Found]) -> tuple[int, _Window]:
        """Find the window that follows, and which chunk it begins with.

        A chunk is known without the white space around it, and the splitter goes on from somewhere within that. Where
        no window finds again what is sure, the splitter has counted text far ahead; then the cuts are those of the
        first of them.
        """
        first, tried = len(sure) - _SAME, None
        for begin in range(first, max(0, first - _TRIES), -1):
            for start in self._starts(sure[begin][0]):
                window = self._window(start)
                if window.found[: len(sure) - begin] == sure[begin:]:
                    return begin, window
                tried = tried or (begin, window)
        assert tried is not None, "a window has more than _SAME chunks that are sure"
        return tried

    def _starts(self, chunk: int) -> list[int]:
        """Return where the splitter may have begun to look for a chunk, the most likely place first."""
        space = chunk
        while space and _is_space(self._text[space - 1]):
            space -= 1
        line = 1 + max(self._text.rfind(end, space, chunk) for end in "\r\n")
        return list(dict.fromkeys([line or chunk, chunk, space]))


def _is_space(character: str) -> bool:
    return character.isspace() and character not in "\x1c\x1d\x1e\x1f"
