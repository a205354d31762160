"""The splitter of one recipe: what finds the cuts in a text, and counts in the recipe's unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from semantic_text_splitter import TextSplitter

from vecmig.chunking.tokenizer import local_tokenizer, no_tokenizer
from vecmig.errors import RecipeError
from vecmig.model.recipe import Chunking

#: Smallest chunk in tokens. One character takes up to 5 of a byte-level tokenizer, and up to 18 of one that writes
#: ligatures out, as BERT's does; a chunk that cannot hold a character could not keep to its size.
MIN_TOKENS: Final = {"openai": 8, "wordllama": 8, "sentence-transformers": 32}

#: Characters of one token in usual text, where nothing was counted yet.
_USUAL_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Splitter:
    """What cuts by one recipe."""

    size: int
    overlap: int
    #: Finds the chunks of a text, and where each begins.
    cut: Callable[[str], list[tuple[int, str]]]
    #: Counts a text in the recipe's unit; None where the tokenizer does not tell.
    count: Callable[[str], int] | None
    #: Characters of a chunk of usual text.
    usual: int


def new_splitter(chunking: Chunking, provider: str, model: str) -> Splitter:
    """Return the splitter of a recipe.

    Raises:
        RecipeError: the unit is tokens and the model's tokenizer is not at hand, or the size or overlap cannot be kept.
    """
    size, overlap = chunking.size, chunking.overlap
    if overlap >= size:
        raise RecipeError(f"chunk: overlap {overlap} is not smaller than size {size}.")
    if chunking.unit == "characters":
        return Splitter(size, overlap, TextSplitter(size, overlap=overlap).chunk_indices, len, size)
    least = MIN_TOKENS.get(provider, 1)
    if size < least:
        raise RecipeError(
            f"chunk: size {size} is too small: one character of {model} may take several tokens.",
            hint=f"Use a size of {least} or more, or unit: characters",
        )
    usual = size * _USUAL_TOKEN
    if provider == "openai":
        return Splitter(size, overlap, _tiktoken_splitter(chunking, model).chunk_indices, None, usual)
    tokenizer = local_tokenizer(provider, model)
    if tokenizer is None:
        raise no_tokenizer(f"the provider {provider} has none")
    return Splitter(
        size,
        overlap,
        TextSplitter.from_huggingface_tokenizer(tokenizer, size, overlap=overlap).chunk_indices,
        lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
        usual,
    )


def _tiktoken_splitter(chunking: Chunking, model: str) -> TextSplitter:
    try:
        return TextSplitter.from_tiktoken_model(model, chunking.size, overlap=chunking.overlap)
    except Exception as error:  # the splitter raises a bare Exception for a model it does not know
        raise no_tokenizer(f"none is known for the model {model}") from error
