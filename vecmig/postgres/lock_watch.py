"""Notice that a session of this process waits for somebody else's lock, and say who holds it while it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import errors as pg
from psycopg.abc import PQGen

from vecmig.errors import VecmigError

_T = TypeVar("_T")
#: Seconds after which a statement that is not answered may be one that waits, and between two looks at it.
_PATIENCE: Final = 1.0
_TICK: Final = 0.25


class Wait(NamedTuple):
    """What a session waits for, and what to do about it."""

    what: str
    hint: str
    #: The same for as long as nobody else is waited for.
    cause: str


class Watched(psycopg.Connection[tuple[Any, ...]]):
    """Knows since when its statement is at work, and what that was last seen to wait for."""

    #: The process of the server, as it says itself: a pooler invents the number that it names.
    process: int = 0
    at_work_since: float | None = None
    waits_for: Wait | None = None

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        """Wait for the server as the driver does."""
        self.at_work_since = time.monotonic()
        try:
            return super().wait(gen, *args, **options)
        except pg.LockNotAvailable as error:
            # afterwards it cannot be told
            if self.waits_for is not None:
                error.add_note(self.waits_for.what)
                error.add_note(self.waits_for.hint)
            raise
        finally:
            self.at_work_since, self.waits_for = None, None


class LockWatch:
    """Looks from a session of its own at those which wait, and tells."""

    def __init__(
        self, look: Callable[[list[int]], dict[int, Wait]], tell: Callable[[str, str], None], *, within: float
    ) -> None:
        """Watch nothing yet.

        Args:
            look: says of each of these processes what it waits for, if it waits for a lock.
            tell: told that, and its cause, in a thread of the watch's own, for as long as it lasts.
            within: seconds after which the sessions give up by themselves.
        """
        self._look = look
        #: Told what a session waits for, and its cause.
        self.tell = tell
        self._patience = min(_PATIENCE, within / 3)
        self._sessions: WeakSet[Watched] = WeakSet()
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()

    def add(self, session: Watched) -> None:
        """Watch a session until it is closed."""
        with self._turn:
            self._sessions.add(session)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vecmig waits", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._any_left():
            time.sleep(min(_TICK, self._patience))
            waiting = {session.process: session for session in self._at_work()}
            if not waiting:
                continue
            # a server that does not answer says so to those who wait for it
            with suppress(VecmigError):
                for process, wait in self._look(list(waiting)).items():
                    waiting[process].waits_for = wait
                    self.tell(wait.what, wait.cause)
                time.sleep(self._patience)

    def _any_left(self) -> bool:
        with self._turn:
            self._sessions = WeakSet(session for session in self._sessions if not session.closed)
            if not self._sessions:
                self._thread = None
            return bool(self._sessions)

    def _at_work(self) -> Iterator[Watched]:
        with self._turn:
            sessions = list(self._sessions)
        for session in sessions:
            since = session.at_work_since
            if since is not None and time.monotonic() - since >= self._patience:
                yield session
