"""Keep secrets out of what is shown: passwords in database URLs and connection strings, keys in servers' addresses.

What is not known to be harmless is hidden, so a name that is misspelt, escaped or new hides its value too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

_HIDDEN: Final = "***"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: Parameters of a connection whose values are shown.
_HARMLESS: Final = frozenset(
    [
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "gssencmode",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "port",
        "service",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    ]
)
#: Such a value may still hold a URL, or be a part of a password that was written without escapes.
_PLAIN_VALUE: Final = re.compile(r"(?!.*://)[\w.,:/\[\]~ -]*")
_PORTS: Final = re.compile(r"[\d,]*")
#: The rest of what follows the host where a port would, in a URL whose ``@host`` was forgotten.
_NOT_A_PORT: Final = re.compile(r"^((?:[^:\[,]*(?::\d*)?,)*[^:\[]*):(?!\d*(?:[,/]|$)).*", re.DOTALL)
_PAIR: Final = re.compile(r"\s*([A-Za-z_]+)(\s*=\s*)('(?:[^'\\]|\\.)*'(?=\s|$)|[^\s'][^\s]*|(?=\s|$))", re.DOTALL)
_SETTING: Final = re.compile(r"\s*[A-Za-z_]+\s*=")
#: An assignment in a sentence, or in what a dictionary prints, whose name hints at a secret.
_ASSIGNMENT: Final = re.compile(
    r"""([\w%.-]*(?:pass|secret|token|key|credential|pwd)[\w%.-]*(?:\s*=\s*|["']\s*:\s*))"""
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&]+)""",
    re.IGNORECASE,
)
#: Words that may hold a URL.
_SECRETIVE: Final = re.compile(r"\S*(?:://|password|pass%|@)\S*", re.IGNORECASE)
_WEB: Final = re.compile(r"(https?://)(?:[^/?#\s]*@)?([^/?#\s@]*)([/?#]\S*)?", re.IGNORECASE)
#: A word in the path of an address, or the number of a version. Keys are longer, and mix letters with digits.
_WORD: Final = re.compile(r"[A-Z]?[a-z]{1,20}|[A-Z]{1,10}|\d{1,4}|[A-Za-z]{1,12}\d{1,2}(?:[a-z]{1,5}\d?)?")
_VARIABLE: Final = re.compile(r"\$\{\w+\}")

#: A header that may carry a key, whatever its value looks like.
_KEY_HEADER: Final = re.compile(r"auth|key|token|secret|pass|credential|cookie|sign|session", re.IGNORECASE)
_LONGEST_PLAIN: Final = 64


def redact(url: str) -> str:
    """Replace what may be secret in a database URL or connection string by ``***``, however malformed it is."""
    scheme = _SCHEME.match(url)
    if not scheme and _SETTING.match(url):
        return "".join(_settings(url))
    start = scheme.end() if scheme else 0
    head, question, query = url[start:].partition("?")
    if "@" in query:
        # a password with ? in it, or a parameter with @: nothing tells which
        return f"{url[:start]}{_address(head)}?{_HIDDEN}"
    parameters = "&".join(map(_parameter, query.split("&"))) if query else ""
    return f"{url[:start]}{_address(head)}{question}{parameters}"


def origin(url: str) -> str:
    """Return of a web address what names the server: a path, a query or a user may hold a key."""
    return _WEB.sub(lambda found: f"{found[1]}{found[2]}{'/…' if (found[3] or '').strip('/') else ''}", url)


def is_keyless(url: str) -> bool:
    """Return whether a web address can hold no key: there is no user or query in it, and its path is made of words.

    ``${NAME}`` is none, because it stands for a key without being one.
    """
    try:
        parts = urlsplit(_VARIABLE.sub("", url))
    except ValueError:
        return False
    words = filter(None, re.split(r"[/._-]+", parts.path))
    return not parts.query and not parts.fragment and "@" not in parts.netloc and all(map(_WORD.fullmatch, words))


def is_keyless_header(name: str, value: str) -> bool:
    """Return whether a header holds no key as it is written: short words, versions, and ``${NAME}``.

    One whose name tells of a key must have it from a variable.
    """
    rest = _VARIABLE.sub(" ", value)
    if _KEY_HEADER.search(name) and rest == value:
        return False
    words = filter(None, re.split(r"[\s/:;,=._-]+", rest))
    return len(rest) <= _LONGEST_PLAIN and all(map(_WORD.fullmatch, words))


def address(written: str, url: str) -> str:
    """Return a web address as it may be shown: with its path only where that was written out and can hold no key.

    Args:
        written: As it stands in the recipe.
        url: The same with its variables replaced.
    """
    return url if written == url and is_keyless(url) else origin(url)


def without_passwords(text: str) -> str:
    """Make one line of a text that comes from elsewhere, with the words redacted that may hold a password."""
    line = _WEB.sub(lambda found: origin(found[0]), " ".join(text.split()))
    line = _ASSIGNMENT.sub(rf"\1{_HIDDEN}", line)
    return _SECRETIVE.sub(lambda word: word[0] if _WEB.search(word[0]) else redact(word[0]), line)


def _address(head: str) -> str:
    userinfo, at, rest = head.rpartition("@")
    host = _NOT_A_PORT.sub(rf"\1:{_HIDDEN}", rest)
    if not at:
        return host
    user, colon, _ = userinfo.partition(":")
    return f"{user}{colon and ':' + _HIDDEN}@{host}"


def _parameter(written: str) -> str:
    name, equals, value = written.partition("=")
    if not equals:
        return _HIDDEN if name else ""
    return f"{name}={_shown(unquote(name), value)}"


def _settings(text: str) -> Iterator[str]:
    """Take ``name=value`` pairs apart as libpq does; from where that fails, all is hidden."""
    at = 0
    while pair := _PAIR.match(text, at):
        name, _, value = pair.groups()
        yield f"{pair[0][: len(pair[0]) - len(value)]}{_shown(name, value)}"
        at = pair.end()
    if text[at:].strip():
        yield f"{' ' if at else ''}{_HIDDEN}"


def _shown(name: str, value: str) -> str:
    name, plain = name.strip().lower(), unquote(value).strip("'")
    harmless = name in _HARMLESS and (_PORTS if name == "port" else _PLAIN_VALUE).fullmatch(plain)
    return value if harmless else _HIDDEN
