"""Keep Python and the C library from holding, and looking through, much more memory than a stream of rows needs."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Objects that are made, and not given back, between two collections. Python's own 700 is for programs that make few.
_BETWEEN: Final = 50_000
#: glibc's number for the most arenas, and how many there may be.
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


@contextmanager
def streaming() -> Iterator[None]:
    """Make the process fit for tens of requests and thousands of rows that come and go all the time.

    Python collects garbage seldom, and leaves out what was there before: the rows form no cycles, and to look through
    them took an eighth of the CPU time. glibc, once told, keeps to few arenas for as long as the process lives: each
    thread that asks for memory may otherwise get one of its own, which keeps what was freed in it; that added up to a
    hundred megabytes.

    Source: mallopt(3), M_ARENA_MAX.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
    first, *others = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(first, _BETWEEN), *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
        gc.unfreeze()
