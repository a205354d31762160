"""Long texts are cut as in one go where they have breaks, and at a cost that grows with their length."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from vecmig.chunking import chunker as public
from vecmig.chunking.chunker import _chunks
from vecmig.chunking.splitter import Splitter, new_splitter
from vecmig.chunking.unbroken import unbroken
from vecmig.model.recipe import Chunking

OPENAI: Final = "text-embedding-3-small"
RECIPES: Final = {
    "characters": ("openai", Chunking(200, "characters")),
    "characters with overlap": ("openai", Chunking(200, "characters", 30)),
    "openai": ("openai", Chunking(24)),
    "openai with overlap": ("openai", Chunking(24, "tokens", 5)),
    "wordllama": ("wordllama", Chunking(24)),
    "wordllama with overlap": ("wordllama", Chunking(24, "tokens", 5)),
}

FEW: Final = ("characters with overlap", "openai", "wordllama with overlap")


@cache
def _splitter(recipe: str) -> Splitter:
    provider, chunking = RECIPES[recipe]
    return new_splitter(chunking, provider, OPENAI)


def _cut(text: str, splitter: Splitter) -> list[str]:
    return list(_chunks(text, splitter))


def _in_one_go(text: str, splitter: Splitter) -> list[str]:
    """Cut a text without any run that is taken apart, as all were until they were cut in windows."""
    return [chunk for _, chunk in splitter.cut(text)]


# Texts with breaks ---------------------------------------------------------------------------------------------------

WORDS: Final = [
    *("the", "of", "and", "a", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with", "they", "at"),
    *("migration", "vector", "embedding", "index", "recipe", "provider", "collection", "record", "cutover", "coverage"),
]


def _sentences(letters: int, seed: int = 1) -> Iterator[str]:
    dice = random.Random(seed)
    while letters > 0:
        words = dice.choices(WORDS, k=dice.randint(4, 40))
        sentence = f"{' '.join(words).capitalize()}{dice.choice(['.', '.', '.', '?', '!', ' (sic).'])}"
        yield sentence
        letters -= len(sentence) + 1


def _prose(letters: int) -> str:
    dice = random.Random(2)
    return "".join(
        sentence + ("\n\n" if dice.random() < 0.15 else "\n" if dice.random() < 0.2 else " ")
        for sentence in _sentences(letters)
    )


def _real_texts() -> dict[str, str]:
    """Return what is at hand of programs and pages that people wrote."""
    library = Path(json.__file__).parents[1]
    sources = [library / f"{name}.py" for name in ("argparse", "typing", "inspect", "heapq", "this", "tarfile")]
    pages = [found.read_text("METADATA") or "" for found in distributions()]
    texts = {path.name: path.read_text() for path in sources}
    return texts | {"pages": "\n".join(sorted(page for page in pages if len(page) > 4_000))[:200_000]}


@pytest.mark.parametrize("recipe", RECIPES)
def test_real_texts_are_cut_as_in_one_go(recipe: str) -> None:
    splitter = _splitter(recipe)
    # tokens take long to count in one go
    most = 200_000 if splitter.count is len else 12_000
    for name, text in _real_texts().items():
        for shape in (text[:most], " ".join(text[:most].split()), re.sub(r"(?<!\n)\n(?!\n)", " ", text[:most])):
            assert not list(unbroken(shape, splitter)), name
            assert _cut(shape, splitter) == _in_one_go(shape, splitter), name


@pytest.mark.parametrize("recipe", FEW)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_prose(25_000), id="paragraphs"),
        pytest.param(" ".join(_sentences(25_000)), id="one line"),
        pytest.param("\r\n".join(_sentences(25_000)), id="a line for each sentence"),
        pytest.param(f"{_prose(5_000)}\n\n{' '.join(_sentences(15_000))}\n\n{_prose(5_000)}", id="one huge paragraph"),
        pytest.param(
            "".join(f"{s[:-1]}。" for s in ["漢字仮名" * 9 + "交じり文."] * 900), id="sentences without spaces"
        ),
        pytest.param("- item\n" * 1_500 + "\n\n\n## Heading\n\n" + "- item\n" * 100, id="short lines"),
        pytest.param("word " * 1_800 + "End.\n\n" + "word " * 1_800, id="almost without a break"),
    ],
)
def test_generated_texts_are_cut_as_in_one_go(recipe: str, text: str) -> None:
    splitter = _splitter(recipe)
    pieces = [text[start : start + 20_000] for start in range(0, len(text), 20_000)] if " " not in text else [text]
    assert _cut(text, splitter) == [chunk for piece in pieces for chunk in _in_one_go(piece, splitter)]


parts = st.sampled_from(
    [
        *("one", "two three", "Four.", "five!", "(six)", "e.g.", "3.14", "don't", "a_b.c()", " ", "  ", "\t", "\u00a0"),
        *(
            "\n",
            "\n\n",
            "\r\n",
            "\n\n\n",
            "\n    ",
            "é",
            "漢字",
            "。",
            "👨‍👩‍👧",
            "x" * 50,
            "\x1c",
            "\u200b",
            "...",
            "\u2028",
        ),
    ]
)


@settings(max_examples=50, deadline=None)
@given(
    block=st.lists(parts, min_size=5, max_size=60),
    seed=st.integers(0, 2**32),
    between=st.sampled_from([" ", ""]),
    size=st.integers(4, 30),
    overlap=st.integers(0, 29),
)
# U+001C is white space to Python and not to Unicode
@example(block=["é", "👨‍👩‍👧", "e.g.", "one", "👨‍👩‍👧", "one", "\x1c"], seed=0, between=" ", size=4, overlap=1)
def test_texts_with_breaks_are_cut_as_in_one_go(
    block: list[str], seed: int, between: str, size: int, overlap: int
) -> None:
    text = between.join(random.Random(seed).choices(block, k=2_000))[:19_999]
    splitter = new_splitter(Chunking(size, "characters", overlap % size), "openai", OPENAI)
    assert _cut(text, splitter) == _in_one_go(text, splitter)


@settings(max_examples=15, deadline=None)
@given(block=st.lists(parts, min_size=5, max_size=60), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("recipe", ["openai with overlap", "wordllama with overlap"])
def test_texts_with_breaks_are_cut_as_in_one_go_by_tokens(recipe: str, block: list[str], seed: int) -> None:
    # without white space, 3.143.143.14 is one word that fills a chunk: there the cuts are those of a window
    text = " ".join(random.Random(seed).choices(block, k=1_000))[:19_999]
    assert _cut(text, _splitter(recipe)) == _in_one_go(text, _splitter(recipe))


# Texts without breaks ------------------------------------------------------------------------------------------------


def _json(letters: int) -> str:
    dice = random.Random(4)
    return json.dumps([{"id": n, "v": dice.random(), "name": dice.choice(WORDS)} for n in range(letters // 50)])


#: Texts of about so many characters that have no break, or none for very long.
UNBROKEN: Final[dict[str, Callable[[int], str]]] = {
    "words": lambda n: " ".join(random.Random(5).choices(WORDS, k=n // 6)),
    "one word": lambda n: "word " * (n // 5),
    "json": _json,
    "compact json": lambda n: _json(n).replace(" ", ""),
    "base64": lambda n: "".join(random.Random(6).choices("ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789+/", k=n)),
    "cjk": lambda n: "".join(chr(random.Random(7 + i).randrange(0x4E00, 0x5E00)) for i in range(n // 100)) * 100,
    "one character": lambda n: "x" * n,
    "stops": lambda n: "." * n,
    "exclamation marks": lambda n: "!" * n,
    "white space": lambda n: f"a{' ' * n}b",
    "line breaks": lambda n: "\r\n" * (n // 2),
    "digits and commas": lambda n: ",".join(str(random.Random(n).randrange(10**6) + i) for i in range(n // 7)),
    "combining characters": lambda n: "e\u0301" * (n // 2),
    "one sign": lambda n: "e" + "\u0301" * n,
    "emoji": lambda n: "👨‍👩‍👧" * (n // 5),
    "flags": lambda n: "🇩🇪" * (n // 2),
    "one huge paragraph": lambda n: f"{_prose(2_000)}\n\n{' '.join(random.Random(8).choices(WORDS, k=n // 6))}\n\nEnd.",
    "lines": lambda n: "some words\r\n" * (n // 12),
    "sentences in one line": lambda n: " ".join(_sentences(n)) + "\n",
}


def _counting(splitter: Splitter, spent: list[int]) -> Splitter:
    """Note how much text is handed over to be cut or counted."""

    def noted(text: str) -> str:
        spent.append(len(text))
        return text

    count = splitter.count
    return dataclasses.replace(
        splitter,
        cut=lambda text: splitter.cut(noted(text)),
        count=count if count is None or count is len else lambda text: count(noted(text)),
    )


@pytest.mark.parametrize("kind", UNBROKEN)
@pytest.mark.parametrize("recipe", FEW)
def test_what_is_handed_to_the_splitter_grows_with_the_length(recipe: str, kind: str) -> None:
    """No text that is handed over is longer in a longer text, so the time cannot grow faster either."""
    totals, largest = [], []
    for letters in (25_000, 100_000):
        spent: list[int] = []
        _cut(UNBROKEN[kind](letters), _counting(_splitter(recipe), spent))
        totals.append(sum(spent))
        largest.append(max(spent))
    assert totals[1] <= 6 * max(totals[0], 25_000)
    assert largest[1] <= max(1.5 * largest[0], 40_000)


@pytest.mark.parametrize("kind", UNBROKEN)
@pytest.mark.parametrize("recipe", RECIPES)
def test_chunks_of_unbroken_texts_hold_what_they_should(recipe: str, kind: str) -> None:
    splitter, text = _splitter(recipe), UNBROKEN[kind](25_000)
    provider, chunking = RECIPES[recipe]
    chunks = _cut(text, splitter)
    assert chunks == list(public(chunking, provider=provider, model=OPENAI)(text))
    assert all(chunk.strip() for chunk in chunks)
    assert all(_fits(chunk, splitter) for chunk in chunks)
    assert _leaves_out(text, chunks) == ""
    if splitter.overlap == 0:
        assert "".join("".join(chunks).split()) == "".join(text.split())


def _fits(chunk: str, splitter: Splitter) -> bool:
    if splitter.count is not None:
        return splitter.count(chunk) <= splitter.size
    return TextSplitter.from_tiktoken_model(OPENAI, splitter.size, trim=False).chunks(chunk) == [chunk]


def _leaves_out(text: str, chunks: list[str]) -> str:
    """Return the first characters that are in no chunk, where each chunk is found as far behind as it may be."""
    end = 0
    for chunk in chunks:
        gap = len(text[end:]) - len(text[end:].lstrip())
        # the furthest place that leaves nothing out, and no earlier than the chunk's own length before that
        start = text.rfind(chunk, max(0, end - len(chunk)), end + gap + len(chunk))
        if start < 0:
            return text[end : end + 50]
        end = start + len(chunk)
    return text[end:].strip()[:50]


@pytest.mark.parametrize("recipe", FEW)
@pytest.mark.parametrize("kind", ["one word", "base64", "one huge paragraph"])
def test_chunks_of_unbroken_texts_are_well_filled(recipe: str, kind: str) -> None:
    splitter, text = _splitter(recipe), UNBROKEN[kind](60_000)
    assert len(_cut(text, splitter)) <= 1.35 * len(_in_one_go(text[:20_000], splitter)) * len(text) / 20_000


def test_the_border_between_both_ways_of_cutting() -> None:
    splitter = _splitter("characters")
    assert list(unbroken("x" * 20_000 + ".\n" + "x" * 20_001 + "\n", splitter)) == [(20_002, 40_003)]
    assert list(unbroken("Why" + "?" * 20_001 + "\n", splitter)) == [(0, 20_003)]
    assert list(unbroken("x" * 15_000 + ". " + "x" * 15_000 + "?" + "x" * 15_000, splitter)) == []
    assert list(unbroken("1.5, " * 5_000, splitter)) == [(0, 25_000)]
    large = dataclasses.replace(splitter, size=8_000, usual=8_000)
    assert list(unbroken("x" * 64_000, large)) == []
    assert list(unbroken("x" * 64_001, large)) == [(0, 64_001)]


def test_words_are_not_parted_and_neighbours_overlap_where_the_ways_meet() -> None:
    words = " ".join(f"w{n}" for n in range(8_000))
    text = f"First. Second.\n\n{words}\n\nLast."
    chunks = _cut(text, _splitter("characters with overlap"))
    assert all(re.fullmatch(r"w\d+", word) for chunk in chunks[1:-1] for word in chunk.split() if word.startswith("w"))
    assert chunks[0] == "First. Second."
    for one, other in pairwise(chunks[1:-1]):
        begun = other.split()[0]
        assert begun in one.split()[-8:]


def test_a_sign_of_several_characters_is_not_parted() -> None:
    for sign in ("👨‍👩‍👧", "🇩🇪", "e\u0301", "👍🏽", "각"):
        chunks = _cut(sign * 25_000, _splitter("characters"))
        assert all(chunk == sign * (len(chunk) // len(sign)) for chunk in chunks)
