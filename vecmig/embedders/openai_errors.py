"""What a failed request to an OpenAI-compatible server means: try again, stop, or set an input aside."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import openai

from vecmig.embedders.keys import Key
from vecmig.embedders.limits import named_limits
from vecmig.embedders.secrets import Secrets
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError, TransientEmbedderError

#: Codes that come as a 429 but that no waiting cures.
_NO_MONEY: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)
_BUSY: Final = frozenset({408, 409, 425, 429})
_REFUSED_INPUT: Final = frozenset({400, 413, 422})
#: Parameters that are the recipe's doing, and codes that blame it; an input is not at fault.
_OWN_PARAMETERS: Final = frozenset({"model", "dimensions", "encoding_format"})
_OWN_CODES: Final = frozenset({"model_not_found", "invalid_model", "unsupported_parameter", "unsupported_value"})
#: With 424, text-embeddings-inference says that its model failed, be it for one text.
_FAILED: Final = frozenset({424, *range(500, 600)})
#: What a gateway says of an account without credit, and none but the account is to blame for.
_PAYMENT: Final = 402
#: Words in place of a status, in the body of an error.
_STATUS_OF: Final[Mapping[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "RESOURCE_EXHAUSTED": 429,
    "overloaded_error": 503,
    "server_error": 500,
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
    "INVALID_ARGUMENT": 400,
    "invalid_request_error": 400,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "invalid_api_key": 401,
    **dict.fromkeys(_NO_MONEY, _PAYMENT),
}
_CODE: Final = re.compile(r"\d{3}|\d{5}")
_BUSY_WORDS: Final = re.compile(
    r"\b(?:busy|overloaded|try (?:again )?later|rate limit|too many requests)\b", re.IGNORECASE
)
#: An answer that makes no sense may be a proxy's hiccup; the same again and again is what the server does.
MALFORMED_ATTEMPTS: Final = 3
#: An input or a request that is refused because of its size, which no waiting cures: llama.cpp says so with 500.
_TOO_LARGE: Final = re.compile(
    r"\b(?:input|request|prompt|text|batch|payload|entity)\b[^.;]{0,40}\b(?:is |are )?too (?:large|long|big)\b"
    r"|\btoo many (?:input )?(?:tokens|inputs)\b|\bexceeds? (?:the |its )?(?:\w+ ){0,3}(?:context|input|sequence)\b",
    re.IGNORECASE,
)
#: With 429, OpenAI says so of a request that is above the limit of tokens a minute by itself.
_REQUEST_TOO_LARGE: Final = re.compile(r"\brequest too large\b", re.IGNORECASE)
_PAGE: Final = re.compile(r"<(?:!doctype|\?xml|html|head|body|title)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Told:
    """What error texts say of a server, and what they must not say."""

    #: The server as messages name it.
    service: str
    #: What to keep out of messages.
    secrets: Secrets
    #: What was sent as the key.
    key: Key
    #: The field of the recipe by which the server knows the model.
    model_field: str = "model"

    @property
    def recipe_hint(self) -> str:
        """What to look at when the server knows neither address nor model."""
        return f"Check base_url and {self.model_field} in the recipe"


def classified(error: openai.OpenAIError, told: Told) -> EmbedderError:
    """Turn the SDK's exception about an answer into ours, by its class, status and error code."""
    if isinstance(error, openai.APIStatusError):
        return _Status(error.status_code, error.body, error.response.headers, told).classified()
    return TerminalEmbedderError(f"{told.service}: {type(error).__name__}: {told.secrets.quoted(str(error))}")


def failure_in(answer: object, headers: Mapping[str, str], told: Told) -> EmbedderError:
    """Say what an answer with status 200 and without embeddings means: some gateways put the error into it."""
    error = (answer.get("error") if isinstance(answer, Mapping) else None) or answer
    status = _status_in(error) or _status_in(answer)
    if status is not None:
        return _Status(status, error, headers, told).classified()
    reason = _reason(error, told.secrets).rstrip(".")
    busy = _BUSY_WORDS.search(reason) is not None
    return TransientEmbedderError(
        f"{told.service} gave an answer without embeddings{f': {reason}' if reason else ''}.",
        attempts=None if busy else MALFORMED_ATTEMPTS,
        may_be_input=not busy,
        hint="" if busy else told.recipe_hint,
    )


