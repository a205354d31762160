"""What every embedder has in common: prompts, limits, retrying, and checks of what a provider gives back."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
import tenacity
from numpy.typing import NDArray

from vecmig.embedders.limiter import Limiter
from vecmig.errors import (
    EmbedderError,
    PoisonInputError,
    RecipeError,
    TerminalEmbedderError,
    TransientEmbedderError,
    UsageError,
)
from vecmig.tags import NORM_TOLERANCE, Recipe

Kind = Literal["document", "query"]
Vectors = NDArray[np.float32]

#: Below this length float32 has lost digits of the squares.
_SMALLEST_NORM: Final = 1e-15
#: After so many failures in a row that may be a text's doing, another text tells whether they are: so many times in
#: turn, because a provider that fails now and then, or is just coming back, would have every text rejected.
_DOUBT_AFTER: Final = 5
_TURNS: Final = 5
_HARMLESS: Final = "vecmig"
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered."""

    #: Of shape (n, dims), as it came.
    vectors: NDArray[Any]
    #: Tokens that the provider charges for; None where it does not say.
    tokens: int | None = None
    #: The answer's headers, which may tell how much of a rate limit is left.
    headers: Mapping[str, str] = field(default_factory=dict)


class Embedder(Protocol):
    """Turns texts into the vectors of one tag."""

    recipe: Recipe
    #: Lets the requests through.
    limiter: Limiter
    #: Most texts, and most tokens, in one call; None for no limit.
    max_batch: int
    max_batch_tokens: int | None
    #: Most tokens in one text, its prompt included; None where it is not known.
    max_input_tokens: int | None

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records; gives (n, dims)."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; gives (n, dims)."""

    def count_tokens(self, text: str) -> int:
        """Count, or where the tokenizer is not local estimate, the tokens of a text."""

    def close(self) -> None:
        """Let go of connections and models."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How a provider that is busy is tried again: waits of random length that grow, or what Retry-After asks for."""

    #: None for no end: a backfill can wait for a provider, a person at a prompt cannot.
    attempts: int | None = 6
    #: Where they have no end: seconds for which a provider is waited for that answers no request of this process.
    wait: float = math.inf
    #: Gives for how many seconds it has answered none, although it was asked.
    silent_for: Callable[[], float] = lambda: 0.0
    #: Upper bound of the first wait, doubled each time, and of every wait; in seconds.
    first: float = 0.5
    most: float = 30.0
    #: Where the attempts have an end, a longer Retry-After, in seconds, is one too.
    longest_retry_after: float = 120.0
    sleep: Callable[[float], None] = time.sleep
    #: Told of each failure that is tried again, and of the seconds until then.
    notify: Callable[[TransientEmbedderError, float], None] = lambda _error, _seconds: None

    def run(self, work: Callable[[], Vectors]) -> Vectors:
        """Run ``work`` until it stops raising TransientEmbedderError or the attempts are used up.

        Raises:
            TransientEmbedderError: the last failure, with the number of attempts, or the wait, in its message.
            TerminalEmbedderError: it failed so often in a row in a way that waiting does not cure.
        """
        hopeless = 0

        def attempt() -> Vectors:
            nonlocal hopeless
            try:
                return work()
            except TransientEmbedderError as error:
                hopeless = 0 if error.attempts is None else hopeless + 1
                if error.attempts is not None and hopeless >= error.attempts:
                    raise TerminalEmbedderError(error.message, state=error.state, hint=error.hint) from error
                raise

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientEmbedderError),
            wait=self._wait,
            stop=self._stop,
            sleep=self.sleep,
            before_sleep=self._before_sleep,
            retry_error_callback=_give_up if self.attempts is not None else self._stop_waiting,
        )
        return attempts(attempt)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        random = tenacity.wait_random_exponential(multiplier=self.first, max=self.most)(state)
        wait = max(random, _failure(state).retry_after or 0.0)
        # the last try is at the end of the wait
        return wait if self.attempts is not None else min(wait, max(self._left, 0.0))

    @property
    def _left(self) -> float:
        """Seconds for which the provider is still waited for."""
        return self.wait - self.silent_for()

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        error = _failure(state)
        if self.attempts is None:
            return self._left <= 0 or (error.retry_after or 0.0) > self._left
        return state.attempt_number >= self.attempts or (error.retry_after or 0.0) > self.longest_retry_after

    def _stop_waiting(self, state: tenacity.RetryCallState) -> Vectors:
        error = _failure(state)
        left, asked = self._left, error.retry_after or 0.0
        if 0 < left < asked:
            why = f"It asks to wait {asked:g} s, and {left:.0f} s are left of provider_wait ({self.wait:g} s)."
        else:
            # another request may have been answered this very moment
            silent = max(self.silent_for(), self.wait)
            why = f"It has answered no request for {silent:.0f} s, and provider_wait is {self.wait:g} s."
        hint = "Run the same command again when the provider is back: it goes on from there. Longer: --provider-wait"
        raise TransientEmbedderError(
            f"{error.message} {why}",
            retry_after=error.retry_after,
            state=error.state,
            hint=f"{error.hint}\n{hint}".strip(),
        ) from error

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.notify(_failure(state), state.upcoming_sleep)


