"""Sessions that are used again, one after the other, for as long as a run says so."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from vecmig.postgres.session import Session

#: Seconds after which an idle session is not used again: a firewall may have forgotten it.
_LONGEST_IDLE: Final = 60.0


class KeptSessions:
    """The idle sessions of one run; each is used by one thread at a time."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._idle: list[tuple[float, Session]] = []
        self._keepers = 0
        self._current: tuple[float, set[str]] = (0.0, set())
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[type[KeptSessions], tuple[()]]:
        """Travel without sessions: another process opens its own."""
        return KeptSessions, ()

    @property
    def kept(self) -> bool:
        """Return whether sessions that are given back are kept now."""
        return self._keepers > 0

    def current_schemas(self) -> set[str]:
        """Return the schemas in which this run has seen vecmig's own tables as this program makes them.

        A session that begins later than a session may be idle looks again: somebody may have updated them meanwhile.
        """
        with self._turn:
            since, seen = self._current
            if time.monotonic() - since >= _LONGEST_IDLE:
                seen = set()
                self._current = time.monotonic(), seen
            return seen

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep inside the sessions that are given back; close them at the end."""
        with self._turn:
            self._keepers += 1
        try:
            yield
        finally:
            with self._turn:
                self._keepers -= 1
                last = not self._keepers
            if last:
                self.close()

    def take(self) -> Session | None:
        """Return the session that was given back last, if it is as it was then; None where there is none."""
        while True:
            with self._turn:
                if not self._idle:
                    return None
                since, session = self._idle.pop()
            if time.monotonic() - since < _LONGEST_IDLE and _is_quiet(session):
                return session
            _close(session)

    def give_back(self, session: Session) -> None:
        """Keep a session for the next one who needs it, or close it where none are kept."""
        with self._turn:
            kept = self._keepers > 0 and not session.closed and _is_idle(session)
            if kept:
                self._idle.append((time.monotonic(), session))
        if not kept:
            _close(session)

    def close(self) -> None:
        """Close those that are idle."""
        with self._turn:
            idle, self._idle = self._idle, []
        for _, session in idle:
            _close(session)


def _is_idle(session: Session) -> bool:
    return session.autocommit and session.info.transaction_status is TransactionStatus.IDLE


def _is_quiet(session: Session) -> bool:
    """Return whether the server has said nothing since; what it says to an idle session is that this ends."""
    try:
        readable, _, _ = select.select([session.fileno()], [], [], 0)
    except (psycopg.Error, ValueError, OSError):
        return False
    return not readable


def _close(session: Session) -> None:
    with suppress(psycopg.Error):
        session.close()
