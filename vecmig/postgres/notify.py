"""Hear what the server announces."""

from __future__ import annotations

import selectors
import socket

from psycopg import sql

from vecmig.postgres.sessions import Connection


class Wakeup:
    """Wakes one waiting thread, from another."""

    def __init__(self) -> None:
        self._rope, self._bell = socket.socketpair()
        self._bell.setblocking(False)

    def ring(self) -> None:
        """Wake it, now or the next time it waits."""
        self._rope.send(b"!")

    def wait(self, seconds: float, connection: Connection | None = None) -> None:
        """Wait until it rings, or the server says something on the connection, or that many seconds have passed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), selectors.EVENT_READ)
            ready = selector.select(seconds)
        if any(key.fileobj is self._bell for key, _ in ready):
            self._bell.recv(4096)

    def close(self) -> None:
        """Let go of its sockets."""
        self._rope.close()
        self._bell.close()


def listen(connection: Connection, channel: str) -> bool:
    """Ask the server for the announcements on a channel; False where they would not come.

    A pooler may give to another client what this one's session listens to, and a hot standby announces nothing.
    """
    pid, standby = connection.execute(
        "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery()"
    ).fetchone() or (0, True)
    if standby or pid != connection.info.backend_pid:
        return False
    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    return True


def announced(connection: Connection) -> bool:
    """Say whether something was announced since this was asked last; never waits."""
    return bool(list(connection.notifies(timeout=0)))
