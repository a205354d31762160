"""Cut texts by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vecmig.chunking import unbroken, windows
from vecmig.chunking.splitter import Splitter, new_splitter
from vecmig.model.recipe import Chunking

#: Cuts a text into chunks, in order; none of them is blank. Each is yielded as soon as it is found.
Chunker = Callable[[str], Iterator[str]]


def chunker(chunking: Chunking | None, *, provider: str, model: str) -> Chunker:
    """Return what cuts a text into non-blank chunks of at most ``chunking.size`` units each.

    The cuts fall between paragraphs, else sentences, else words, else characters, and white space around a chunk is
    dropped. A blank text has no chunk. Without ``chunking`` the text as it stands is the one chunk. The time it takes
    grows with the length of the text.

    Raises:
        RecipeError: the unit is tokens and the model's tokenizer is not at hand, or the size or overlap cannot be kept.
    """
    if chunking is None:
        return lambda text: iter([text])
    splitter = new_splitter(chunking, provider, model)
    # The splitter trims what Unicode calls white space, and Python knows four characters more (U+001C to U+001F).
    return lambda text: (chunk for chunk in _chunks(text, splitter) if chunk.strip())


def _chunks(text: str, splitter: Splitter) -> Iterator[str]:
    """Cut what has breaks as the splitter does, and fill chunks with what has none for very long."""
    done = 0
    for start, end in unbroken.unbroken(text, splitter):
        yield from _as_split(text[done:start], splitter)
        done = yield from unbroken.Filling(splitter).chunks(text, start, end, done)
    yield from _as_split(text[done:], splitter)


def _as_split(text: str, splitter: Splitter) -> Iterator[str]:
    for chunk in windows.chunks(text, splitter):
        yield from _fitting(chunk, splitter)


def _fitting(chunk: str, splitter: Splitter) -> Iterator[str]:
    """Halve a chunk that is too large after all.

    The splitter lets pass, uncounted, what has no more bytes than the size. That is right for tiktoken, but a
    SentencePiece tokenizer adds a token in front, and BERT's writes one character as many.
    """
    count = splitter.count
    if count is None or count is len or len(chunk) < 2 or len(chunk) > 2 * splitter.size:
        yield chunk
        return
    if count(chunk) <= splitter.size:
        yield chunk
        return
    middle = len(chunk) // 2
    yield from _fitting(chunk[:middle].rstrip(), splitter)
    yield from _fitting(chunk[middle:].lstrip(), splitter)
