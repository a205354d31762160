"""What the environment says about the network, as curl and Python's own libraries read it: proxies and certificates."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import re
import ssl
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore2
import httpx2

from vecmig.errors import TerminalEmbedderError

_KINDS: Final = ("http", "https", "socks5", "socks5h")
_PORT: Final = re.compile(r"(.*[^:]|\[.*\]):(\d+)")


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy that requests go through."""

    #: The variable that names it.
    variable: str
    parts: SplitResult

    @property
    def shown(self) -> str:
        """How messages name it: without user and password."""
        return f"{self.parts.scheme}://{self.parts.netloc.rpartition('@')[2]}"

    @property
    def secrets(self) -> Iterator[str]:
        """What of its address must not be shown."""
        user, password = self._user
        yield from (password, self.parts.password or "") if password else (user, self.parts.username or "")
        if user or password:
            yield base64.b64encode(f"{user}:{password}".encode()).decode()

    def opened(self, environ: Mapping[str, str]) -> httpcore2.Proxy:
        """Return it as httpcore2 wants it."""
        user, password = self._user
        host, port = (self.parts.hostname or "").encode("idna"), self.parts.port
        return httpcore2.Proxy(
            httpcore2.URL(scheme=self.parts.scheme.encode(), host=host, port=port, target=b"/"),
            auth=(user.encode(), password.encode()) if user or password else None,
            ssl_context=certificates(environ) if self.parts.scheme == "https" else None,
        )

    @property
    def _user(self) -> tuple[str, str]:
        return unquote(self.parts.username or ""), unquote(self.parts.password or "")


def find_proxy(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Find the proxy for an address; None where it is asked directly.

    Raises:
        TerminalEmbedderError: it cannot be used.
    """
    target = urlsplit(url)
    settings = _settings(environ)
    exceptions = settings.pop("no", ("", ""))[1]
    host = (target.hostname or "").rstrip(".")
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    if any(_excepts(entry, host, port) for entry in re.split(r"[\s,]+", exceptions.lower()) if entry):
        return None
    variable, written = settings.get(target.scheme) or settings.get("all") or ("", "")
    return _checked(variable, written) if written else None


def _settings(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return variable and value of the settings http, https, all and no; small letters go before capitals."""
    found: dict[str, tuple[str, str]] = {}
    for kind in ("http", "https", "all", "no"):
        # what a web server hands to a program as HTTP_PROXY is a header of its request
        capitals = [] if kind == "http" and "REQUEST_METHOD" in environ else [f"{kind.upper()}_PROXY"]
        name = next((name for name in (f"{kind}_proxy", *capitals) if name in environ), None)
        if name is not None:
            found[kind] = name, environ[name].strip()
    if not found and sys.platform in ("darwin", "win32"):
        return {kind: ("the settings of this system", value) for kind, value in urllib.request.getproxies().items()}
    return found


def _checked(variable: str, written: str) -> Proxy:
    try:
        parts = urlsplit(written if "://" in written else f"http://{written}")
        sound = bool(parts.hostname) and parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        parts, sound = urlsplit(""), False
    if not sound:
        raise TerminalEmbedderError(
            f"The proxy in {variable} is no address.", hint=f"Write it like http://proxy:3128: export {variable}=…"
        )
    proxy = Proxy(variable, parts)
    if parts.scheme not in _KINDS:
        raise TerminalEmbedderError(
            f"The proxy {proxy.shown} cannot be used: no {', '.join(_KINDS[:-1])} or {_KINDS[-1]} proxy.",
            hint=f"Check the variable {variable}",
        )
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise TerminalEmbedderError(
            f"The proxy {proxy.shown} cannot be used: the package socksio is not installed.",
            hint=f"Run: pip install socksio. Or name an http proxy in {variable}, or the server in NO_PROXY",
        )
    return proxy


def _excepts(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if (with_port := _PORT.fullmatch(entry)) and not _is_address(entry):
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    entry = entry.strip("[]")
    if _is_address(host):
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").strip(".")
    return host == name or host.endswith(f".{name}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def certificates(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return what certificates are checked against: SSL_CERT_FILE or SSL_CERT_DIR, else those of the system.

    Raises:
        TerminalEmbedderError: the file cannot be used.
    """
    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    if file is None and folder is None:
        return httpx2.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else "it holds no certificates"
        raise TerminalEmbedderError(
            f"The file that SSL_CERT_FILE names cannot be used: {reason}.",
            hint="Name a file with the certificates in PEM form: export SSL_CERT_FILE=…",
        ) from error
