"""Check what a provider answers against the recipe, and normalise it as that says."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vecmig.embedders.embedder import Vectors
from vecmig.errors import TerminalEmbedderError
from vecmig.model.recipe import Recipe
from vecmig.model.tag import NORM_TOLERANCE

#: Below this length float32 has lost digits of the squares.
_SMALLEST_NORM: Final = 1e-15


def row_problems(
    vectors: NDArray[Any], *, storage: Literal["vector", "halfvec"] = "vector", unit: bool = False
) -> dict[int, str]:
    """Say, by row, why a vector cannot be stored or found; the other rows are good.

    Args:
        vectors: float32 of shape (n, dims).
        storage: pgvector's type; halfvec rounds to half precision, where large numbers turn infinite and small ones 0.
        unit: whether the database takes only vectors of length 1, as it does under norm-l2.
    """
    norms = _norms(vectors)
    problems = _problems(vectors, norms)
    if storage == "halfvec":
        vectors = _as_half(vectors)
        norms = _norms(vectors)
        rounded = _problems(vectors, norms)
        problems = {row: f"rounded to halfvec, {reason}" for row, reason in rounded.items()} | problems
    return _not_unit(vectors, norms) | problems if unit else problems


def _as_half(vectors: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return vectors.astype(np.float16).astype(np.float32)


def _norms(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return the length of each row; it is finite only if all its numbers are."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return norms


def _problems(vectors: NDArray[Any], norms: NDArray[np.float32]) -> dict[int, str]:
    suspects = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    # in double precision, because squares of very large or small numbers leave the range of float32
    exact = np.linalg.norm(vectors[suspects].astype(np.float64), axis=1)
    problems = {}
    for row, norm in zip(suspects, exact, strict=True):
        if not np.isfinite(norm):
            problems[int(row)] = "the vector holds NaN or infinity"
        elif norm == 0:
            problems[int(row)] = "the vector has zero norm"
    return problems


def _not_unit(vectors: NDArray[Any], norms: NDArray[np.float32]) -> dict[int, str]:
    suspects = np.flatnonzero(~(np.abs(norms - 1) < NORM_TOLERANCE / 2))
    # in double precision, as the database does it: a row at the very edge must not fail the batch there
    exact = np.linalg.norm(vectors[suspects].astype(np.float64), axis=1)
    far = ~(np.abs(exact - 1) <= NORM_TOLERANCE)
    return {
        int(row): f"the vector has length {norm:.4g}, which norm-l2 does not allow"
        for row, norm in zip(suspects[far], exact[far], strict=True)
    }


def verified(recipe: Recipe, answer: NDArray[Any], count: int) -> Vectors:
    """Check an answer against the recipe and normalise it as that says.

    Raises:
        TerminalEmbedderError: wrong number of vectors or of dimensions, or not normalised under ``normalise: verify``.
    """
    if answer.ndim != 2 or len(answer) != count:
        raise TerminalEmbedderError(
            f"The provider {recipe.provider} gave an array of shape {answer.shape} "
            f"for {count} texts of {recipe.model}; it must be ({count}, {recipe.dims})."
        )
    if answer.shape[1] != recipe.dims:
        raise wrong_dims(recipe, answer.shape[1])
    with np.errstate(over="ignore"):
        vectors = np.array(answer, dtype=np.float32)
    return _normalised(recipe, vectors)


def wrong_dims(recipe: Recipe, dims: int, hint: str = "") -> TerminalEmbedderError:
    """Say that the provider's vectors have another number of dimensions than the tag."""
    what = (
        f"The provider {recipe.provider} gave vectors of {dims} dimensions for {recipe.model}; "
        f"the tag says {recipe.dims}."
    )
    return TerminalEmbedderError(
        what,
        of_request=what,
        hint=hint or f"If {dims} is right, make a new tag with dim-{dims}{_fewer(recipe, dims)}",
    )


def _fewer(recipe: Recipe, dims: int) -> str:
    """Say how a model is asked for fewer dimensions than it has; not where it was asked already."""
    asked = recipe.provider != "openai" or recipe.model.startswith("text-embedding-3") or recipe.request
    if asked or dims < recipe.dims:
        return ""
    return f"; if the model can make {recipe.dims} too, add to the recipe: request: {{dimensions: {recipe.dims}}}"


def _normalised(recipe: Recipe, vectors: Vectors) -> Vectors:
    if recipe.normalise == "none":
        return vectors
    norms = _norms(vectors)
    problems = list(_problems(vectors, norms))
    if recipe.normalise == "apply":
        odd = ~np.isfinite(norms) | (norms < _SMALLEST_NORM)
        odd[problems] = False
        exact = vectors[odd].astype(np.float64)
        vectors[odd] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        norms[odd] = norms[problems] = 1
        vectors /= norms[:, None]
        return vectors
    norms[problems] = 1
    worst = float(norms[np.abs(norms - 1).argmax()]) if norms.size else 1.0
    if abs(worst - 1) > NORM_TOLERANCE:
        raise TerminalEmbedderError(
            f"The provider {recipe.provider} gave a vector of length {worst:.3g} for {recipe.model}; "
            "the recipe says that it normalises (normalise: verify).",
            hint="Make a new tag whose recipe says normalise: apply",
        )
    return vectors
