"""Vectors from a team's own Python function, named in the recipe as ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.secrets import environment_secrets
from vecmig.errors import RecipeError, TerminalEmbedderError, VecmigError
from vecmig.model.recipe import Recipe


class CallableEmbedder(BaseEmbedder):
    """Calls ``embed(texts, kind)``, or ``embed(texts)`` where the function takes no kind.

    The function may raise TransientEmbedderError or PoisonInputError of ``vecmig.errors`` to be called again or to
    have a text rejected; every other exception ends the run.
    """

    def __init__(self, tag: str, recipe: Recipe, *, retry: Retry | None = None, limiter: Limiter | None = None) -> None:
        super().__init__(tag, recipe, retry=retry, limiter=limiter)
        assert recipe.callable is not None
        self._name = recipe.callable
        module_name, _, attribute = recipe.callable.partition(":")
        # As for a script that Python runs: a module beside vecmig.ini need not be installed.
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise RecipeError(
                f"The callable {recipe.callable} cannot be imported: {type(error).__name__}: {error}.",
                hint=f"vecmig looks for it in {Path.cwd()} and among the installed packages",
            ) from error
        if not callable(found):
            raise RecipeError(f"{recipe.callable} is {type(found).__name__}, not a function.")
        self._function = found
        self._call = _convention(self._function)
        self._secrets = environment_secrets(os.environ)

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        failed: VecmigError
        try:
            return Reply(self._as_array(self._call(self._function, texts, kind)))
        except VecmigError as error:
            failed = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  # it is raised, redacted, a few lines below
            failed = TerminalEmbedderError(
                f"The callable {self._name} raised {type(error).__name__}: {error}.", hint=f"Correct {self._name}"
            )
            failed.__cause__ = error
        # it may speak with a provider of its own, which repeats the key
        raise self._secrets.cleanse(failed)

    def _as_array(self, answer: object) -> NDArray[Any]:
        try:
            return np.asarray(answer, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TerminalEmbedderError(
                f"The callable {self._name} gave {type(answer).__name__}, not an array of numbers of shape (n, dims)."
            ) from error


_Convention = Callable[[Callable[..., Any], list[str], Kind], Any]


def _convention(function: Callable[..., Any]) -> _Convention:
    """Tell how to pass the kind: by its name, else as a second argument that must be given, else not at all."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return lambda call, texts, _kind: call(texts)
    if "kind" in parameters:
        return lambda call, texts, kind: call(texts, kind=kind)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty]
    if len(required) > 1:
        return lambda call, texts, kind: call(texts, kind)
    return lambda call, texts, _kind: call(texts)
