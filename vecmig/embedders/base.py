"""What every embedder has in common: prompts, limits, retrying, and telling whose fault a failure is."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import tenacity

from vecmig.embedders.embedder import Embedded, Kind, Reply, Vectors
from vecmig.embedders.fault import HARMLESS, Fault, NoVector
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.limits import Learned, smaller
from vecmig.embedders.splitting import embed_each
from vecmig.embedders.texts import estimated_tokens, with_prompt
from vecmig.embedders.verifying import row_problems, verified
from vecmig.embedders.witness import Witness
from vecmig.errors import (
    EmbedderError,
    PoisonInputError,
    RecipeError,
    TerminalEmbedderError,
    TransientEmbedderError,
    UsageError,
)
from vecmig.model.recipe import Recipe
from vecmig.text import duration

T = TypeVar("T")

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


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

    def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` until it stops raising TransientEmbedderError or the attempts are used up.

        Raises:
            TransientEmbedderError: the last failure, with the number of attempts, or the wait, in its message.
            TerminalEmbedderError: it failed so often in a row in a way that waiting does not cure.
        """
        hopeless = 0

        def attempt() -> T:
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

    def _stop_waiting(self, state: tenacity.RetryCallState) -> Any:
        error = _failure(state)
        left, asked = self._left, error.retry_after or 0.0
        if 0 < left < asked:
            rest = f"{duration(left)} are left of provider_wait ({duration(self.wait)})"
            why = f"It asks to wait {duration(asked)}, and {rest}."
        else:
            # another request may have been answered this very moment
            silent = max(self.silent_for(), self.wait)
            why = (
                f"It has answered no request for {duration(round(silent))}, and provider_wait is {duration(self.wait)}."
            )
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


def _give_up(state: tenacity.RetryCallState) -> Any:
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
    #: The same for ``max_batch_tokens``.
    default_max_batch_tokens: int | None = None

    def __init__(self, tag: str, recipe: Recipe, *, retry: Retry | None = None, limiter: Limiter | None = None) -> None:
        self.tag = tag
        self.recipe = recipe
        self.retry = retry or Retry()
        self.limiter = limiter or Limiter()
        self.learned = Learned()
        self.max_input_tokens: int | None = None
        self._witness = Witness()

    @property
    def max_batch(self) -> int:
        """The most texts in one request: the recipe's limit or the provider's, and no more than was learned."""
        configured = self.recipe.service.max_batch or self.default_max_batch
        return min(configured, self.learned.limits.texts or configured)

    @property
    def max_batch_tokens(self) -> int | None:
        """The most tokens in one request, likewise; None for no limit."""
        configured = self.recipe.service.max_batch_tokens or self.default_max_batch_tokens
        return smaller(configured, self.learned.limits.tokens)

    @abstractmethod
    def _request(self, texts: list[str], kind: Kind) -> Reply:
        """Embed texts that are ready to send: prompts applied, none blank."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed records' texts, none of them blank; like ``embed_each``, but each of them must be embedded.

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
        return self._all(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed queries as the recipe says; like ``embed_documents``, but a blank one is a UsageError."""
        if any(not text.strip() for text in texts):
            raise UsageError("A blank query cannot be embedded.")
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            # So arguments of the command line arrive whose bytes are not UTF-8.
            raise UsageError("The query is not valid UTF-8.")
        return self._all(texts, "query")

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind = "document",
        *,
        owners: Sequence[Hashable] | None = None,
        tokens: int | None = None,
    ) -> Embedded:
        """Embed any number of texts in as many requests as it takes, and name those that the provider cannot embed.

        Args:
            texts: none of them blank; without their prompts.
            kind: what they are.
            owners: whose each of them is: where one is refused, the others of its owner are not sent any more.
            tokens: their estimated tokens, prompts included, where somebody has counted them.

        Returns:
            What was embedded, what was refused, and the failure that ended it where one did.
        """
        prompt = self.recipe.document_prompt if kind == "document" else self.recipe.query_prompt
        return embed_each(self, [with_prompt(prompt, text) for text in texts], kind, owners=owners, tokens=tokens)

    def _all(self, texts: Sequence[str], kind: Kind) -> Vectors:
        found = self.embed_each(texts, kind)
        if found.failure is not None:
            raise found.failure
        for why in found.refused.values():
            raise PoisonInputError(why)
        return found.vectors

    def request(self, texts: list[str], kind: Kind, *, suspect: bool = False) -> Embedded:
        """Send one request, as often as ``retry`` says, and find out whose fault it is where it fails.

        Args:
            texts: with their prompts, no more than one request takes.
            kind: what they are.
            suspect: whether they are a part of a request that was refused: several of them are then not tried again.

        Raises:
            PoisonInputError: the provider takes other texts but not these; if it is one text, that is to blame.
            TransientEmbedderError: the provider failed in every attempt.
            TerminalEmbedderError: the provider refuses everything, or the answer does not fit the recipe.
        """
        fault = Fault(
            partial(self._send, kind=kind),
            self._witness,
            self.retry.sleep,
            harmless=with_prompt(self.recipe.document_prompt, HARMLESS),
            texts=texts,
        )
        return self.retry.run(lambda: fault.attempt(suspect=suspect))

    def _send(self, texts: list[str], *, kind: Kind, beside: bool = False) -> Embedded:
        tokens = sum(map(estimated_tokens, texts))
        # what is sent beside others is a document, whatever they are
        with self.limiter.request(lambda: tokens, beside=beside) as ticket:
            try:
                reply = self._request(texts, "document" if beside else kind)
                ticket.taken, ticket.headers = reply.tokens, reply.headers
                vectors = verified(self.recipe, reply.vectors, len(texts))
                found = Embedded(vectors, reply.refused)
                _require_one_good(found)
            except EmbedderError as error:
                error.sent_at = ticket.sent.at
                raise
        self._witness.took(ticket.sent.at, None if beside or kind == "query" else _example(texts, found))
        self.learned.passed(len(texts), tokens)
        return found

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, rather above than below."""
        return estimated_tokens(text)

    def close(self) -> None:  # noqa: B027  # most providers hold nothing
        """Let go of what the provider holds."""


def _example(texts: list[str], found: Embedded) -> str | None:
    """Return a text that got a vector, the last one."""
    for at in reversed(range(len(texts))):
        if at not in found.refused and not row_problems(found.vectors[at : at + 1]):
            return texts[at]
    return None


def _require_one_good(found: Embedded) -> None:
    """Refuse an answer in which no vector is one: be it the texts' doing or the provider's, it is no success."""
    vectors, refused = found.vectors, found.refused
    if 0 not in refused and not row_problems(vectors[:1]):
        return
    problems = row_problems(vectors) | dict(refused)
    if len(problems) == len(vectors):
        raise NoVector(problems[0], found)


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
