"""Vectors from OpenAI, or from any server that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx2
import openai
from semantic_text_splitter import TextSplitter

from vecmig.config import address, origin
from vecmig.embedders import openai_request
from vecmig.embedders.base import BaseEmbedder, Retry, expanded
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.keys import address_secrets, find_key
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.openai_answer import Answer
from vecmig.embedders.openai_errors import Told, classified
from vecmig.embedders.secrets import Secrets
from vecmig.embedders.texts import estimated_tokens
from vecmig.errors import EmbedderError, RecipeError
from vecmig.tags import Recipe

OPENAI_URL: Final = "https://api.openai.com/v1"
#: OpenAI's own limits: inputs and tokens in one request, tokens in one input.
MAX_BATCH: Final = 2048
MAX_BATCH_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8192
_MODELS: Final = re.compile(r"text-embedding-(3-small|3-large|ada-002)")
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
            self.default_max_batch_tokens = MAX_BATCH_TOKENS
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
        self._told = Told(self._service, self._secrets, self._key)
        # A server without keys is sent none, rather than an invented one.
        no_key: dict[str, str | openai.Omit] = {} if self._key.value else {"Authorization": openai.omit}
        self._options: openai.RequestOptions = {"headers": no_key | own}
        self._client = openai.OpenAI(
            api_key=self._key.value or "none",
            base_url=url,
            timeout=recipe.service.timeout,
            max_retries=0,
        )

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
            raise classified(error, self._told) from error
        answer = Answer(self.recipe, self._told, response.content, response.headers)
        vectors, refused = answer.vectors(len(texts))
        return Reply(vectors, answer.tokens, response.headers, refused)

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
