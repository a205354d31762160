"""Embedders: what turns texts into the vectors of a tag, one module for each provider."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.batch_provider import BatchProvider, LineAnswer, OrderedBatch
from vecmig.embedders.batches import pack
from vecmig.embedders.deferred import Deferred
from vecmig.embedders.embedder import Embedded, Embedder, Kind, Reply
from vecmig.embedders.limiter import Abandoned, Limiter, Spend
from vecmig.embedders.limits import Limits
from vecmig.embedders.texts import cut_to_limit, document_tokens, estimated_tokens, over_limit
from vecmig.embedders.verifying import row_problems
from vecmig.errors import RecipeError
from vecmig.model.recipe import Recipe
from vecmig.model.recipe_fields import PROVIDERS

__all__ = [
    "Abandoned",
    "BaseEmbedder",
    "BatchProvider",
    "Deferred",
    "Embedded",
    "Embedder",
    "Kind",
    "Limiter",
    "Limits",
    "LineAnswer",
    "OrderedBatch",
    "Reply",
    "Retry",
    "Spend",
    "cut_to_limit",
    "document_tokens",
    "estimated_tokens",
    "open_batches",
    "open_embedder",
    "over_limit",
    "pack",
    "row_problems",
]


def open_embedder(
    tag: str,
    recipe: Recipe,
    *,
    environ: Mapping[str, str] = os.environ,
    retry: Retry | None = None,
    limiter: Limiter | None = None,
) -> Embedder:
    """Open the embedder of a tag; its provider is imported only now.

    Args:
        tag: The tag, for messages.
        recipe: What makes its vectors.
        environ: Where keys, and variables in ``base_url`` and ``headers``, are looked up.
        retry: How failures are tried again; else six attempts.
        limiter: What lets requests through; else nothing holds them.

    Raises:
        RecipeError: the provider is not installed, or cannot do what the recipe says.
        TerminalEmbedderError: there is no key.
    """
    if recipe.derive is not None and recipe.base is not None:
        from vecmig.embedders.cutting import CuttingEmbedder

        other = open_embedder(recipe.derive, recipe.base, environ=environ, retry=retry, limiter=limiter)
        return CuttingEmbedder(recipe, other.limiter, lambda: other)
    if recipe.provider == "openai":
        from vecmig.embedders.openai import OpenAIEmbedder

        return OpenAIEmbedder(tag, recipe, environ=environ, retry=retry, limiter=limiter)
    if recipe.provider == "wordllama":
        from vecmig.embedders.wordllama import WordllamaEmbedder

        return WordllamaEmbedder(tag, recipe, retry=retry, limiter=limiter)
    if recipe.provider == "python":
        from vecmig.embedders.callable import CallableEmbedder

        return CallableEmbedder(tag, recipe, retry=retry, limiter=limiter)
    if recipe.provider == "sentence-transformers":
        from vecmig.embedders.sentence_transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder(tag, recipe, retry=retry, limiter=limiter)
    raise RecipeError(f"{recipe.provider!r} is not a provider; there are {', '.join(PROVIDERS)}.")


def open_batches(
    recipe: Recipe, *, retry: Retry, limiter: Limiter, environ: Mapping[str, str] = os.environ
) -> BatchProvider:
    """Open what orders the texts of a recipe at half the price; as ``open_embedder`` does."""
    from vecmig.embedders.openai_batches import OpenAIBatches

    return OpenAIBatches(recipe, environ=environ, retry=retry, limiter=limiter)