def refusal_in(status: int, body: object, told: Told) -> EmbedderError:
    """Say what a line of a batch means whose status is not 200."""
    error = body.get("error") if isinstance(body, Mapping) else None
    return _Status(status, error or body, {}, told).classified()


def _status_in(error: object) -> int | None:
    """Find the HTTP status that an error's body names."""
    if not isinstance(error, Mapping):
        return None
    for name in ("code", "status", "status_code", "type"):
        value = error.get(name)
        if isinstance(value, str) and value in _STATUS_OF:
            return _STATUS_OF[value]
        number = int(value) if isinstance(value, str) and _CODE.fullmatch(value) else value
        if isinstance(number, int) and not isinstance(number, bool):
            # FastChat's have two digits more
            number = number // 100 if 40_000 <= number < 60_000 else number
            if 400 <= number < 600:
                return number
    return None


class _Status:
    """An answer with a status from 400, be it that of HTTP or one in its body."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str], told: Told) -> None:
        self._status = status
        self._headers = headers
        self._told = told
        self._body = body if isinstance(body, Mapping) else {}
        self.reason = _reason(body, told.secrets).rstrip(".")

    def classified(self) -> EmbedderError:
        """Return what it means; nothing is charged for it."""
        found = self._classified()
        found.unbilled = True
        return found

    def _classified(self) -> EmbedderError:
        if self._status == _PAYMENT or {self._word("code"), self._word("type")} & _NO_MONEY:
            return TerminalEmbedderError(
                self._says("has no quota left"), hint="Add credit, then run the same command: it goes on from here"
            )
        if self._is_about_input():
            limits = named_limits(self.reason)
            return PoisonInputError(
                self._says("refuses an input"),
                most_texts=limits.texts,
                most_tokens=limits.tokens,
                of_every=self._says("refuses every input"),
            )
        if self._status in _BUSY or self._status in _FAILED:
            return TransientEmbedderError(
                self._says("is busy" if self._status in _BUSY else "failed"),
                retry_after=retry_after(self._headers),
                may_be_input=self._status not in _BUSY,
            )
        return TerminalEmbedderError(
            self._says(self._refusal()), of_request=self._says("refuses an input"), hint=self._hint()
        )

    def _is_about_input(self) -> bool:
        if self._status in _BUSY:
            return _REQUEST_TOO_LARGE.search(self.reason) is not None
        if self._status in _FAILED:
            return _TOO_LARGE.search(self.reason) is not None
        return self._status in _REFUSED_INPUT and not self._blames_recipe()

    def _blames_recipe(self) -> bool:
        return self._word("param") in _OWN_PARAMETERS or self._word("code") in _OWN_CODES

    def _word(self, name: str) -> str:
        """Return a field of the error, which other servers fill with numbers, lists, or nothing."""
        value = self._body.get(name)
        return value if isinstance(value, str) else ""

    def _refusal(self) -> str:
        return {
            401: "refuses the key" if self._told.key.sent else "wants a key",
            403: "does not let this key in",
            404: "does not know the model or the address",
        }.get(self._status, "refuses the request")

    def _hint(self) -> str:
        if self._status in (401, 403):
            return self._told.key.hint
        return self._told.recipe_hint

    def _says(self, what: str) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{self._told.service} {what} (HTTP {self._status}){reason}."


def _reason(body: Any, secrets: Secrets) -> str:
    """Find the sentence in an error's body; servers put it in different places."""
    while isinstance(body, Mapping | list) and body:
        if isinstance(body, list):
            body = body[0]
        else:
            body = next((body[name] for name in ("message", "error", "detail", "msg") if body.get(name)), "")
    text = secrets.quoted(body) if isinstance(body, str) else ""
    # A proxy's page of HTML explains nothing.
    return "" if _PAGE.match(text) else text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds the server asks to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None or (seconds := _number(text)) is not None:
        return None if text is None else seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None
