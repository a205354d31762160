"""Cut a record's text into the chunks that a tag asks for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from vecmig.errors import RecipeError
from vecmig.tags import Chunking

#: Cuts a text into chunks, in order; none of them is blank.
Chunker = Callable[[str], list[str]]

#: Smallest chunk in tokens. One character takes up to 5 of a byte-level tokenizer, and up to 18 of one that writes
#: ligatures out, as BERT's does; a chunk that cannot hold a character could not keep to its size.
MIN_TOKENS: Final = {"openai": 8, "wordllama": 8, "sentence-transformers": 32}

_LONG_RUN: Final = re.compile(r"\S{20000}|\s{20000}")


def chunker(chunking: Chunking | None, *, provider: str, model: str) -> Chunker:
    """Return what cuts a text into non-blank chunks of at most ``chunking.size`` units each.

    The cuts fall between paragraphs, else sentences, else words, else characters, and white space around a chunk is
    dropped. A blank text has no chunk. Without ``chunking`` the text as it stands is the one chunk.

    Raises:
        RecipeError: the unit is tokens and the model's tokenizer is not at hand, or the size or overlap cannot be kept.
    """
    if chunking is None:
        return lambda text: [text]
    if chunking.overlap >= chunking.size:
        raise RecipeError(f"chunk: overlap {chunking.overlap} is not smaller than size {chunking.size}.")
    split = _split(chunking, provider, model)
    # The splitter trims what Unicode calls white space, and Python knows four characters more (U+001C to U+001F).
    return lambda text: [chunk for piece in _pieces(text) for chunk in split(piece) if chunk.strip()]


def _pieces(text: str) -> Iterator[str]:
    """Take long runs apart: a tokenizer's time grows with their square, to 26 s for a million times one letter."""
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]


def _split(chunking: Chunking, provider: str, model: str) -> Chunker:
    if chunking.unit == "characters":
        return TextSplitter(chunking.size, overlap=chunking.overlap).chunks
    least = MIN_TOKENS.get(provider, 1)
    if chunking.size < least:
        raise RecipeError(
            f"chunk: size {chunking.size} is too small: one character of {model} may take several tokens.",
            hint=f"Use a size of {least} or more, or unit: characters",
        )
    if provider == "openai":
        return _tiktoken_splitter(chunking, model).chunks
    tokenizer = local_tokenizer(provider, model)
    if tokenizer is None:
        raise _no_tokenizer(f"the provider {provider} has none")
    splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, chunking.size, overlap=chunking.overlap)
    return lambda text: [part for chunk in splitter.chunks(text) for part in _fitting(chunk, tokenizer, chunking.size)]


def _fitting(chunk: str, tokenizer: Tokenizer, size: int) -> Iterator[str]:
    """Halve a chunk that is too large after all.

    The splitter lets pass, uncounted, what has no more bytes than the size. That is right for tiktoken, but a
    SentencePiece tokenizer adds a token in front, and BERT's writes one character as many.
    """
    if len(chunk) < 2 or len(tokenizer.encode(chunk, add_special_tokens=False).ids) <= size:
        yield chunk
        return
    middle = len(chunk) // 2
    yield from _fitting(chunk[:middle].rstrip(), tokenizer, size)
    yield from _fitting(chunk[middle:].lstrip(), tokenizer, size)


def _tiktoken_splitter(chunking: Chunking, model: str) -> TextSplitter:
    try:
        return TextSplitter.from_tiktoken_model(model, chunking.size, overlap=chunking.overlap)
    except Exception as error:  # the splitter raises a bare Exception for a model it does not know
        raise _no_tokenizer(f"none is known for the model {model}") from error


def _no_tokenizer(why: str) -> RecipeError:
    return RecipeError(f"unit: tokens needs a tokenizer, and {why}.", hint="Write unit: characters in the recipe")


def local_tokenizer(provider: str, model: str) -> Tokenizer | None:
    """Load the model's own tokenizer, without truncation or padding; None for a provider that brings none.

    Raises:
        RecipeError: the provider has one but it cannot be loaded.
    """
    if provider == "wordllama":
        return _whole(Tokenizer.from_file(str(_wordllama_file())))
    if provider == "sentence-transformers":
        return _whole(_sentence_transformers_tokenizer(model))
    return None


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _wordllama_file() -> Path:
    # Found without importing wordllama, which takes 0.35 s and reconfigures logging.
    spec = importlib.util.find_spec("wordllama")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        file = Path(folder) / "tokenizers" / "l2_supercat_tokenizer_config.json"
        if file.exists():
            return file
    raise RecipeError("The provider wordllama is not installed.", hint="Run: pip install 'vecmig[embedded]'")


def _sentence_transformers_tokenizer(model: str) -> Tokenizer:
    file = Path(model) / "tokenizer.json"
    try:
        if file.exists():
            return Tokenizer.from_file(str(file))
        return Tokenizer.from_pretrained(model if "/" in model else f"sentence-transformers/{model}")
    except Exception as error:  # tokenizers raises a bare Exception, or whatever the hub's client raises
        raise _no_tokenizer(f"that of {model} cannot be loaded ({type(error).__name__})") from error
