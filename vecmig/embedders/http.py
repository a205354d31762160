"""How requests travel: with one deadline, to one origin, and back within a limit."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from typing import IO, Any, Final

import httpcore2
import httpx2

from vecmig.embedders.network import Deadline, Network

#: An error's sentence fits in a small part of it; what comes behind is not read.
MOST_OF_AN_ERROR: Final = 2**20
#: An answer may have this many bytes whatever was asked: one of wrong dims is told by its dims.
LEAST_LIMIT: Final = 2**25
#: Of one number as JSON, with white space, and of what stands around a vector: about twice what servers send.
_NUMBER: Final = 40
_AROUND: Final = 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_CONNECTIONS: Final = 1000
_IDLE_CONNECTIONS: Final = 100
_IDLE_SECONDS: Final = 5.0
#: Bytes of a file that travel in a second at least, or the transfer counts as failed.
_SLOWEST: Final = 2**16
#: What tells how a body was packed; it is unpacked when it is handed on.
_PACKING: Final = ("content-encoding", "content-length", "transfer-encoding")
_KINDS: Final[dict[type[Exception], type[httpx2.RequestError]]] = {
    getattr(httpcore2, name): getattr(httpx2, name)
    for name in (
        *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"),
        *("ConnectError", "ReadError", "WriteError", "ProxyError"),
        *("LocalProtocolError", "RemoteProtocolError", "UnsupportedProtocol"),
    )
}


class Redirected(httpx2.RequestError):
    """The server sends requests to another origin, or wants to be asked in another way; ``to`` says where."""

    def __init__(self, request: httpx2.Request, to: httpx2.URL | None) -> None:
        super().__init__("The server redirects the request.", request=request)
        self.to = to
        self.same_origin = to is not None and to.origin == request.url.origin


class Unanswered(httpx2.RequestError):
    """The connection ended before there was a beginning of an answer."""


class TooLarge(httpx2.RequestError):
    """The answer is larger than any that fits the request."""

    def __init__(self, request: httpx2.Request, limit: int) -> None:
        super().__init__("The answer is too large.", request=request)
        self.limit = limit


def answer_limit(texts: int, dims: int) -> int:
    """Return how many bytes an answer may have, unpacked."""
    return max(LEAST_LIMIT, texts * (dims * _NUMBER + _AROUND))


@dataclasses.dataclass(frozen=True, slots=True)
class _Bounds:
    """How large the answers to a thread's requests may be, how long each may take, and where they go."""

    limit: int = LEAST_LIMIT
    #: Seconds beside those of every request.
    more: float = 0.0
    #: Written to in place of the memory; None for the memory.
    file: IO[bytes] | None = None


class Client(httpx2.Client):
    """A client for the SDK whose requests end by a deadline, stay at their origin, and whose answers have a limit."""

    def __init__(self, *, seconds: float, proxy: httpcore2.Proxy | None, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(transport=_Transport(_pool(proxy, ssl_context)), timeout=seconds, trust_env=False)
        self._seconds = seconds
        self._bounds: ContextVar[_Bounds] = ContextVar("bounds", default=_Bounds())  # noqa: B039  # it is frozen
        #: Whether there was an answer of any kind: name, certificate and proxy are right.
        self.answered = False

    def __del__(self) -> None:
        # as the SDK's own client does for who forgets to close it
        with contextlib.suppress(Exception):
            self.close()

    def asking(self, texts: int, dims: int) -> contextlib.AbstractContextManager[None]:
        """Limit the answers of this thread to what that number of texts needs."""
        return self._bounded(_Bounds(answer_limit(texts, dims)))

    def uploading(self, size: int) -> contextlib.AbstractContextManager[None]:
        """Give the requests of this thread the time that so many bytes take."""
        return self._bounded(_Bounds(more=size / _SLOWEST))

    def downloading(self, texts: int, dims: int, file: IO[bytes]) -> contextlib.AbstractContextManager[None]:
        """Write the answers of this thread to a file, up to what that number of texts needs; none is returned."""
        limit = answer_limit(texts, dims)
        return self._bounded(_Bounds(limit, limit / _SLOWEST, file))

    @contextlib.contextmanager
    def _bounded(self, bounds: _Bounds) -> Iterator[None]:
        token = self._bounds.set(bounds)
        try:
            yield
        finally:
            self._bounds.reset(token)

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read its answer; a redirect is followed where nothing but the path changes."""
        options |= {"stream": True, "follow_redirects": False}
        deadline = Deadline(self._seconds + self._bounds.get().more)
        for _ in range(_MOST_REDIRECTS + 1):
            # only the first wait, for a free connection, knows nothing of deadlines
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write"), deadline) | {
                "pool": self._seconds
            }
            try:
                response = super().send(request, **options)
            except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError) as error:
                raise Unanswered(type(error).__name__, request=request) from error
            with contextlib.closing(response):
                if response.status_code != 407:
                    self.answered = True
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return self._read(response)
                target = response.next_request
            if target is None or target.url.origin != request.url.origin or target.method != request.method:
                raise Redirected(request, None if target is None else target.url)
            request = target
        raise Redirected(request, request.url)

    def _read(self, response: httpx2.Response) -> httpx2.Response:
        bounds = self._bounds.get()
        limit = bounds.limit if response.is_success else MOST_OF_AN_ERROR
        file = bounds.file if response.is_success else None
        pieces: list[bytes] = []
        size = 0
        for piece in response.iter_bytes():
            size += len(piece)
            if size > limit and response.is_success:
                raise TooLarge(response.request, limit)
            if file is None:
                pieces.append(piece)
            else:
                file.write(piece)
            if size > limit:
                break
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _PACKING]
        return httpx2.Response(
            response.status_code,
            headers=headers,
            content=b"".join(pieces)[:limit],
            request=response.request,
            extensions=response.extensions,
        )


class _Transport(httpx2.BaseTransport):
    """Hands requests to httpcore2's connections and its errors back as httpx2's."""

    def __init__(self, pool: httpcore2.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        with _translated(request):
            response = self._pool.handle_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response, request), extensions=response.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response, request: httpx2.Request) -> None:
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._request):
            yield from self._response.iter_stream()

    def close(self) -> None:
        with _translated(self._request):
            self._response.close()


@contextlib.contextmanager
def _translated(request: httpx2.Request) -> Iterator[None]:
    try:
        yield
    except tuple(_KINDS) as error:
        kind = next(_KINDS[base] for base in type(error).__mro__ if base in _KINDS)
        raise kind(str(error), request=request) from error


def _pool(proxy: httpcore2.Proxy | None, ssl_context: ssl.SSLContext | None) -> httpcore2.ConnectionPool:
    return httpcore2.ConnectionPool(
        ssl_context=ssl_context,
        proxy=proxy,
        max_connections=_CONNECTIONS,
        max_keepalive_connections=_IDLE_CONNECTIONS,
        keepalive_expiry=_IDLE_SECONDS,
        network_backend=Network(),
    )
