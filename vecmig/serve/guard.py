"""Who may look: who knows the token, or else who asks under a name of this machine; and what a browser may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What every answer says. Scripts and styles come from this server alone, and are files.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Names under which this machine may be asked without a token. Any other is one that a page elsewhere had resolved to
#: it, so that a browser takes that page and this one for the same.
_OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ELSEWHERE: Final = "This page is for names of this machine, such as localhost. Behind a proxy set VECMIG_WEB_TOKEN.\n"
_COOKIE: Final = "vecmig"
#: A form with a token is no longer than this.
_LONGEST_FORM: Final = 10_000


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, inner: ASGIApp, *, token: str, ask: Callable[[bool], str]) -> None:
        """Guard an application.

        Args:
            inner: what is guarded.
            token: what has to be known; empty for whoever asks under a name of this machine.
            ask: gives the page that asks for the token; whether another one was given.
        """
        self._inner = inner
        self._token = token
        self._ask = ask
        # a cookie goes to other ports of this host, too, so it must not be the token itself
        self._cookie = hmac.new(token.encode(), b"vecmig cookie", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = await self._refusal(scope, receive)
        await (self._inner if answer is None else answer)(scope, receive, guarded)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        """Return what is answered in place of the application; None where it answers itself."""
        headers, method = Headers(scope=scope), scope["method"]
        if not self._token:
            # an IPv6 address has colons of its own
            host = headers.get("host", "")
            name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
            if name not in _OWN_NAMES:
                return PlainTextResponse(_ELSEWHERE, 403)
        elif method == "POST" and scope["path"].endswith("/token"):
            return await self._login(scope, receive)
        elif not self._knows(headers):
            return HTMLResponse(self._ask(False), 401) if not scope["path"].startswith("/static/") else None
        if method not in ("GET", "HEAD"):
            return PlainTextResponse("This page is for reading only.\n", 405, headers={"Allow": "GET, HEAD"})
        return None

    def _knows(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._cookie)

    async def _login(self, scope: Scope, receive: Receive) -> Response:
        body, more = b"", True
        while more and len(body) <= _LONGEST_FORM:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not _same(given, self._token):
            return HTMLResponse(self._ask(True), 401)
        answer = RedirectResponse(".", 303)
        answer.set_cookie(_COOKIE, self._cookie, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
        return answer


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
