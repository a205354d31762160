"""What one embedder knows and must not show: its key, what variables put into its address, a proxy's password.

Servers, gateways and proxies repeat what they were sent: complete, cut, with the middle masked, encoded. So a text from
outside is first redacted and only then cut; what is left of a secret after a cut would no longer be recognised.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Final, TypeVar
from urllib.parse import quote, quote_plus
from weakref import WeakSet

from vecmig.errors import VecmigError

HIDDEN: Final = "***"
#: Whatever has this many characters in a row in common with a secret is taken for a part of it.
RUN: Final = 12
#: This many characters of a secret, beside a mask, show that the mask stands for the rest. A secret with fewer is one
#: only where it stands alone: it would take every text apart.
_TELLING: Final = 4
_MASK: Final = re.compile(r"\*{3,}|\.{3,}|…+|•{3,}|[xX]{4,}|#{3,}")
_KEY_LIKE: Final = re.compile(r"\b(sk|pk|key)-[\w*.-]{4,}")
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
#: Cannot be stored, moves a terminal's cursor, or hides in the middle of a secret.
#: What is not seen may stand within a secret, and is taken out before that is looked for.
_INVISIBLE: Final = re.compile(r"[\x00\xad\u200b-\u200f\u2060-\u2064\ufeff]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")
_SECRETIVE: Final = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_LIBRARIES: Final = ("openai", "httpx2", "httpcore2")
#: Those of httpcore2 are made when they are first needed.
_LOGGERS: Final = (*_LIBRARIES, *(f"httpcore2.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")))
_LONGEST_CAUSE: Final = 2000
_E = TypeVar("_E", bound=VecmigError)


class Secrets:
    """All secrets of one embedder, and how they are kept out of texts, errors and logs."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        #: In lower case, of ASCII letters only: servers write %2f for %2F and BEARER for Bearer.
        self._runs: set[str] = set()
        #: What, beside a mask, shows that the mask stands for the rest of a secret.
        self._pieces: set[str] = set()
        short: set[str] = set()
        for value in filter(None, map(str.strip, values)):
            for form in _forms(value):
                if len(form) < RUN:
                    short.add(form)
                self._runs.update(_parts(_lower(form), RUN))
                self._pieces.update(_parts(_lower(form), _TELLING))
        longest_first = sorted(short, key=lambda form: (-len(form), form))
        self._short = re.compile("|".join(map(_alone, longest_first))) if short else None

    def redact(self, text: str) -> str:
        """Replace by ``***`` each secret, each run of 12 characters that is in one, and what looks like a key."""
        text = self._without_runs(self._without_masked(text)) if self._pieces else text
        if self._short is not None:
            text = self._short.sub(HIDDEN, text)
        return _KEY_LIKE.sub(HIDDEN, text)

    def quoted(self, text: str, most: int = 300) -> str:
        """Make a line of at most ``most`` characters, redacted before it is cut, of what a server says."""
        # half a character, where a server has cut what it quotes, cannot be stored
        whole = " ".join(_CONTROLS.sub(" ", _INVISIBLE.sub("", text)).split()).encode("utf-8", "replace").decode()
        return self.redact(whole)[:most]

    def cleanse(self, error: _E, seen: AbstractSet[int] = frozenset()) -> _E:
        """Redact an error and all that it was raised from, which a traceback would show; return the error."""
        if id(error) in seen:
            return error
        for name in ("message", "state", "hint", "of_request", "of_every"):
            if hasattr(error, name):
                setattr(error, name, self.redact(getattr(error, name)))
        error.args = (error.message,)
        cause = error.__cause__ or error.__context__
        error.__cause__ = None if cause is None else self._told(cause, seen | {id(error)})
        error.__context__ = None
        return error

    def _told(self, error: BaseException, seen: AbstractSet[int]) -> BaseException:
        """Retell an error of other libraries, which hold answers, addresses and headers, in a redacted text."""
        if isinstance(error, VecmigError):
            return self.cleanse(error, seen)
        cause = error.__cause__ or error.__context__
        told = Retold(f"{type(error).__name__}: {self.quoted(str(error), _LONGEST_CAUSE)}", error.__traceback__)
        if cause is not None and id(cause) not in seen:
            told.__cause__ = self._told(cause, seen | {id(error)})
        return told

    def watch_logs(self) -> None:
        """Redact what the libraries below log, as long as this object lives: addresses, headers of answers, errors."""
        _WATCHED.add(self)
        for name in [*_LOGGERS, *logging.Logger.manager.loggerDict]:
            if name.split(".")[0] in _LIBRARIES:
                logging.getLogger(name).addFilter(_FILTER)

    def _without_runs(self, text: str) -> str:
        folded, runs = _lower(text), self._runs
        hits = [at for at in range(len(folded) - RUN + 1) if folded[at : at + RUN] in runs] if runs else []
        pieces: list[str] = []
        end = 0
        for at in hits:
            if at > end or not pieces:
                pieces += [text[end:at], HIDDEN]
            end = at + RUN
        return "".join([*pieces, text[end:]])

    def _without_masked(self, text: str) -> str:
        """Hide the ends that a server has left of a key whose middle it has masked."""
        folded = _lower(text)
        pieces: list[str] = []
        end = 0
        for mask in _MASK.finditer(text):
            first, last = self._around(folded, *mask.span())
            if (first, last) != mask.span() and first >= end:
                pieces += [text[end:first], HIDDEN]
                end = last
        return "".join([*pieces, text[end:]])

    def _around(self, folded: str, first: int, last: int) -> tuple[int, int]:
        """Widen a mask by what stands beside it and is also in a secret."""
        if folded[max(0, first - _TELLING) : first] in self._pieces:
            first -= _TELLING
            while first and folded[first - 1 : first - 1 + _TELLING] in self._pieces:
                first -= 1
        if folded[last : last + _TELLING] in self._pieces:
            last += _TELLING
            while folded[last + 1 - _TELLING : last + 1] in self._pieces:
                last += 1
        return first, last


