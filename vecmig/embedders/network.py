"""Sockets that keep a deadline: what is left of a request's time bounds each lookup, handshake, read and write.

The libraries bound the time between two bytes, so a server that sends one every half second would hold a request, and
whoever waits for it, for as long as it likes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Final

import httpcore2

#: How much is written before the deadline is looked at.
_PIECE: Final = 2**18
_SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class Deadline:
    """When a request has to be over; httpcore2 hands it down in the place of its timeouts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def __repr__(self) -> str:
        return f"<{self.seconds:g} s in all>"

    def left(self, late: type[httpcore2.TimeoutException]) -> float:
        """Return the seconds that are left.

        Raises:
            httpcore2.TimeoutException: there are none; of the class ``late``.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise late(f"The {self.seconds:g} s are over.")
        return left


class Network(httpcore2.NetworkBackend):
    """Connects within a deadline: a name that has several addresses shares what is left among them."""

    def __init__(self) -> None:
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: _SocketOptions | None = None,
    ) -> httpcore2.NetworkStream:
        """Open a connection; ``timeout`` is a Deadline."""
        assert isinstance(timeout, Deadline)
        addresses = _addresses(host, port, timeout)
        for others, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share = timeout.left(httpcore2.ConnectTimeout) / others
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                return _Stream(stream, timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if others == 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address.")

    def sleep(self, seconds: float) -> None:
        """Wait; httpcore2 does so between attempts of its own, which are off."""
        time.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every wait is bounded by the deadline of the request that uses it."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        #: Of the request that opened it; a handshake with a proxy hands none down.
        self._opened = deadline

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        deadline: Deadline = timeout or self._opened
        return self._stream.read(max_bytes, deadline.left(httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        deadline: Deadline = timeout or self._opened
        for first in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[first : first + _PIECE], deadline.left(httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None) -> _Stream:
        deadline: Deadline = timeout or self._opened
        left = deadline.left(httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _addresses(host: str, port: int, deadline: Deadline) -> list[str]:
    """Look a name up, in a thread of its own: nothing else ends a resolver that gets no answer."""
    found: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(info[4][0]) for info in infos)))
        except (OSError, UnicodeError) as error:
            found.set_exception(error)

    threading.Thread(target=look_up, name="vecmig-name", daemon=True).start()
    try:
        return found.result(deadline.left(httpcore2.ConnectTimeout))
    except NotYet:
        raise httpcore2.ConnectTimeout(f"The name {host} was not found in time.") from None
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
