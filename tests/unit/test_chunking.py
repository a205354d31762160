"""Chunks are never blank and never larger than the tag says, whatever the text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from vecmig.chunking import Chunker, chunker, local_tokenizer
from vecmig.errors import RecipeError
from vecmig.model.recipe import Chunking

OPENAI = "text-embedding-3-small"
texts = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["one two three", "\n\n", ". ", "👨‍👩‍👧", "ﷺ", "漢字", "\x1c", "\u200b", "\u00a0", "x" * 60, "é", " "]
    ),
    max_size=40,
).map("".join)


def test_no_chunking_gives_the_text_as_it_stands() -> None:
    assert list(chunker(None, provider="openai", model=OPENAI)("  a\n\nb ")) == ["  a\n\nb "]


def test_cuts_fall_between_paragraphs() -> None:
    cut = chunker(Chunking(20, "characters"), provider="python", model="any")
    assert list(cut("First paragraph.\n\nSecond one.\n\nThe third paragraph.")) == [
        "First paragraph.",
        "Second one.",
        "The third paragraph.",
    ]


def test_neighbours_share_the_overlap() -> None:
    cut = chunker(Chunking(11, "characters", overlap=4), provider="python", model="any")
    assert list(cut("one two six ten")) == ["one two six", "six ten"]


def test_the_same_text_is_always_cut_alike() -> None:
    text = "All work and no play makes Jack a dull boy. " * 50
    cuts = [list(chunker(Chunking(50), provider="openai", model=OPENAI)(text)) for _ in range(3)]
    assert cuts[0] == cuts[1] == cuts[2]
    assert len(cuts[0]) > 1


@cache
def _wordllama() -> Tokenizer:
    """Give its tokenizer, which takes a quarter of a second to load."""
    tokenizer = local_tokenizer("wordllama", "wordllama")
    assert tokenizer is not None
    return tokenizer


@cache
def _wordllama_chunker(size: int, overlap: int) -> Chunker:
    return chunker(Chunking(size, "tokens", overlap), provider="wordllama", model="wordllama")


def _wordllama_count(text: str) -> int:
    return len(_wordllama().encode(text, add_special_tokens=False).ids)


def _openai_fits(text: str, size: int) -> bool:
    return TextSplitter.from_tiktoken_model(OPENAI, size, trim=False).chunks(text) == [text]


@settings(max_examples=150, deadline=None)
@given(text=texts, size=st.integers(1, 40), overlap=st.integers(0, 10))
def test_chunks_in_characters_keep_their_size(text: str, size: int, overlap: int) -> None:
    cut = chunker(Chunking(size, "characters", min(overlap, size - 1)), provider="openai", model="any")
    _check(list(cut(text)), text, lambda chunk: len(chunk) <= size)


@settings(max_examples=60, deadline=None)
@given(text=texts, size=st.integers(8, 40), overlap=st.integers(0, 7))
def test_chunks_in_openai_tokens_keep_their_size(text: str, size: int, overlap: int) -> None:
    cut = chunker(Chunking(size, "tokens", overlap), provider="openai", model=OPENAI)
    _check(list(cut(text)), text, lambda chunk: _openai_fits(chunk, size))


@settings(max_examples=60, deadline=None)
@given(text=texts, size=st.sampled_from([8, 9, 40]), overlap=st.sampled_from([0, 7]))
def test_chunks_in_wordllama_tokens_keep_their_size(text: str, size: int, overlap: int) -> None:
    _check(list(_wordllama_chunker(size, overlap)(text)), text, lambda chunk: _wordllama_count(chunk) <= size)


def test_a_token_that_the_tokenizer_adds_is_counted() -> None:
    # Eight bytes, but nine tokens: the splitter lets it pass.
    cut = chunker(Chunking(8), provider="wordllama", model="wordllama")
    assert list(cut("𐀀𐀀")) == ["𐀀", "𐀀"]


def _check(chunks: list[str], text: str, fits: Callable[[str], bool]) -> None:
    assert all(chunk.strip() for chunk in chunks)
    assert all(fits(chunk) for chunk in chunks)
    assert all(chunk in text for chunk in chunks)
    # Nothing but white space is lost.
    kept = set("".join(chunks))
    assert {character for character in text if not character.isspace()} <= kept
    assert bool(chunks) is bool(text.strip())


def test_the_largest_text_is_cut_in_reasonable_time() -> None:
    chunks = list(chunker(Chunking(512), provider="wordllama", model="wordllama")("word " * 100_000))
    assert max(_wordllama_count(chunk) for chunk in chunks[:3]) <= 512


@pytest.mark.parametrize("letter", ["x", " ", "="])
@pytest.mark.parametrize(("provider", "model"), [("openai", OPENAI), ("wordllama", "wordllama")])
def test_a_long_run_of_one_letter_takes_no_minutes(letter: str, provider: str, model: str) -> None:
    started = time.process_time()
    chunks = list(chunker(Chunking(512), provider=provider, model=model)("a " + letter * 200_000 + " b"))
    assert time.process_time() - started < 10
    assert "".join(chunks).replace(" ", "").count(letter) == (0 if letter == " " else 200_000)
    assert (chunks[0][0], chunks[-1][-1]) == ("a", "b")


@pytest.mark.parametrize(
    ("chunking", "provider", "message", "hint"),
    [
        (
            Chunking(512),
            "python",
            "unit: tokens needs a tokenizer, and the provider python has none.",
            "Write unit: characters in the recipe",
        ),
        (
            Chunking(512),
            "openai",
            "unit: tokens needs a tokenizer, and none is known for the model acme-1.",
            "Write unit: characters in the recipe",
        ),
        (
            Chunking(4),
            "openai",
            "chunk: size 4 is too small: one character of acme-1 may take several tokens.",
            "Use a size of 8 or more, or unit: characters",
        ),
        (Chunking(8, "characters", 8), "python", "chunk: overlap 8 is not smaller than size 8.", ""),
    ],
)
def test_what_cannot_be_chunked(chunking: Chunking, provider: str, message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        chunker(chunking, provider=provider, model="acme-1")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_wordllama_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    sys.path_importer_cache.clear()
    with pytest.raises(RecipeError) as caught:
        chunker(Chunking(512), provider="wordllama", model="wordllama")
    assert caught.value.message == "The provider wordllama is not installed."
    assert caught.value.hint == "Run: pip install 'vecmig[embedded]'"


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return the folder of a model whose tokenizer truncates and normalises, as those of BERT do."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


def test_a_sentence_transformers_model_brings_its_tokenizer(model: str) -> None:
    chunks = chunker(Chunking(32), provider="sentence-transformers", model=model)("one two " * 40)
    assert [len(chunk.split()) for chunk in chunks] == [32, 32, 16]


def test_a_character_that_becomes_many_tokens_is_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chunks = chunker(Chunking(32), provider="sentence-transformers", model=str(tmp_path))("ﷺ" * 9)
    assert list(chunks) == ["ﷺ"] * 9


def test_a_sentence_transformers_model_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(RecipeError) as caught:
        chunker(Chunking(32), provider="sentence-transformers", model=str(tmp_path))
    assert caught.value.message == (
        f"unit: tokens needs a tokenizer, and that of {tmp_path} cannot be loaded (Exception)."
    )
