"""Texts before they are sent: prompts, estimates of their tokens, and what a provider's input limit leaves of them."""

from __future__ import annotations

from vecmig.embedders.embedder import Embedder
from vecmig.errors import PoisonInputError


def with_prompt(prompt: str, text: str) -> str:
    """Put ``text`` into a prompt; braces in it mean nothing."""
    return text if prompt == "{text}" else prompt.replace("{text}", text)


def estimated_tokens(text: str) -> int:
    """Estimate tokens at three bytes each: above the four of English prose, and about right for other scripts."""
    return -(-(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 3)


def over_limit(embedder: Embedder, text: str) -> int | None:
    """Return the number of tokens of a record's text, prompt included, if the provider takes fewer; else None."""
    limit = embedder.max_input_tokens
    if limit is None:
        return None
    count = embedder.count_tokens(with_prompt(embedder.recipe.document_prompt, text))
    return count if count > limit else None


def cut_to_limit(embedder: Embedder, text: str) -> str:
    """Return the longest beginning of a record's text that the provider takes.

    Raises:
        PoisonInputError: not even its first character fits, because of the prompt.
    """
    if over_limit(embedder, text) is None:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if over_limit(embedder, text[:middle]) is None else (fits, middle)
    if not text[:fits].strip():
        raise PoisonInputError("The document prompt leaves no room for the text.")
    return text[:fits]


def document_tokens(embedder: Embedder, text: str) -> int:
    """Estimate the tokens that a record's text takes of a request, prompt included."""
    return estimated_tokens(with_prompt(embedder.recipe.document_prompt, text))
