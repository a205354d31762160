"""Vectors from OpenAI, or from any server that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

import httpx2
from semantic_text_splitter import TextSplitter

from vecmig.embedders import openai_request
from vecmig.embedders.base import BaseEmbedder, Retry
from vecmig.embedders.embedder import Kind, Reply
from vecmig.embedders.limiter import Limiter
from vecmig.embedders.openai_answer import Answer
from vecmig.embedders.openai_server import Server
from vecmig.embedders.texts import estimated_tokens
from vecmig.model.recipe import Recipe

#: OpenAI's own limits: inputs and tokens in one request, tokens in one input.
MAX_BATCH: Final = 2048
MAX_BATCH_TOKENS: Final = 300_000
MAX_INPUT_TOKENS: Final = 8192
_MODELS: Final = re.compile(r"text-embedding-(3-small|3-large|ada-002)")
#: Beyond this many times the limit, the beginning of a text tells whether all of it is over.
_TELLING: Final = 8


class OpenAIEmbedder(BaseEmbedder):
    """One model on one server."""

    def __init__(
        self,
        tag: str,
        recipe: Recipe,
        *,
        environ: Mapping[str, str],
        retry: Retry | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._server = Server(recipe, environ)
        # Other servers take fewer inputs, and some of them refuse a batch instead of saying how many.
        self.default_max_batch = MAX_BATCH if self._server.is_openai else 128
        super().__init__(tag, recipe, retry=retry, limiter=limiter)
        self._known_model = _MODELS.fullmatch(recipe.model) is not None
        if self._known_model:
            self.default_max_batch_tokens = MAX_BATCH_TOKENS
            self.max_input_tokens = MAX_INPUT_TOKENS
        kinds: tuple[Kind, ...] = ("document", "query")
        self._asked = {kind: openai_request.body(recipe, kind, at_openai=self._server.is_openai) for kind in kinds}

    def _request(self, texts: list[str], kind: Kind) -> Reply:
        return self._server.ask(partial(self._answered, texts, kind))

    def _answered(self, texts: list[str], kind: Kind) -> Reply:
        server, body = self._server, self._asked[kind] | {"input": texts}
        with server.http.asking(len(texts), self.recipe.dims):
            # The SDK's client without its models, which look at each text and make a Python object of each number.
            response = server.client.post("/embeddings", body=body, options=server.options, cast_to=httpx2.Response)
        answer = Answer(self.recipe, server.told, response.content, response.headers)
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
        self._server.close()


def _is_over(text: str, model: str, limit: int) -> bool:
    splitter = TextSplitter.from_tiktoken_model(model, limit, trim=False)
    beginning = text[: limit * _TELLING]
    if len(text) > len(beginning) and len(splitter.chunks(beginning)) > 1:
        return True
    return len(splitter.chunks(text)) > 1
