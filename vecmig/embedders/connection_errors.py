"""What a request that got no answer, or none that may be read, means: try again, or stop and say why."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx2
import openai

from vecmig.config import address
from vecmig.embedders.environment import Proxy
from vecmig.embedders.http import Redirected, TooLarge, Unanswered
from vecmig.errors import EmbedderError, TerminalEmbedderError, TransientEmbedderError
from vecmig.text import data_size

#: Before a request has left.
_UNSENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
#: A bad answer may be a proxy's hiccup; the same again and again is what the server does.
_ATTEMPTS: Final = 3
#: What a proxy says when it cannot reach the server for now.
_PROXY_BUSY: Final = frozenset({"429", "500", "502", "503", "504"})
#: What OpenSSL says where the other side speaks plain HTTP.
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"})
#: How a SOCKS proxy's refusal of a user begins, in httpcore2's words.
_SOCKS_USER: Final = ("Invalid username/password", "from proxy server, but got")
_E = TypeVar("_E", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests go, as messages name it."""

    #: "The provider at …"
    service: str
    host: str
    proxy: Proxy | None = None


def unreached(error: BaseException, route: Route, *, answered: bool) -> EmbedderError:
    """Say what became of a request.

    Args:
        error: What the client raised.
        route: Where the request went.
        answered: Whether an earlier one was answered. Name, certificate and proxy are right, then, and what is wrong
            with them now is an outage.
    """
    found = _refused(error, route) or _setup(error, route)
    if answered and isinstance(found, TerminalEmbedderError) and not _find(error, Redirected):
        found = TransientEmbedderError(found.message, hint=found.hint)
    found = found or _passing(error, route)
    # who ends a connection without a word has not done the work
    found.unbilled = _find(error, *_UNSENT, Redirected, Unanswered) is not None
    return found


def _refused(error: BaseException, route: Route) -> EmbedderError | None:
    """Judge an answer that came and must not be followed or read."""
    if redirected := _find(error, Redirected):
        return _redirect(redirected, route)
    if large := _find(error, TooLarge):
        return TransientEmbedderError(
            f"{route.service} gave an answer of more than {data_size(large.limit)}, "
            "which no answer to this request needs.",
            attempts=_ATTEMPTS,
            hint="Check base_url, model and dims in the recipe",
        )
    if _find(error, httpx2.DecodingError):
        return TransientEmbedderError(f"{route.service} gave an answer that cannot be unpacked.", attempts=_ATTEMPTS)
    return None


def _redirect(redirected: Redirected, route: Route) -> EmbedderError:
    to = None if redirected.to is None else str(redirected.to.copy_with(userinfo=b"", query=None, fragment=None))
    if to is None:
        return TerminalEmbedderError(
            f"{route.service} redirects requests to something that is no address.", hint="Check base_url in the recipe"
        )
    what = "in a way that would lose their texts" if redirected.same_origin else "which is another server"
    return TerminalEmbedderError(
        f"{route.service} redirects requests to {address(to, to)}, {what}; nothing was sent there.",
        hint=f"If that is the right address, write it in the recipe: base_url: {address(base := _base(to), base)}",
    )


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/embeddings")


def _setup(error: BaseException, route: Route) -> EmbedderError | None:
    """Judge what no waiting cures: a name, a certificate, a proxy that does not let requests through."""
    who, hint = _first(route)
    if refused := _find(error, httpx2.ProxyError):
        return _proxy(str(refused), route)
    if _find(error, socket.gaierror, UnicodeError):
        return TerminalEmbedderError(f"{who} cannot be reached: its name is not known.", hint=hint)
    if _find(error, httpx2.ConnectError) is None:
        return None
    if untrusted := _find(error, ssl.SSLCertVerificationError):
        return TerminalEmbedderError(
            f"{route.service} shows a certificate that cannot be verified: {untrusted.verify_message.rstrip('.')}.",
            hint="If an authority of your own has signed it, name its certificate: export SSL_CERT_FILE=…",
        )
    refused_tls = _find(error, ssl.SSLError)
    if refused_tls is None or isinstance(refused_tls, ssl.SSLEOFError):
        return None
    plain = refused_tls.reason in _NOT_TLS
    return TerminalEmbedderError(
        f"{route.service} {'does not speak TLS' if plain else f'refuses a TLS connection: {_words(refused_tls)}'}.",
        hint="If it is a server without TLS, write http:// in base_url" if plain else "Check base_url in the recipe",
    )


def _words(error: ssl.SSLError) -> str:
    return (error.reason or type(error).__name__).replace("_", " ").lower()


def _first(route: Route) -> tuple[str, str]:
    """Return whom a request goes to first, and where its address stands."""
    if route.proxy is not None:
        return f"The proxy {route.proxy.shown}", f"Check the proxy in {route.proxy.variable}, and the network"
    return route.service, "Check base_url in the recipe, and the network"


def proxy_refusal(error: openai.APIStatusError, route: Route) -> EmbedderError | None:
    """Judge a status that a proxy gives in the place of the server; None where the answer is the server's own."""
    return _proxy("407", route) if route.proxy is not None and error.status_code == 407 else None


def _proxy(said: str, route: Route) -> EmbedderError | None:
    assert route.proxy is not None
    status = said.partition(" ")[0]
    wants_user = status == "407" or any(words in said for words in _SOCKS_USER)
    if status in _PROXY_BUSY or not (status.isdecimal() or wants_user):
        return None
    if wants_user:
        known = route.proxy.parts.username is not None
        what = "refuses the user and password" if known else "wants a user and a password"
        return TerminalEmbedderError(
            f"The proxy {route.proxy.shown} {what}.",
            hint=f"Write them like http://user:password@host:port in {route.proxy.variable}",
        )
    return TerminalEmbedderError(
        f"The proxy {route.proxy.shown} does not let requests through to {route.host}: {said}.",
        hint=f"Check the proxy in {route.proxy.variable}, or name the server in NO_PROXY",
    )


def _passing(error: BaseException, route: Route) -> EmbedderError:
    if _find(error, httpx2.TimeoutException):
        return TransientEmbedderError(f"{route.service} did not answer in time.", hint="Raise timeout: in the recipe")
    kind = type(_find(error, httpx2.TransportError) or error).__name__
    if route.proxy is not None and _find(error, httpx2.ConnectError, httpx2.ProxyError):
        who, hint = _first(route)
        return TransientEmbedderError(f"{who} cannot be reached: {kind}.", hint=hint)
    return TransientEmbedderError(
        f"{route.service} cannot be reached: {kind}.",
        # a server may go down over a text, if the request has reached it
        may_be_input=_find(error, *_UNSENT) is None,
        hint="Check base_url and the network",
    )


def _find(error: BaseException, *kinds: type[_E]) -> _E | None:
    """Return the first error of these kinds among those that one was raised from."""
    return next((cause for cause in _chain(error) if isinstance(cause, kinds)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
