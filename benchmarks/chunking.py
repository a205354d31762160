"""How long it takes to cut long texts into chunks: seconds of CPU time a MB, at two lengths, for texts of each kind.

    python benchmarks/chunking.py [--kb 250 1000] [--recipes characters openai wordllama] [--kinds …] [--json]

A MB is a million bytes of UTF-8. Kinds that have breaks are cut as the splitter cuts them in one go, and cost what it
costs; the target of seconds is for the others. The ratio of the two times shows whether the cost grows with the length.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from common import Report, opened, parser
from vecmig.chunking import Chunker, chunker
from vecmig.model.recipe import Chunking

#: The time may grow so many times where the length grows by four, and be so many seconds a MB.
_GROWTH: Final = 6.0
_MOST: Final = 1.0
_MODEL: Final = "text-embedding-3-small"
_RECIPES: Final = {
    "characters": ("openai", Chunking(200, "characters")),
    "openai": ("openai", Chunking(512)),
    "wordllama": ("wordllama", Chunking(512)),
}
_WORDS: Final = ("the", "of", "and", "to", "vector", "embedding", "migration", "index", "provider", "a", "search", "on")


def _words(size: int) -> str:
    return " ".join(random.Random(1).choices(_WORDS, k=size // 6))


def _prose(size: int, ends: Sequence[str]) -> str:
    dice, text = random.Random(2), []
    while size > 0:
        sentence = " ".join(dice.choices(_WORDS, k=dice.randint(5, 30))).capitalize() + dice.choice(ends)
        text.append(sentence)
        size -= len(sentence)
    return "".join(text)


def _paragraphs(size: int) -> str:
    return _prose(size, [". "] * 6 + [".\n\n"])


def _json(size: int) -> str:
    dice = random.Random(3)
    return json.dumps([{"id": n, "word": dice.choice(_WORDS), "value": dice.random()} for n in range(size // 55)])


def _cjk(size: int) -> str:
    return "".join(random.Random(4).choices([chr(code) for code in range(0x4E00, 0x5600)], k=size // 3))


#: Texts of about so many bytes, without a break of lines or sentences, or none for very long.
_UNBROKEN: Final[dict[str, Callable[[int], str]]] = {
    "words": _words,
    "one word": lambda size: "word " * (size // 5),
    "json": _json,
    "base64": lambda size: base64.b64encode(random.Random(5).randbytes(size * 3 // 4)).decode(),
    "cjk": _cjk,
    "one character": lambda size: "x" * size,
    "white space": lambda size: f"a{' ' * size}b",
    "digits": lambda size: ",".join(str(number) for number in random.Random(6).choices(range(10**6), k=size // 7)),
    "combining": lambda size: "e\u0301" * (size // 3),
    "emoji": lambda size: "👨‍👩‍👧" * (size // 18),
    "line breaks": lambda size: "\r\n" * (size // 2),
    "huge paragraph": lambda size: f"{_paragraphs(size // 20)}\n\n{_words(size)}\n\n{_paragraphs(size // 20)}",
}
_BROKEN: Final[dict[str, Callable[[int], str]]] = {
    "prose": _paragraphs,
    "prose in a line": lambda size: _prose(size, [". "]) + "\n",
    "lines": lambda size: "a few words\r\n" * (size // 13),
}
_KINDS: Final = _UNBROKEN | _BROKEN


def _seconds(cut: Chunker, text: str) -> float:
    """Take the CPU time of this thread: another process at work makes no difference."""
    began = time.thread_time()
    for _ in cut(text):
        pass
    return time.thread_time() - began


def measure(report: Report, recipe: str, kind: str) -> None:
    """Cut a short and a long text of one kind by one recipe."""
    provider, chunking = _RECIPES[recipe]
    cut = chunker(chunking, provider=provider, model=_MODEL)
    small, large = (_KINDS[kind](1_000 * kb) for kb in report.options.kb)
    first, second = _seconds(cut, small), _seconds(cut, large)
    rates = [seconds * 1e6 / len(text.encode()) for seconds, text in ((first, small), (second, large))]
    for kb, rate in zip(report.options.kb, rates, strict=True):
        report.figure(f"{recipe}, {kind}, {kb:,} kB", rate, "s/MB")
    growth = report.options.kb[1] / report.options.kb[0] / 4
    report.ratio(f"{recipe}, {kind}: time of the longer / the shorter", second / first, at_most=_GROWTH * growth)
    if kind in _UNBROKEN:
        report.ratio(f"{recipe}, {kind}: s/MB", rates[1], at_most=_MOST)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--kb", type=int, nargs=2, default=[250, 1_000], metavar=("SMALL", "LARGE"))
    made.add_argument("--recipes", nargs="+", default=list(_RECIPES), choices=_RECIPES, metavar="RECIPE")
    made.add_argument("--kinds", nargs="+", default=list(_KINDS), choices=_KINDS, metavar="KIND")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    with opened(options.database_url) as database:
        report = Report("chunking", options, database)
        for recipe in options.recipes:
            for kind in options.kinds:
                measure(report, recipe, kind)
        report.end()


if __name__ == "__main__":
    main()
