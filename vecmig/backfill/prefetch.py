"""Run a generator in a thread, a few items ahead of whoever reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_TICK: Final = 0.1


class Prefetch(Generic[T]):
    """A context in which ``items`` runs at most ``size`` items ahead; its errors are raised where it is read.

    Whoever reads it calls ``idle`` again and again while there is nothing to read.
    """

    def __init__(self, items: Generator[T], size: int = 4, idle: Callable[[], None] = lambda: None) -> None:
        self._items = items
        self._idle = idle
        self._queue: Queue[T | _End] = Queue(size)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="vecmig-read", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._take()

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._thread.join()

    def _fill(self) -> None:
        failure: BaseException | None = None
        try:
            for item in self._items:
                self._put(item)
                if self._closed.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  # handed to the reader, whatever it is
            failure = error
        finally:
            self._items.close()
        self._put(_End(failure))

    def _put(self, item: T | _End) -> None:
        while not self._closed.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=_TICK)
                break

    def _take(self) -> Iterator[T]:
        while True:
            # with a timeout, because a wait without one would not be interrupted by Ctrl-C on every platform
            try:
                item = self._queue.get(timeout=_TICK)
            except Empty:
                self._idle()
                continue
            if not isinstance(item, _End):
                yield item
            elif item.failure is not None:
                raise item.failure
            else:
                return


@dataclass(frozen=True, slots=True)
class _End:
    """The generator has ended, and how."""

    failure: BaseException | None
