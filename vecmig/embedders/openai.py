"""Vectors from OpenAI, or from any server that speaks its protocol."""

from __future__ import annotations

import os
import re
from collections import ChainMap
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx2
import openai
from semantic_text_splitter import TextSplitter

from vecmig.config import address
from vecmig.embedders import openai_request
from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.connection_errors import Route, proxy_refusal, unreached
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.environment import certificates, find_proxy
from vecmig.embedders.http import Client
from vecmig.embedders.keys import OPENAI_URL, address_secrets, base_url, find_key
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.openai_answer import Answer
from vecmig.embedders.openai_errors import Told, classified
from vecmig.embedders.secrets import Secrets
from vecmig.embedders.texts import estimated_tokens
from vecmig.errors import EmbedderError, TerminalEmbedderError
from vecmig.model.recipe import Recipe, is_openai

#: OpenAI's own limits: inputs and tokens in one request, tokens in one input.
MAX_BATCH: Final = 2048
MAX_BATCH_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8192
_MODELS: Final = re.compile(r"text-embedding-(3-small|3-large|ada-002)")
#: Beyond this many times the limit, the beginning of a text tells whether all of it is over.
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
        written, url = (recipe.service.base_url or OPENAI_URL).rstrip("/"), base_url(recipe, environ)
        self._at_openai = is_openai(url)
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
        network = ChainMap(dict(environ), os.environ)
        proxy = find_proxy(url, network)
        hidden = (*openai_request.secrets(recipe, environ), *address_secrets(written, url, environ))
        self._secrets = Secrets([self._key.value, *hidden, *(() if proxy is None else proxy.secrets)])
        self._secrets.watch_logs()
        model_field = "request_model" if recipe.service.request_model else "model"
        self._told = Told(self._service, self._secrets, self._key, model_field)
        self._route = Route(self._service, urlsplit(url).netloc, proxy)
        self._connect(url, environ, network)

    def _connect(self, url: str, environ: Mapping[str, str], network: Mapping[str, str]) -> None:
        """Make the client; nothing is sent yet."""
        # A server without keys is sent none, rather than an invented one.
        key = f"Bearer {self._key.value}" if self._key.value else openai.omit
        own = openai_request.headers(self.recipe, environ)
        self._options: openai.RequestOptions = {"headers": {"Authorization": key, **own}}
        proxy = self._route.proxy
        self._http = Client(
            seconds=self.recipe.service.timeout,
            proxy=None if proxy is None else proxy.opened(network),
            ssl_context=certificates(network) if url.startswith("https:") else None,
        )
        self._client = openai.OpenAI(
            api_key=self._key.value or "none",
            base_url=url,
            max_retries=0,
            default_headers=None if self._at_openai else openai_request.without_ambient(),
            http_client=self._http,
        )

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        failed: EmbedderError
        try:
            return self._answered(texts, kind)
        except EmbedderError as error:
            failed = error
        except Exception as error:  # noqa: BLE001  # whatever it is, it may quote the answer or the request
            what = f"{type(error).__name__}: {self._secrets.quoted(str(error))}"
            failed = TerminalEmbedderError(f"{self._service}: {what}")
            failed.__cause__ = error
        # what it was raised from, too, holds the answer, the address and its headers
        raise self._secrets.cleanse(failed)

    def _answered(self, texts: list[str], kind: Kind) -> Reply:
        body = self._asked[kind] | {"input": texts}
        try:
            with self._http.asking(len(texts), self.recipe.dims):
                # The SDK's client without its models, which look at each text and make a Python object of each number.
                response = self._client.post("/embeddings", body=body, options=self._options, cast_to=httpx2.Response)
        except openai.APIConnectionError as error:
            raise unreached(error, self._route, answered=self._http.answered) from error
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError) and (refusal := proxy_refusal(error, self._route)):
                raise refusal from error
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


def _is_over(text: str, model: str, limit: int) -> bool:
    splitter = TextSplitter.from_tiktoken_model(model, limit, trim=False)
    beginning = text[: limit * _TELLING]
    if len(text) > len(beginning) and len(splitter.chunks(beginning)) > 1:
        return True
    return len(splitter.chunks(text)) > 1
