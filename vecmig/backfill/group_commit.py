"""Write what was embedded: a few connections, and one transaction for all answers that wait when one is free."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from vecmig.backfill.embed import Answer
from vecmig.freshness.stamps import Stamps
from vecmig.homes import home_over, prepare_to_write, reject_records
from vecmig.model.collection import Storage
from vecmig.postgres.reconnecting import ReconnectingSession
from vecmig.postgres.sessions import Connection

#: While the server works on one statement, others are laid out and sent. Each costs the server a process.
COUNT: Final = 4
#: Most bytes of vectors in one statement: it is held several times over while it is sent.
_STATEMENT_BYTES: Final = 6 * 2**20
_STATEMENT_RECORDS: Final = 2_000


@dataclass(slots=True)
class _Waiting:
    """An answer that waits to be written, and what became of it."""

    answer: Answer
    #: Told when it is written, or when its turn to lead has come.
    changed: threading.Condition
    done: bool = False
    written: int = 0
    failure: BaseException | None = None


class GroupCommit:
    """A context with up to COUNT connections; any thread may write, each connection serves one at a time.

    Whoever finds a connection free writes for all who wait, so that small answers do not cost a statement each.
    """

    def __init__(
        self, stamps: Stamps, open_session: Callable[[Callable[[Connection], None]], ReconnectingSession]
    ) -> None:
        self._stamps = stamps
        #: Rows in one statement.
        self._room = max(1, min(_STATEMENT_RECORDS, _STATEMENT_BYTES // (4 * stamps.dims)))
        self._open_session = open_session
        self._free: list[ReconnectingSession] = []
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for _ in range(COUNT):
                # each connects when it is first needed
                session = self._open_session(prepare_to_write)
                opening.push(session)
                self._free.append(session)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def storage(self) -> Storage:
        """The type that the vectors are stored as."""
        return self._stamps.source.collection.storage

    def write(self, answer: Answer) -> int:
        """Write one batch, rejected records included; return when it is committed.

        Returns:
            How many records got their vectors. Where several answers are written at once, the sum over all of them is
            right, and the share of each is not told apart.
        """
        waiting = _Waiting(answer, threading.Condition(self._turn))
        with self._turn:
            self._waiting.append(waiting)
            while not waiting.done:
                if self._free and self._waiting:
                    self._lead()
                else:
                    waiting.changed.wait()
        if waiting.failure is not None:
            raise waiting.failure
        return waiting.written

    def _lead(self) -> None:
        """Write for those who wait, with the turn let go meanwhile."""
        session, group = self._free.pop(), self._take()
        self._turn.release()
        try:
            self._write(session, group)
        finally:
            self._turn.acquire()
            for waiting in group:
                waiting.done = True
                waiting.changed.notify()
            self._free.append(session)
            if self._waiting:
                self._waiting[0].changed.notify()

    def _take(self) -> list[_Waiting]:
        """Take the answers that waited longest, as many as make one statement; at least one."""
        taken: list[_Waiting] = []
        rows = 0
        while self._waiting:
            rows += self._waiting[0].answer.chunks
            if taken and rows > self._room:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _write(self, session: ReconnectingSession, group: list[_Waiting]) -> None:
        embedded = [record for waiting in group for record in waiting.answer.embedded]
        rejected = [record for waiting in group for record in waiting.answer.rejected]

        def work(connection: Connection) -> int:
            written = home_over(connection, self._stamps).write(embedded) if embedded else 0
            if rejected:
                reject_records(connection, self._stamps, rejected)
            return written

        try:
            group[0].written = session.run(work)
        except BaseException as error:  # noqa: BLE001  # handed to each of those who wait for it
            for waiting in group:
                waiting.failure = error
