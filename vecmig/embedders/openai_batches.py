"""OpenAI's Batch API: texts ordered as a file at half the price, whose vectors come within a day."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Final, TypeVar
from uuid import UUID

import jiter
import openai
from openai.types import Batch

from vecmig.embedders import openai_request
from vecmig.embedders.base import Retry
from vecmig.embedders.batch_provider import LineAnswer, OrderedBatch
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.openai_answer import Answer
from vecmig.embedders.openai_errors import MALFORMED_ATTEMPTS, refusal_in
from vecmig.embedders.openai_server import Server
from vecmig.embedders.texts import with_prompt
from vecmig.embedders.verifying import verified
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError, TransientEmbedderError
from vecmig.model.recipe import Recipe

T = TypeVar("T")

#: Texts and bytes that one file may have.
MOST_TEXTS: Final = 50_000
MOST_BYTES: Final = 200 * 1_000_000
#: Where a line's request goes, whatever stands before it in the server's address.
_ENDPOINT: Final = "/v1/embeddings"
#: What a batch carries to be found again by a run that was killed before it could keep the batch's own id.
_MARK: Final = "vecmig_order"
#: The provider's word for a queue that has no room for a batch.
_NO_ROOM: Final = "token_limit_exceeded"
#: Seconds that the provider's clock may be behind.
_CLOCKS: Final = 3600
#: Batches that are listed at once.
_PAGE: Final = 100


class OpenAIBatches:
    """The batches of one recipe. Any thread may call any method."""

    def __init__(self, recipe: Recipe, *, environ: Mapping[str, str], retry: Retry, limiter: Limiter) -> None:
        self._recipe = recipe
        self._server = Server(recipe, environ)
        self._retry = retry
        self._limiter = limiter
        self._body = openai_request.body(recipe, "document", at_openai=self._server.is_openai)
        self.most_texts = MOST_TEXTS
        self.most_bytes = MOST_BYTES

    @property
    def address(self) -> str:
        """The server, without what may be a key."""
        return self._server.address

    def line(self, name: str, text: str) -> bytes:
        """Return the line of a file that asks for the vector of a text; ``name`` comes back with it."""
        body = self._body | {"input": with_prompt(self._recipe.document_prompt, text)}
        line = {"custom_id": name, "method": "POST", "url": _ENDPOINT, "body": body}
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def upload(self, file: IO[bytes], size: int, order: UUID) -> str:
        """Send a file of lines; return the provider's id of it. Nothing is charged yet."""

        def work() -> str:
            file.seek(0)
            with self._server.http.uploading(size):
                sent = self._server.client.files.create(
                    file=(f"vecmig-{order}.jsonl", file), purpose="batch", extra_headers=self._server.headers
                )
            if not sent.id:
                raise ValueError("The answer has no file.")
            return sent.id

        return self._ask(self._supported(work))

    def order(self, file: str, order: UUID) -> OrderedBatch:
        """Order what an uploaded file asks for, once: a request that was not answered may have been heard."""
        began, asked = datetime.now(UTC), False

        def work() -> OrderedBatch:
            nonlocal asked
            if asked and (found := self._newest(order, began)) is not None:
                return found
            asked = True
            made = self._server.client.batches.create(
                input_file_id=file,
                endpoint=_ENDPOINT,
                completion_window="24h",
                metadata={_MARK: str(order)},
                extra_headers=self._server.headers,
            )
            return _ordered(made)

        return self._ask(self._supported(work))

    def find(self, order: UUID, since: datetime) -> OrderedBatch | None:
        """Find the newest batch of an order among those that were made since it was written down; None without one."""
        return self._ask(lambda: self._newest(order, since))

    def _newest(self, order: UUID, since: datetime) -> OrderedBatch | None:
        after: str | openai.Omit = openai.omit
        while True:
            listed = self._server.client.batches.list(after=after, limit=_PAGE, extra_headers=self._server.headers)
            for batch in listed.data:
                if (batch.metadata or {}).get(_MARK) == str(order):
                    return _ordered(batch)
            # the newest come first; the provider's clock need not be ours
            if not listed.data or listed.data[-1].created_at < since.timestamp() - _CLOCKS:
                return None
            after = listed.data[-1].id

    def look(self, batch: str) -> OrderedBatch | None:
        """Return how a batch stands; None where the provider knows none of that id."""

        def work() -> OrderedBatch | None:
            try:
                found = self._server.client.batches.retrieve(batch, extra_headers=self._server.headers)
            except openai.NotFoundError:
                return None
            return _ordered(found)

        return self._ask(work)

    def fetch(self, file: str, texts: int, to: IO[bytes]) -> bool:
        """Write a file of answers to ``to``; return whether the provider still has it.

        Args:
            file: the provider's id of it.
            texts: how many there may be.
            to: an empty file.
        """

        def work() -> bool:
            to.seek(0)
            to.truncate()
            try:
                with self._server.http.downloading(texts, self._recipe.dims, to):
                    self._server.client.files.content(file, extra_headers=self._server.headers)
            except openai.NotFoundError:
                return False
            return True

        return self._ask(work)

    def answers(self, lines: IO[bytes]) -> Iterator[LineAnswer]:
        """Read a file of answers, which come in any order."""
        lines.seek(0)
        for line in lines:
            if line.strip():
                yield self._answer(line)

    def forget(self, *files: str) -> None:
        """Delete files at the provider, as far as it does that."""
        for file in files:
            with suppress(EmbedderError):
                self._server.ask(
                    lambda one=file: self._server.client.files.delete(one, extra_headers=self._server.headers)  # type: ignore[misc]
                )

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _ask(self, work: Callable[[], T]) -> T:
        """Send a request that embeds nothing: beside those in flight, held by a pause as they are, and tried again."""

        def once() -> T:
            with self._limiter.request(lambda: 0, beside=True):
                try:
                    return self._server.ask(understood)
                except PoisonInputError as error:
                    # it is about the file, or the order
                    raise TerminalEmbedderError(error.message) from error

        def understood() -> T:
            try:
                return work()
            except (ValueError, TypeError, AttributeError) as error:
                # the SDK makes what it can of any answer, of a proxy's page as well
                raise TransientEmbedderError(
                    f"{self._server.told.service} gave an answer that is none of a Batch API.",
                    attempts=MALFORMED_ATTEMPTS,
                ) from error

        return self._retry.run(once)

    def _supported(self, work: Callable[[], T]) -> Callable[[], T]:
        def supported() -> T:
            try:
                return work()
            except openai.NotFoundError as error:
                raise TerminalEmbedderError(
                    f"{self._server.told.service} has no Batch API (HTTP {error.status_code}).",
                    hint="Take batch: true out of the recipe; its vectors stay the same ones.",
                ) from error

        return supported

    def _answer(self, line: bytes) -> LineAnswer:
        try:
            read = jiter.from_json(line)
        except ValueError:
            read = None
        if not isinstance(read, dict) or not isinstance(read.get("custom_id"), str):
            return LineAnswer("", None, None, charged=False, failure=None)
        name, response = read["custom_id"], read.get("response")
        if not isinstance(response, dict):
            # the batch expired, or was cancelled, before the provider came to it
            return LineAnswer(name, None, None, charged=False, failure=None)
        body, status = response.get("body"), response.get("status_code")
        told = self._server.told
        if status != 200:
            refusal = refusal_in(status if isinstance(status, int) else 500, body, told)
            return LineAnswer(name, None, None, charged=False, failure=self._server.cleansed(refusal))
        tokens = None
        try:
            answer = Answer(self._recipe, told, body, {})
            tokens = answer.tokens
            vectors, refused = answer.vectors(1)
            if refused:
                raise PoisonInputError(refused[0])
            return LineAnswer(name, verified(self._recipe, vectors, 1), tokens, charged=True, failure=None)
        except EmbedderError as error:
            return LineAnswer(name, None, tokens, charged=True, failure=self._server.cleansed(error))


def _ordered(batch: object) -> OrderedBatch:
    """Read the SDK's.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(batch, Batch) or not batch.id or not batch.status:
        raise ValueError("The answer has no batch.")
    counts = batch.request_counts
    problems = batch.errors.data or [] if batch.errors else []
    words = "; ".join(dict.fromkeys(problem.message or problem.code or "" for problem in problems))
    return OrderedBatch(
        batch.id,
        batch.status,
        counts.completed if counts else 0,
        tuple(filter(None, [batch.output_file_id, batch.error_file_id])),
        words.rstrip("."),
        any(problem.code == _NO_ROOM for problem in problems),
    )
