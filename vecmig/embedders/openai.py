"""Vectors from OpenAI, or from any server that speaks its protocol."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import httpx2
import jiter
import numpy as np
import openai
import pybase64
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

from vecmig.config import address, origin
from vecmig.embedders import openai_request
from vecmig.embedders.base import (
    BaseEmbedder,
    Kind,
    Reply,
    Retry,
    Vectors,
    estimated_tokens,
    expanded,
    wrong_dims,
)
from vecmig.embedders.keys import address_secrets, find_key
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.openai_errors import classified
from vecmig.embedders.secrets import Secrets
from vecmig.errors import EmbedderError, PoisonInputError, RecipeError, TerminalEmbedderError, TransientEmbedderError
from vecmig.tags import Recipe

OPENAI_URL: Final = "https://api.openai.com/v1"
#: OpenAI's own limits: inputs and tokens in one request, tokens in one input.
MAX_BATCH: Final = 2048
MAX_BATCH_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8192
_MODELS: Final = re.compile(r"text-embedding-(3-small|3-large|ada-002)")
#: An answer that makes no sense may be a proxy's hiccup; the same again and again is what the server does.
_MALFORMED_ATTEMPTS: Final = 3
#: A web page is a proxy's while the server behind it restarts, or a wrong address for ever.
_HTML_ATTEMPTS: Final = 6
_ONE_BYTE_EACH: Final = "Write encoding_format: float in the recipe: this server's base64 is broken"
#: No request has as many tokens as this, whatever an answer says.
_MOST_TOKENS: Final = 2**40
#: Beyond this many times the limit, the beginning of a text tells whether the whole is over it.
_TELLING: Final = 8


class OpenAIEmbedder(BaseEmbedder):
    """One model on one server. The SDK's own retrying is off: ``Retry`` has it."""

    def __init__(
        self,
        tag: str,
        recipe: Recipe,
        *,
        environ: Mapping[str, str],
        retry: Retry | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        written, url = (recipe.service.base_url or OPENAI_URL).rstrip("/"), _base_url(recipe, environ)
        self._at_openai = urlsplit(url).hostname == "api.openai.com"
        # Other servers take fewer inputs, and some of them refuse a batch instead of saying how many.
        self.default_max_batch = MAX_BATCH if self._at_openai else 128
        super().__init__(tag, recipe, retry=retry, limiter=limiter)
        self._known_model = _MODELS.fullmatch(recipe.model) is not None
        if self._known_model:
            self.max_batch_tokens = self.max_batch_tokens or MAX_BATCH_TOKENS
            self.max_input_tokens = MAX_INPUT_TOKENS
        encoding = recipe.service.encoding_format or ("base64" if self._at_openai else "float")
        kinds: tuple[Kind, ...] = ("document", "query")
        self._asked = {kind: openai_request.body(recipe, kind, encoding_format=encoding) for kind in kinds}
        self._service = f"The provider at {address(written, url)}"
        self._key = find_key(recipe, environ, url=url, service=self._service)
        own = openai_request.headers(recipe, environ)
        told = (*openai_request.secrets(recipe, environ), *address_secrets(written, url, environ))
        self._secrets = Secrets([self._key.value, *told])
        self._secrets.watch_logs()
        self._accepted = False
        # A server without keys is sent none, rather than an invented one.
        no_key: dict[str, str | openai.Omit] = {} if self._key.value else {"Authorization": openai.omit}
        self._options: openai.RequestOptions = {"headers": no_key | own}
        self._client = openai.OpenAI(
            api_key=self._key.value or "none",
            base_url=url,
            timeout=recipe.service.timeout,
            max_retries=0,
        )

    def _attempt(self, texts: list[str], kind: Kind) -> Vectors:
        try:
            vectors = super()._attempt(texts, kind)
        except PoisonInputError as error:
            self._blame_input(error)
            raise
        self._accepted = True
        return vectors

    def _blame_input(self, error: PoisonInputError) -> None:
        """Make sure that it is the input: a server that refuses everything must not cost a request for each record."""
        if self._accepted:
            return
        try:
            super()._attempt(["vecmig"], "document")
        except PoisonInputError:
            raise TerminalEmbedderError(
                error.message.replace("refuses an input", "refuses every input"),
                hint="Check model, dims and base_url in the recipe",
            ) from error
        self._accepted = True

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        try:
            return self._answered(texts, kind)
        except EmbedderError as error:
            # what it was raised from, too, holds the answer, the address and its headers
            self._secrets.cleanse(error)
            raise

    def _answered(self, texts: list[str], kind: Kind) -> Reply:
        try:
            # The SDK's client without its models, which look at each text and make a Python object of each number.
            response = self._client.post(
                "/embeddings", body=self._asked[kind] | {"input": texts}, options=self._options, cast_to=httpx2.Response
            )
        except openai.OpenAIError as error:
            raise classified(error, service=self._service, secrets=self._secrets, key=self._key) from error
        answer = _Answer(self.recipe, self._service, self._secrets, response.content)
        return Reply(answer.vectors(len(texts)), answer.tokens, response.headers)

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, but so that the estimate is over the input limit only if the text is."""
        estimate = estimated_tokens(text)
        limit = self.max_input_tokens
        if limit is None or len(text.encode("utf-8", "surrogatepass")) <= limit:
            return estimate
        return max(estimate, limit + 1) if _is_over(text, self.recipe.model, limit) else min(estimate, limit)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _base_url(recipe: Recipe, environ: Mapping[str, str]) -> str:
    """Give the address; only its path can hold a secret."""
    written = recipe.service.base_url
    if written is None:
        return OPENAI_URL
    url = expanded(written, environ, f"base_url {origin(written)}").rstrip("/")
    try:
        parts = urlsplit(url)
        plain = "@" not in parts.netloc and not parts.query and not parts.fragment
        sound = parts.scheme in ("http", "https") and parts.hostname and plain
    except ValueError:
        sound = False
    if not sound:
        raise RecipeError(
            f"base_url {origin(written)} is not an http or https address without a user, password and query.",
            hint="Write it like http://localhost:8080/v1",
        )
    return url


def _is_over(text: str, model: str, limit: int) -> bool:
    splitter = TextSplitter.from_tiktoken_model(model, limit, trim=False)
    beginning = text[: limit * _TELLING]
    if len(text) > len(beginning) and len(splitter.chunks(beginning)) > 1:
        return True
    return len(splitter.chunks(text)) > 1


def _is_whole(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


class _Answer:
    """Reads the body of an answer and believes none of it."""

    def __init__(self, recipe: Recipe, service: str, secrets: Secrets, body: bytes) -> None:
        self._recipe = recipe
        self._service = service
        self._secrets = secrets
        self._answer = self._json(body)

    @property
    def tokens(self) -> int | None:
        """The tokens that the server charges for, where it says so."""
        usage = self._answer.get("usage") if isinstance(self._answer, dict) else None
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        # servers that do not count say 0
        return total if _is_whole(total) and 0 < total < _MOST_TOKENS else None

    def vectors(self, count: int) -> NDArray[Any]:
        rows = self._rows(count)
        try:
            embeddings = [row["embedding"] for row in rows]
            if set(map(type, embeddings)) == {str}:
                return self._decoded(embeddings)
            vectors = [_numbers(embedding) for embedding in embeddings]
        except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
            raise TerminalEmbedderError(
                f"{self._service} gave an embedding that is neither numbers nor base64.",
                hint="Try encoding_format: float in the recipe",
            ) from error
        for vector in vectors:
            if vector.size != self._recipe.dims:
                raise wrong_dims(self._recipe, vector.size)
        return np.stack(vectors)

    def _json(self, body: bytes) -> Any:
        try:
            return jiter.from_json(body)
        except ValueError as error:
            html = body.lstrip()[:1] == b"<"
            what = "answered with a web page instead of JSON" if html else "answered with JSON that breaks off"
            raise TransientEmbedderError(
                f"{self._service} {what}.",
                attempts=_HTML_ATTEMPTS if html else None,
                hint="Check base_url: many servers want /v1 at its end" if html else "",
            ) from error

    def _rows(self, count: int) -> list[Mapping[str, Any]]:
        answer = self._answer
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or set(map(type, rows)) - {dict}:
            raise TerminalEmbedderError(
                f"{self._service} gave an answer without embeddings{self._stated(answer)}.",
                hint="Check base_url and model in the recipe",
            )
        if [row.get("index") for row in rows] == list(range(count)):
            return rows
        by_place = {
            row.get("index", place): row for place, row in enumerate(rows) if _is_whole(row.get("index", place))
        }
        if len(rows) != count or by_place.keys() != set(range(count)):
            raise TransientEmbedderError(
                f"{self._service} gave {len(rows)} embeddings for {count} texts, or did not number them from 0.",
                attempts=_MALFORMED_ATTEMPTS,
                hint="Lower max_batch in the recipe if the server takes fewer inputs",
            )
        return [by_place[place] for place in range(count)]

    def _stated(self, answer: Any) -> str:
        error = answer.get("error") if isinstance(answer, dict) else None
        text = error.get("message") if isinstance(error, dict) else error
        return f": {self._secrets.quoted(text)}" if isinstance(text, str) else ""

    def _decoded(self, embeddings: list[str]) -> NDArray[Any]:
        decoded = [pybase64.b64decode(embedding, validate=True) for embedding in embeddings]
        for size in set(map(len, decoded)) - {4 * self._recipe.dims}:
            # Some servers wrongly encode one byte for each number, which is then read as a quarter of the numbers.
            hint = _ONE_BYTE_EACH if size == self._recipe.dims else ""
            raise wrong_dims(self._recipe, size // 4, hint)
        return np.frombuffer(b"".join(decoded), dtype="<f4").reshape(len(embeddings), -1)


def _numbers(embedding: Any) -> NDArray[Any]:
    vector = np.array(embedding, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(vector.shape)
    return vector
