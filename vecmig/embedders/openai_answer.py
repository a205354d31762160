"""What an OpenAI-compatible server answered: vectors, or what it gave in their place."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import jiter
import numpy as np
import pybase64
from numpy.typing import NDArray

from vecmig.embedders.openai_errors import MALFORMED_ATTEMPTS, Told, failure_in
from vecmig.embedders.verifying import wrong_dims
from vecmig.errors import TerminalEmbedderError, TransientEmbedderError
from vecmig.model.recipe import Recipe

#: A web page is a proxy's while the server behind it restarts, or what a wrong address gives.
_HTML_ATTEMPTS: Final = 6
_ONE_BYTE_EACH: Final = "Write encoding_format: float in the recipe: this server's base64 is broken"
#: No request has as many tokens as this, whatever an answer says.
_MOST_TOKENS: Final = 2**40


class Answer:
    """Reads the body of an answer and trusts none of it."""

    def __init__(self, recipe: Recipe, told: Told, body: object, headers: Mapping[str, str]) -> None:
        """Read a body, be it bytes or what was read from them."""
        self._recipe = recipe
        self._told = told
        self._headers = headers
        self._answer: Any = self._json(body) if isinstance(body, bytes) else body

    @property
    def tokens(self) -> int | None:
        """The tokens that the server charges for, where it says so."""
        usage = self._answer.get("usage") if isinstance(self._answer, dict) else None
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        # servers that do not count say 0
        return total if _is_whole(total) and 0 < total < _MOST_TOKENS else None

    def vectors(self, count: int) -> tuple[NDArray[Any], dict[int, str]]:
        """Return the vectors of ``count`` texts, and the rows that have none with what they have instead."""
        embeddings: list[Any] = [row.get("embedding") for row in self._rows(count)]
        if set(map(type, embeddings)) == {str} and (vectors := self._all_decoded(embeddings)) is not None:
            return vectors, {}
        found: list[NDArray[Any]] = []
        refused: dict[int, str] = {}
        failure: TerminalEmbedderError | None = None
        for row, embedding in enumerate(embeddings):
            if embedding is None or (isinstance(embedding, str | list | dict) and not embedding):
                refused[row] = f"{self._told.service} gave no embedding for it."
            else:
                try:
                    found.append(self._vector(embedding))
                    continue
                except TerminalEmbedderError as error:
                    failure, refused[row] = error, error.message
            found.append(np.full(self._recipe.dims, np.nan, dtype=np.float32))
        if failure is not None and len(refused) == count:
            raise failure
        return np.stack(found), refused

    def _json(self, body: bytes) -> Any:
        try:
            return jiter.from_json(body)
        except ValueError as error:
            html = body.lstrip()[:1] == b"<"
            what = "answered with a web page instead of JSON" if html else "answered with JSON that breaks off"
            raise TransientEmbedderError(
                f"{self._told.service} {what}.",
                attempts=_HTML_ATTEMPTS if html else None,
                may_be_input=True,
                hint="Check base_url: many servers want /v1 at its end" if html else "",
            ) from error

    def _rows(self, count: int) -> list[Mapping[str, Any]]:
        answer = self._answer
        rows: Any = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or set(map(type, rows)) - {dict} or (not rows and answer.get("error")):
            raise failure_in(answer, self._headers, self._told)
        if [row.get("index") for row in rows] == list(range(count)):
            return rows
        by_place = {
            row.get("index", place): row for place, row in enumerate(rows) if _is_whole(row.get("index", place))
        }
        if len(rows) != count or by_place.keys() != set(range(count)):
            raise TransientEmbedderError(
                f"{self._told.service} gave {len(rows)} embeddings for {count} texts, or did not number them from 0.",
                attempts=MALFORMED_ATTEMPTS,
                may_be_input=True,
                hint="Lower max_batch in the recipe if the server takes fewer inputs",
            )
        return [by_place[place] for place in range(count)]

    def _all_decoded(self, embeddings: list[str]) -> NDArray[Any] | None:
        """Decode vectors of the right size at once; None where one of them is anything else."""
        try:
            decoded = [pybase64.b64decode(embedding, validate=True) for embedding in embeddings]
        except (ValueError, binascii.Error):
            return None
        if set(map(len, decoded)) != {4 * self._recipe.dims}:
            return None
        return np.frombuffer(b"".join(decoded), dtype="<f4").reshape(len(embeddings), -1)

    def _vector(self, embedding: Any) -> NDArray[Any]:
        """Read one vector.

        Raises:
            TerminalEmbedderError: it is none, or not of the recipe's size.
        """
        try:
            if isinstance(embedding, str):
                return self._decoded(pybase64.b64decode(embedding, validate=True))
            vector = np.array(embedding, dtype=np.float64)
        except (TypeError, ValueError, OverflowError, binascii.Error) as error:
            raise self._no_numbers() from error
        if vector.ndim != 1:
            raise self._no_numbers()
        if vector.size != self._recipe.dims:
            raise wrong_dims(self._recipe, vector.size)
        return vector

    def _decoded(self, decoded: bytes) -> NDArray[Any]:
        if len(decoded) != 4 * self._recipe.dims:
            # Some servers wrongly encode one byte for each number, which is then read as a quarter of the numbers.
            hint = _ONE_BYTE_EACH if len(decoded) == self._recipe.dims else ""
            raise wrong_dims(self._recipe, len(decoded) // 4, hint)
        return np.frombuffer(decoded, dtype="<f4")

    def _no_numbers(self) -> TerminalEmbedderError:
        what = f"{self._told.service} gave an embedding that is neither numbers nor base64."
        return TerminalEmbedderError(what, of_request=what, hint="Try encoding_format: float in the recipe")


def _is_whole(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
