"""Servers that take exactly what a provider's documentation says, and refuse everything else with a reason.

Their vectors are bags of words, so that a text finds itself whatever prompt stands before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

#: What every key in these tests is.
KEY: Final = "a-key-of-these-tests-0123456789"


@dataclass(frozen=True, slots=True)
class Demands:
    """What one provider takes."""

    path: str
    model: str
    #: Of the vectors, unless the field ``dims_field`` asks for others.
    dims: int
    max_inputs: int = 2048
    dims_field: str | None = None
    #: The one header that carries the key, and how; None for a server without keys.
    key_header: str | None = "authorization"
    key_value: str = f"Bearer {KEY}"
    formats: frozenset[str] = frozenset({"float", "base64"})
    #: Other fields of the body that are taken: their values for a record and for a query.
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    #: What a text must begin with: a record's, a query's.
    prompts: tuple[str, str] = ("", "")

    def refusal(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, str] | None:
        """Say with which status and why a request is refused; None where it is taken."""
        if path != self.path:
            return 404, f"no such address: {path}"
        if self.key_header is not None and headers.get(self.key_header) != self.key_value:
            return 401, f"{self.key_header} is missing or wrong"
        if {"authorization", "api-key", "x-api-key"} - {self.key_header} & set(headers):
            return 401, "a second key"
        if body.get("model") != self.model:
            return 404, f"no such model: {body.get('model')}"
        if len(body["input"]) > self.max_inputs:
            return 400, f"batch size {len(body['input'])} > maximum allowed batch size {self.max_inputs}"
        return self._wrong_body(body)

    def _wrong_body(self, body: Mapping[str, Any]) -> tuple[int, str] | None:
        if body.get("encoding_format", "float") not in self.formats:
            return 400, f"encoding_format {body['encoding_format']!r} is not one of {sorted(self.formats)}"
        taken = {"input", "model", "encoding_format", self.dims_field, *self.fields}
        if unknown := set(body) - taken:
            return 400, f"unknown fields: {sorted(unknown)}"
        for kind, prompt in enumerate(self.prompts):
            fits = all(text.startswith(prompt) for text in body["input"])
            if fits and all(body.get(name) == values[kind] for name, values in self.fields.items()):
                return None
        return 400, "neither a record nor a query: the prompt or a field is wrong"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listening

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Say nothing."""

    def do_POST(self) -> None:
        """Embed, or refuse."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        refused = self.server.demands.refusal(self.path, headers, body)
        self.server.answered.append(200 if refused is None else refused[0])
        answer = {"error": {"message": refused[1]}} if refused else self._answer(body)
        data = json.dumps(answer).encode()
        self.send_response(refused[0] if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        demands = self.server.demands
        dims = body.get(demands.dims_field or "", demands.dims)
        as_base64 = body.get("encoding_format") == "base64"
        data = [
            {"index": index, "embedding": _encoded(_bag(text, dims), as_base64)}
            for index, text in enumerate(body["input"])
        ]
        return {"data": data, "model": body["model"], "usage": {"total_tokens": len(data)}}


def _bag(text: str, dims: int) -> NDArray[np.float32]:
    values = np.full(dims, 0.01, dtype=np.float32)
    for word in text.lower().split():
        values[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") % dims] += 1
    return values


def _encoded(values: NDArray[np.float32], as_base64: bool) -> Any:
    return base64.b64encode(values.astype("<f4").tobytes()).decode() if as_base64 else values.tolist()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    demands: Demands
    answered: list[int]


#: Seconds between two looks at whether it is to end.
_TICK: Final = 0.01


class Demanding:
    """One such server, in a thread of the test; use it with ``with``."""

    def __init__(self, demands: Demands) -> None:
        self._server = _Listening(("127.0.0.1", 0), _Handler)
        self._server.demands = demands
        self._server.answered = []
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_TICK,), daemon=True)

    @property
    def root(self) -> str:
        """Its address without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def answered(self) -> list[int]:
        """The status of each answer so far."""
        return list(self._server.answered)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_NOMIC: Final = ("search_document: ", "search_query: ")
_INSTRUCTION: Final = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
#: By the sections of docs/providers.md.
PROVIDERS: Final[Mapping[str, Demands]] = {
    "OpenAI": Demands(
        "/v1/embeddings", "text-embedding-3-small", 1536, dims_field="dimensions", fields={"dimensions": (1536, 1536)}
    ),
    "Azure OpenAI": Demands(
        "/openai/v1/embeddings",
        "DEPLOYMENT",
        1536,
        key_header="api-key",
        key_value=KEY,
        fields={"dimensions": (1536, 1536)},
    ),
    "Gemini": Demands(
        "/v1beta/openai/embeddings", "gemini-embedding-001", 3072, max_inputs=100, dims_field="dimensions"
    ),
    "Voyage": Demands(
        "/v1/embeddings",
        "voyage-3.5",
        512,
        max_inputs=1000,
        dims_field="output_dimension",
        formats=frozenset({"base64"}),
        fields={"input_type": ("document", "query"), "truncation": (False, False)},
    ),
    "Cohere": Demands("/compatibility/v1/embeddings", "embed-v4.0", 1536, max_inputs=96),
    "DashScope": Demands(
        "/compatible-mode/v1/embeddings",
        "text-embedding-v4",
        512,
        max_inputs=10,
        dims_field="dimensions",
        formats=frozenset({"float"}),
    ),
    "Ollama": Demands("/v1/embeddings", "nomic-embed-text:v1.5", 768, key_header=None, prompts=_NOMIC),
    "text-embeddings-inference": Demands(
        "/v1/embeddings",
        "intfloat/multilingual-e5-large",
        1024,
        max_inputs=32,
        key_header=None,
        prompts=("passage: ", "query: "),
    ),
    "vLLM": Demands("/v1/embeddings", "Qwen/Qwen3-Embedding-0.6B", 1024, key_header=None, prompts=("", _INSTRUCTION)),
    "llama.cpp": Demands("/v1/embeddings", "nomic-embed-text-v1.5", 768, key_header=None, prompts=_NOMIC),
    "LiteLLM": Demands(
        "/v1/embeddings",
        "search-embeddings",
        1536,
        max_inputs=96,
        dims_field="dimensions",
        fields={"input_type": ("search_document", "search_query")},
    ),
}
