"""Read from an answer's headers how long the next request has to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_DURATION: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(ms|h|m|s)", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,18}(\.\d{1,18})?", re.ASCII)
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def wait_by_headers(headers: Mapping[str, str], tokens: int) -> float:
    """Return the seconds until a request like this one fits again, by OpenAI's ``x-ratelimit-…`` headers.

    ``reset`` tells when a limit is full again, and it fills evenly until then.

    Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
    """
    return max(_refill(headers, "requests", 1), _refill(headers, "tokens", max(tokens, 1)))


def _refill(headers: Mapping[str, str], what: str, needed: int) -> float:
    limit, left = (_whole(headers.get(f"x-ratelimit-{name}-{what}")) for name in ("limit", "remaining"))
    if left is None or left >= needed:
        return 0.0
    whole = _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
    gone = (limit or 0) - left
    return whole * min(1.0, (needed - left) / gone) if gone > 0 else whole


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\s*\d{1,18}\s*", text, re.ASCII) else None


def _seconds(text: str) -> float:
    """Read a duration such as 6m0s, 1.5s or 12ms, or a number of seconds; one that is none of these is 0."""
    if _NUMBER.fullmatch(text.strip()):
        return float(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
