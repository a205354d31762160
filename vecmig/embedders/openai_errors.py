"""What a failed request to an OpenAI-compatible server means: try again, stop, or set an input aside."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import openai

from vecmig.embedders.keys import Key
from vecmig.embedders.secrets import Secrets
from vecmig.errors import EmbedderError, PoisonInputError, TerminalEmbedderError, TransientEmbedderError

#: Codes that come as a 429 but that no waiting cures.
_NO_MONEY: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
)
#: Classes of httpx2's errors (the SDK's own choice of a library) before a request has left.
_UNSENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
_BUSY: Final = frozenset({408, 409, 425, 429})
_REFUSED_INPUT: Final = frozenset({400, 413, 422})
#: Parameters that are the recipe's doing, and codes that blame it; an input is not at fault.
_OWN_PARAMETERS: Final = frozenset({"model", "dimensions", "encoding_format"})
_OWN_CODES: Final = frozenset({"model_not_found", "invalid_model", "unsupported_parameter", "unsupported_value"})


def classified(error: openai.OpenAIError, *, service: str, secrets: Secrets, key: Key) -> EmbedderError:
    """Turn the SDK's exception into ours, by its class, status and error code.

    Args:
        error: What the SDK raised.
        service: The server as messages name it.
        secrets: What to keep out of messages.
        key: What was sent as the key.
    """
    if isinstance(error, openai.APITimeoutError):
        return _unsent_or(
            error, TransientEmbedderError(f"{service} did not answer in time.", hint="Raise timeout: in the recipe")
        )
    if isinstance(error, openai.APIStatusError):
        found = _Status(error, service, secrets, key).classified()
        found.unbilled = True
        return found
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__ or error).__name__
        return _unsent_or(
            error,
            TransientEmbedderError(f"{service} cannot be reached: {cause}.", hint="Check base_url and the network"),
        )
    return TerminalEmbedderError(f"{service}: {type(error).__name__}: {secrets.quoted(str(error))}")


def _unsent_or(error: openai.APIConnectionError, found: EmbedderError) -> EmbedderError:
    """Note whether the request was surely never sent; otherwise the provider may charge for it."""
    found.unbilled = type(error.__cause__).__name__ in _UNSENT
    return found


class _Status:
    """An answer with a status from 400."""

    def __init__(self, error: openai.APIStatusError, service: str, secrets: Secrets, key: Key) -> None:
        self._error = error
        self._service = service
        self._key = key
        self._body = error.body if isinstance(error.body, Mapping) else {}
        self._reason = _reason(error.body, secrets)

    def classified(self) -> EmbedderError:
        status = self._error.status_code
        if {self._word("code"), self._word("type")} & _NO_MONEY:
            return TerminalEmbedderError(
                self._says("has no quota left"), hint="Add credit, then run the same command: it goes on from here"
            )
        if status in _BUSY or status >= 500:
            what = "failed" if status >= 500 else "is busy"
            return TransientEmbedderError(
                self._says(what),
                retry_after=retry_after(self._error.response.headers),
                may_be_input=status >= 500,
            )
        if status in _REFUSED_INPUT and not self._blames_recipe():
            return PoisonInputError(self._says("refuses an input"))
        return TerminalEmbedderError(self._says(self._refusal(status)), hint=self._hint(status))

    def _blames_recipe(self) -> bool:
        return self._word("param") in _OWN_PARAMETERS or self._word("code") in _OWN_CODES

    def _word(self, name: str) -> str:
        """Return a field of the error, which other servers fill with numbers, lists, or nothing."""
        value = self._body.get(name)
        return value if isinstance(value, str) else ""

    def _refusal(self, status: int) -> str:
        return {
            401: "refuses the key" if self._key.sent else "wants a key",
            403: "does not let this key in",
            404: "does not know the model or the address",
        }.get(status, "refuses the request")

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return self._key.hint
        return "Check base_url and model in the recipe"

    def _says(self, what: str) -> str:
        reason = f": {self._reason.rstrip('.')}" if self._reason else ""
        return f"{self._service} {what} (HTTP {self._error.status_code}){reason}."


def _reason(body: Any, secrets: Secrets) -> str:
    """Find the sentence in an error's body; servers put it in different places."""
    while isinstance(body, Mapping | list) and body:
        if isinstance(body, list):
            body = body[0]
        else:
            body = next((body[name] for name in ("message", "error", "detail", "msg") if body.get(name)), "")
    text = secrets.quoted(body) if isinstance(body, str) else ""
    # A proxy's page of HTML explains nothing.
    return "" if text.startswith("<") else text


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