def environment_secrets(environ: Mapping[str, str]) -> Secrets:
    """Return what the environment holds under a name that tells of a secret, for code that may use any of it."""
    named = (value for name, value in environ.items() if _SECRETIVE.search(name))
    return Secrets(value for value in named if len(value) >= RUN and not value.startswith(("/", ".")))


class Retold(Exception):
    """An error of a library below, told without secrets."""

    def __init__(self, text: str, traceback: TracebackType | None = None) -> None:
        super().__init__(text)
        self.__traceback__ = traceback


class _Redacting(logging.Filter):
    """Redacts a record with the secrets of every embedder that is alive."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not _WATCHED:
            return True
        record.msg, record.args = _redacted(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = _redacted(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


_WATCHED: Final[WeakSet[Secrets]] = WeakSet()
_FILTER: Final = _Redacting()


def _redacted(text: str) -> str:
    for secrets in list(_WATCHED):
        text = secrets.redact(text)
    return text


def _lower(text: str) -> str:
    return text.translate(_LOWER)


def _parts(form: str, size: int) -> Iterator[str]:
    return (form[at : at + size] for at in range(len(form) - size + 1))


def _alone(form: str) -> str:
    return re.escape(form) if len(form) >= _TELLING else rf"(?<!\w){re.escape(form)}(?!\w)"


def _forms(value: str) -> set[str]:
    """Return a secret as servers, proxies and libraries write it."""
    spoken = {value, " ".join(value.split()), repr(value)[1:-1]}
    for safe in ("", "/", "!~*'()"):
        spoken |= {quote(value, safe=safe), quote_plus(value, safe=safe), quote(quote(value, safe=safe), safe="")}
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        spoken |= {once, once.replace("/", "\\/"), json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    spoken |= {html.escape(value), html.escape(value).replace("&#x27;", "&#39;")}
    data = value.encode("utf-8", "surrogatepass")
    return {*spoken, data.hex(), *_base64(data)}


def _base64(data: bytes) -> Iterator[str]:
    """Yield what base64 makes of a secret, also where it stands behind something else, as in ``user:password``."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode().rstrip("=")
        for before in range(3):
            # the first characters also depend on what stands before, the last one on what comes behind
            first, whole = -(-8 * before // 6), 8 * (before + len(data)) // 6
            inner = encode(b"\0" * before + data).decode()[first:whole]
            if len(inner) >= 8:
                yield inner