def _failure(state: tenacity.RetryCallState) -> TransientEmbedderError:
    assert state.outcome is not None
    return cast(TransientEmbedderError, state.outcome.exception())


def _give_up(state: tenacity.RetryCallState) -> Vectors:
    error = _failure(state)
    times = "once" if state.attempt_number == 1 else f"{state.attempt_number} times in a row"
    wait = "" if error.retry_after is None else f" and asks to wait {error.retry_after:g} s"
    raise TransientEmbedderError(
        f"{error.message} It failed {times}{wait}.", retry_after=error.retry_after, state=error.state, hint=error.hint
    ) from error


class BaseEmbedder(ABC):
    """Applies the recipe's prompts, retries, and verifies or normalises; a provider adds ``_request``.

    It may be called from several threads at once.
    """

    #: The provider's own limit, which ``max_batch`` of the recipe replaces.
    default_max_batch: int = 256

    def __init__(self, tag: str, recipe: Recipe, *, retry: Retry | None = None, limiter: Limiter | None = None) -> None:
        self.tag = tag
        self.recipe = recipe
        self.retry = retry or Retry()
        self.limiter = limiter or Limiter()
        self.max_batch = recipe.service.max_batch or self.default_max_batch
        self.max_batch_tokens = recipe.service.max_batch_tokens
        self.max_input_tokens: int | None = None

    @abstractmethod
    def _request(self, texts: list[str], kind: Kind) -> Reply:
        """Embed texts that are ready to send: prompts applied, none blank."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records as the recipe says.

        Args:
            texts: At most ``max_batch`` of them, none blank.

        Returns:
            float32 of shape (n, dims), in the order of the texts. A row that ``row_problems`` names is as the
            provider gave it; every other row is normalised, or was found to be, where the tag says norm-l2.

        Raises:
            PoisonInputError: the provider refuses one of the texts, or one is blank.
            TransientEmbedderError: the provider failed in every attempt.
            TerminalEmbedderError: no attempt would help, or the answer does not fit the recipe.
        """
        if any(not text.strip() for text in texts):
            raise PoisonInputError("A blank text cannot be embedded.")
        return self._embed([with_prompt(self.recipe.document_prompt, text) for text in texts], "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions as the recipe says; like ``embed_documents``, but a blank one is a UsageError."""
        if any(not text.strip() for text in texts):
            raise UsageError("A blank question cannot be embedded.")
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            # So arguments of the command line arrive whose bytes are not UTF-8.
            raise UsageError("The question is not valid UTF-8.")
        return self._embed([with_prompt(self.recipe.query_prompt, text) for text in texts], "query")

    def _embed(self, texts: list[str], kind: Kind) -> Vectors:
        if len(texts) > self.max_batch:
            raise ValueError(f"{len(texts)} texts in one call; {self.tag} takes at most {self.max_batch}")
        if not texts:
            return np.empty((0, self.recipe.dims), dtype=np.float32)
        failures = 0

        def attempt() -> Vectors:
            nonlocal failures
            try:
                return self._attempt(texts, kind)
            except TransientEmbedderError as error:
                failures = failures + 1 if error.may_be_input else 0
                if not failures or failures % _DOUBT_AFTER:
                    raise
                return self._doubted(texts, kind, error)

        return self.retry.run(attempt)

    def _attempt(self, texts: list[str], kind: Kind) -> Vectors:
        with self.limiter.request(lambda: sum(map(estimated_tokens, texts))) as ticket:
            reply = self._request(texts, kind)
            ticket.taken, ticket.headers = reply.tokens, reply.headers
            return verified(self.recipe, reply.vectors, len(texts))

    def _doubted(self, texts: list[str], kind: Kind, error: TransientEmbedderError) -> Vectors:
        """Find out whether it is the texts: the provider takes another one and fails for these, again and again."""
        for _ in range(_TURNS):
            if not self._takes_another():
                raise error
            try:
                return self._attempt(texts, kind)
            except TransientEmbedderError as again:
                if not again.may_be_input:
                    raise
        raise PoisonInputError(error.message) from error

    def _takes_another(self) -> bool:
        """Whether the provider is well: it takes a text that has nothing wrong with it."""
        try:
            self._attempt([_HARMLESS], "document")
        except EmbedderError:
            return False
        return True

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, rather above than below."""
        return estimated_tokens(text)

    def close(self) -> None:  # noqa: B027  # most providers hold nothing
        """Let go of what the provider holds."""


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
    """Give the length of each row; it is finite only if all its numbers are."""
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
    # in double precision, as the database does it: a row at the very edge must not fail the whole batch there
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
    return TerminalEmbedderError(
        f"The provider {recipe.provider} gave vectors of {dims} dimensions for {recipe.model}; "
        f"the tag says {recipe.dims}.",
        hint=hint or f"If {dims} is right, make a new tag with dim-{dims}",
    )


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


def expanded(text: str, environ: Mapping[str, str], what: str) -> str:
    """Replace ``${NAME}`` by the variable's value.

    Raises:
        RecipeError: the variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if not environ.get(match[1]):
            raise RecipeError(
                f"{what} needs the environment variable {match[1]}, which is not set.",
                hint=f"Set it: export {match[1]}=…",
            )
        return environ[match[1]]

    return VARIABLE.sub(value, text)
