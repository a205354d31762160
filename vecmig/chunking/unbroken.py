"""Cut text that has no line break and no end of a sentence for very long: each chunk as full as can soon be found."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Generator, Iterator
from typing import Final

from vecmig.chunking.splitter import Splitter

#: Characters without a break from which on a text is cut here, and the same in chunks of usual text.
_LEAST: Final = 20_000
_LEAST_CHUNKS: Final = 8

#: What Unicode calls STerm in scripts of today: it ends a sentence, whatever follows.
_STERM: Final = (
    r"!?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u0964\u0965\u104a\u104b\u1362\u1367\u1368\u166e\u17d4\u17d5\u1803\u1809"
    r"\u203c\u203d\u2047-\u2049\u3002\ua4ff\ua60e\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
)
#: What ends a line or a sentence; of a run of stops, the last.
_BREAK: Final = re.compile(
    rf"[\r\n\v\f\x85\u2028\u2029]+|[{_STERM}](?=[^{_STERM}])|(?<!\.)\.++(?=[\"'\u2019\u201d\u00bb)\]}}]*+\s)"
)
#: Characters behind a break that tell whether it is one, and the first that are searched for the last break.
_BEHIND: Final = 64
_NEAR: Final = 256
_WORD: Final = re.compile(r"\S")
_SPACE: Final = re.compile(r"\s+")

#: After these a cut is better than within a word.
_STOPS: Final = ",;:|/&=)]}>\u3001\uff0c\uff1b\uff1a"
#: Most characters that a cut is moved by, so that it does not part what is shown as one.
_JOINED: Final = 32
_JOINER: Final = "\u200d"

#: A chunk counts as full from this share of the size on, and the next one is guessed to fill that one.
_FULL: Final = 0.85
_GUESS: Final = 0.95
_TRIES: Final = 4
#: Most characters of a chunk, in chunks of usual text.
_MOST: Final = 2
#: Where a text is not counted: by how much a guess grows as long as none was too large, and now and then later.
_FIRST_GROWTH: Final = 1.25
_GROWTH: Final = 1.02
_BETWEEN: Final = 8


def unbroken(text: str, splitter: Splitter) -> Iterator[tuple[int, int]]:
    """Yield where a text has no break for so long that it is cut here: from where, and to where, in order."""
    least = max(_LEAST, _LEAST_CHUNKS * splitter.usual)
    start = 0
    while len(text) - start > least:
        found = _last_break(text, start, start + least)
        if found is None:
            found = _BREAK.search(text, start + least)
            end = len(text) if found is None else found.start()
            yield start, end
        start = len(text) if found is None else found.end()


def _last_break(text: str, start: int, last: int) -> re.Match[str] | None:
    """Find the last break that begins between two places, from the end: most text has one soon."""
    near = _NEAR
    while True:
        first = max(start, last - near)
        found = [found for found in _BREAK.finditer(text, first, last + _BEHIND) if found.start() <= last]
        if found or first == start:
            return found[-1] if found else None
        near *= 4


class Filling:
    """Fills chunk after chunk, and learns how many characters fit."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self._guess = splitter.usual
        #: Chunks that fitted since the last one that did not; None as long as none was too large.
        self._fitted: int | None = None

    def chunks(self, text: str, start: int, end: int, before: int) -> Generator[str, None, int]:
        """Yield chunks almost up to ``end``; return where the next one begins.

        Args:
            text: what is cut.
            start: where the first chunk begins, but for its overlap.
            end: where the part without a break ends.
            before: how far back the overlap may reach.
        """
        start = self._following(text, max(before, start - self._guess), start)
        while True:
            word = _WORD.search(text, start, end)
            if word is None:
                return end
            start = word.start()
            if end - start <= 2 * self._guess:
                return start
            stop = self._fill(text, start, end)
            yield text[start:stop].strip()
            if _WORD.search(text, stop, end) is None:
                return end
            start = self._following(text, start, stop)

    def _following(self, text: str, start: int, stop: int) -> int:
        """Find where the next chunk begins: at a word, at most the overlap before the end of this one."""
        share = self._splitter.overlap / self._splitter.size
        back = int((stop - start) * share)
        if back == 0:
            return stop
        begin = max(stop - back, start + 1)
        if text[begin - 1].isspace():
            return begin
        space = _SPACE.search(text, begin, stop)
        if space is not None:
            return space.end()
        return next((at for at in range(begin, min(begin + _JOINED, stop)) if not _joined(text, start, at)), stop)

    def _fill(self, text: str, start: int, end: int) -> int:
        count = self._splitter.count
        if count is None:
            return self._fill_uncounted(text, start, end)
        if count is len:
            return _border(text, start, min(start + self._splitter.size, end))
        return self._fill_counted(text, start, end, count)

    def _fill_counted(self, text: str, start: int, end: int, count: Callable[[str], int]) -> int:
        """Guess, count, and guess again by what was counted, until a chunk is full; the last resort is to halve it."""
        size, length, best, per_unit = self._splitter.size, self._guess, 0, 1.0
        for _ in range(_TRIES):
            aim = min(start + length, end)
            stop = _border(text, start, aim)
            counted = max(1, count(text[start:stop].strip()))
            per_unit = (stop - start) / counted
            if counted > size:
                length = max(1, int(per_unit * size * (_GUESS if best else _FULL)))
                continue
            best = max(best, stop)
            if stop == end or (aim - start) / per_unit >= _FULL * size:
                break
            length = min(int(per_unit * size * _GUESS), 2 * length)
        self._guess = self._likely(per_unit * size * _GUESS)
        while not best:
            length = max(1, length // 2)
            best = start + length if length == 1 or count(text[start : start + length].strip()) <= size else 0
        return best

    def _fill_uncounted(self, text: str, start: int, end: int) -> int:
        """Guess, and let the splitter try; where it makes several chunks, the first of them is sure to fit."""
        stop = start
        for _ in range(_TRIES):
            aim = _border(text, start, min(start + self._guess, end))
            found = self._splitter.cut(text[start:aim])
            if len(found) == 1:
                if self._fitted is None:
                    self._guess = self._likely(self._guess * _FIRST_GROWTH + 1)
                else:
                    self._fitted = (self._fitted + 1) % _BETWEEN
                    self._guess = self._likely(self._guess * _GROWTH + 1) if self._fitted == 0 else self._guess
                return aim
            at, chunk = found[0]
            stop = start + at + len(chunk)
            self._guess = self._likely(self._guess * (_GUESS if len(found) == 2 else 2 / len(found)))
            self._fitted = 0
            if stop - start >= (aim - start) / len(found):
                break
        return stop

    def _likely(self, length: float) -> int:
        """Keep a guess within what text may have; one token takes many spaces, and a tokenizer long for them."""
        return max(1, min(int(length), _MOST * self._splitter.usual))


def _border(text: str, start: int, aim: int) -> int:
    """Find the last good place for a cut up to ``aim``: after a word, else after a stop, else after one sign."""
    if aim >= len(text) or text[aim].isspace() or text[aim - 1].isspace():
        return aim
    half = start + (aim - start + 1) // 2
    words = text[half:aim].rsplit(None, 1)
    if len(words) == 2:
        return aim - len(words[1])
    stop = 1 + max(text.rfind(stop, half, aim) for stop in _STOPS)
    last = stop or aim
    return next((at for at in range(last, max(half, last - _JOINED), -1) if not _joined(text, start, at)), last)


def _joined(text: str, start: int, at: int) -> bool:
    """Whether the characters before and after a place are shown as one sign, where one begins at ``start``.

    This is so for most of Unicode's grapheme clusters.
    """
    if at >= len(text):
        return False
    before, after = text[at - 1], text[at]
    if after.isascii():
        return before == _JOINER
    return (
        _JOINER in (before, after)
        or unicodedata.category(after).startswith("M")
        or "\u1160" <= after <= "\u11ff"  # the second and third letters of a Hangul syllable
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # colours of skin
        or "\U000e0020" <= after <= "\U000e007f"  # tags of flags
        or (_is_half_a_flag(after) and _flags_before(text, start, at) % 2 == 1)
    )


def _is_half_a_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flags_before(text: str, start: int, at: int) -> int:
    first = at
    while first > start and _is_half_a_flag(text[first - 1]):
        first -= 1
    return at - first
