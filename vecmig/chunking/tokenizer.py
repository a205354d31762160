"""Find the tokenizer of a model that runs here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenizers import Tokenizer

from vecmig.errors import RecipeError


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


def no_tokenizer(why: str) -> RecipeError:
    """Say that a recipe asks for tokens where none can be counted."""
    return RecipeError(f"unit: tokens needs a tokenizer, and {why}.", hint="Write unit: characters in the recipe")


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
        raise no_tokenizer(f"that of {model} cannot be loaded ({type(error).__name__})") from error
