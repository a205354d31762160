"""The connections that write what was embedded: a few, so that the database's own work is done side by side."""

from __future__ import annotations

from contextlib import ExitStack
from queue import Queue
from typing import Final, Self

from vecmig.backfill.embed import Answer
from vecmig.config import Storage
from vecmig.store.connect import Connection, Database
from vecmig.store.vectors import Space, prepare_to_write, reject_records, write_records

#: With two, one statement is laid out and sent while the server works on the other.
COUNT: Final = 2


class Writers:
    """A context with COUNT open connections; any thread may write, each connection serves one at a time."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._space = space
        self._free: Queue[Connection] = Queue()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for _ in range(COUNT):
                connection = opening.enter_context(self._database.session())
                prepare_to_write(connection, self._space.source)
                self._free.put(connection)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def storage(self) -> Storage:
        """The type that the vectors are stored as."""
        return self._space.source.collection.storage

    def write(self, answer: Answer) -> int:
        """Write one batch, rejected records included; give how many records got their vectors."""
        connection = self._free.get()
        try:
            written = write_records(connection, self._space, answer.embedded) if answer.embedded else 0
            if answer.rejected:
                reject_records(connection, self._space, answer.rejected)
        finally:
            self._free.put(connection)
        return written
